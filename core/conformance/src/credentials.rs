//! Reads tickets as a client does (PROTOCOL.md, section 14).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use stillhere::{Limits, Secret};

/// What a page needs to reach its session.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Address of the WebSocket, relative to the page or absolute.
    pub url: String,
    /// Public id of the session.
    pub id: String,
    /// Secret of the session.
    pub secret: Secret,
    /// Limits of the session. `outbox` is not in the ticket and has its default here.
    pub limits: Limits,
    /// Label under which a reload finds the session again.
    pub restore: Option<String>,
}

/// The hub's refusal to open a session for the page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused with {code}: {text}")]
pub struct Refused {
    /// A close code of the class *later*.
    pub code: u64,
    /// Time until the page may try again, in milliseconds.
    pub retry_after: u64,
    /// Explanation for people.
    pub text: String,
}

impl Credentials {
    /// Parses the JSON of a ticket.
    ///
    /// # Errors
    /// Returns [`Refused`] if the ticket is a refusal.
    ///
    /// # Panics
    /// Panics if the text is not a ticket.
    pub fn parse(ticket: &str) -> Result<Self, Refused> {
        let ticket: Value = serde_json::from_str(ticket).expect("a ticket is JSON");
        assert_eq!(ticket["protocol"], stillhere::wire::SUBPROTOCOL);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let number = |value: &Value| value.as_u64().expect("a number");
        if let Some(refused) = ticket.get("refused") {
            let (code, retry_after) = (number(&refused["code"]), number(&refused["retryAfter"]));
            return Err(Refused {
                code,
                retry_after,
                text: text(&refused["text"]),
            });
        }
        let mut secret = [0; 32];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text(&ticket["secret"]), &mut secret);
        assert_eq!(decoded, Ok(32), "a secret is 43 characters of base64url");
        let limits = &ticket["limits"];
        Ok(Self {
            url: text(&ticket["url"]),
            id: text(&ticket["id"]),
            secret: Secret::from_bytes(secret),
            limits: Limits {
                fragment: number(&limits["fragment"]),
                message: number(&limits["message"]),
                inflated: number(&limits["inflated"]),
                window: number(&limits["window"]),
                bulk_window: number(&limits["bulkWindow"]),
                ..Limits::default()
            },
            restore: ticket.get("restore").map(text),
        })
    }

    /// Returns the path of [`Credentials::url`].
    pub fn path(&self) -> &str {
        match self.url.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => &self.url,
        }
    }
}
