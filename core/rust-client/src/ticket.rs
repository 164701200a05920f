//! Tickets: what a page needs to connect to its session (PROTOCOL.md, section 14).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use stillhere_proto::wire::SUBPROTOCOL;
use stillhere_proto::{Limits, Secret};

/// Access to one session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ticket {
    /// URL of the session: absolute, or relative to the page that the ticket is from.
    pub url: String,
    /// The session's public id.
    pub id: String,
    /// The session's secret. Anyone who knows it has access to the session.
    pub secret: Secret,
    /// Size limits of the session. `outbox` is a setting of the client and has its default value
    /// here.
    pub limits: Limits,
    /// The label under which a page keeps the session across reloads.
    pub restore: Option<String>,
}

/// Why there is no usable ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The text is not a ticket of this protocol version.
    #[error("this is not a ticket for {SUBPROTOCOL}")]
    Invalid,
    /// The page contains no ticket.
    #[error("the page has no data-stillhere attribute")]
    Missing,
    /// The page was rendered without a server, so it has no session.
    #[error("the page was rendered without a server, so it has no session")]
    NoServer,
    /// The server had no room for the session.
    #[error("the server refused to open a session, with close code {code}: {text}")]
    Refused {
        /// A close code of the class *later*.
        code: u64,
        /// How long to wait before asking for another ticket.
        retry_after: Duration,
        /// One line of explanation for a person.
        text: String,
    },
}

#[derive(Deserialize)]
struct Json {
    protocol: String,
    url: Option<String>,
    id: Option<String>,
    secret: Option<String>,
    limits: Option<JsonLimits>,
    restore: Option<String>,
    connection: Option<String>,
    refused: Option<JsonRefusal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonLimits {
    fragment: u64,
    message: u64,
    inflated: u64,
    window: u64,
    bulk_window: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonRefusal {
    code: u64,
    retry_after: u64,
    text: String,
}

impl Ticket {
    /// Reads a ticket from its JSON.
    ///
    /// # Errors
    /// Returns a [`TicketError`] if the text is not a ticket, or if the ticket holds no session.
    pub fn parse(json: &str) -> Result<Self, TicketError> {
        let json: Json = serde_json::from_str(json).map_err(|_| TicketError::Invalid)?;
        if json.protocol != SUBPROTOCOL {
            return Err(TicketError::Invalid);
        }
        if let Some(JsonRefusal {
            code,
            retry_after,
            text,
        }) = json.refused
        {
            let retry_after = Duration::from_millis(retry_after);
            return Err(TicketError::Refused {
                code,
                retry_after,
                text,
            });
        }
        if json.connection.as_deref() == Some("none") {
            return Err(TicketError::NoServer);
        }
        json.open().ok_or(TicketError::Invalid)
    }

    /// Returns the path of [`Ticket::url`].
    pub fn path(&self) -> &str {
        match self.url.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => &self.url,
        }
    }

    /// Finds the first ticket in a page: in the `data-stillhere` attribute of an element, or the
    /// whole text if it is JSON.
    ///
    /// # Errors
    /// Returns the errors of [`Ticket::parse`], or [`TicketError::Missing`] if there is no ticket.
    pub fn find_in(page: &str) -> Result<Self, TicketError> {
        if page.trim_start().starts_with('{') {
            return Self::parse(page);
        }
        let (_, rest) = page.split_once("data-stillhere=").ok_or(TicketError::Missing)?;
        let quote = rest.chars().next().filter(|first| ['"', '\''].contains(first));
        let quote = quote.ok_or(TicketError::Invalid)?;
        let (value, _) = rest[1..].split_once(quote).ok_or(TicketError::Invalid)?;
        Self::parse(&unescaped(value))
    }
}

impl Json {
    fn open(self) -> Option<Ticket> {
        let mut secret = [0; 32];
        let length = URL_SAFE_NO_PAD.decode_slice(self.secret?, &mut secret).ok()?;
        let limits = self.limits?;
        let is_valid = length == secret.len() && limits.fragment > 0;
        is_valid.then_some(Ticket {
            url: self.url?,
            id: self.id?,
            secret: Secret::from_bytes(secret),
            limits: Limits {
                fragment: limits.fragment,
                message: limits.message,
                inflated: limits.inflated,
                window: limits.window,
                bulk_window: limits.bulk_window,
                ..Limits::default()
            },
            restore: self.restore,
        })
    }
}

/// Decodes the character references that servers write into an HTML attribute.
fn unescaped(value: &str) -> String {
    let references = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ];
    let text = references
        .iter()
        .fold(value.to_owned(), |text, (reference, character)| {
            text.replace(reference, character)
        });
    // This comes last, so that it creates no new references.
    text.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = r#"{"protocol":"stillhere.v1","url":"/stillhere/AAECAwQFBgcICQoLDA0ODw","id":"AAECAwQFBgcICQoLDA0ODw","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","limits":{"fragment":65536,"message":1048576,"inflated":8388608,"window":1048576,"bulkWindow":262400},"other":1}"#;

    #[test]
    fn a_ticket_is_found_in_a_page_and_in_json() {
        let attribute = OPEN.replace('"', "&quot;");
        let page = format!("<p>Hello<script src=\"/stillhere/client.js\" data-stillhere=\"{attribute}\"></script>");
        for source in [&page, OPEN] {
            let ticket = Ticket::find_in(source).expect("there is a ticket");
            assert_eq!(ticket.id, "AAECAwQFBgcICQoLDA0ODw");
            assert_eq!(ticket.limits, Limits::default());
        }
    }

    #[test]
    fn an_invalid_ticket_reports_the_reason() {
        let refused = r#"{"protocol":"stillhere.v1","refused":{"code":4201,"retryAfter":5000,"text":"full"}}"#;
        let refusal = TicketError::Refused {
            code: 4201,
            retry_after: Duration::from_secs(5),
            text: "full".to_owned(),
        };
        for (source, expected) in [
            ("", TicketError::Missing),
            ("<p>no script</p>", TicketError::Missing),
            ("<script data-stillhere></script>", TicketError::Missing),
            ("<script data-stillhere=x></script>", TicketError::Invalid),
            ("<script data-stillhere=\"{", TicketError::Invalid),
            ("{}", TicketError::Invalid),
            (&OPEN.replace("stillhere.v1", "stillhere.v2"), TicketError::Invalid),
            (&OPEN.replace("\"AAAAA", "\"AA"), TicketError::Invalid),
            (
                &OPEN.replace("\"fragment\":65536", "\"fragment\":0"),
                TicketError::Invalid,
            ),
            (
                r#"{"protocol":"stillhere.v1","connection":"none"}"#,
                TicketError::NoServer,
            ),
            (refused, refusal),
        ] {
            assert_eq!(Ticket::find_in(source).err(), Some(expected), "{source}");
        }
    }

    #[test]
    fn a_reference_in_a_text_stays_as_it_was_written() {
        assert_eq!(unescaped("&amp;quot; &quot;&#39;&lt;&gt;"), "&quot; \"'<>");
    }
}
