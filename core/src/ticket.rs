//! Tickets: what a page needs to reach its session (PROTOCOL.md, section 14).

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use stillhere_proto::Limits;
use stillhere_proto::code::Code;
use stillhere_proto::wire::{SUBPROTOCOL, millis};
use stillhere_proto::{Secret, SessionId};

/// Access to a session, for its page: the public id, the secret, the limits and the kind of
/// connection. Serialize it as JSON for `connect(ticket)`.
///
/// A ticket is as powerful as a password for the session. `Debug` and `Display` do not show the
/// secret.
#[derive(Clone, Serialize)]
pub struct Ticket {
    protocol: &'static str,
    #[serde(flatten)]
    content: Content,
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Content {
    Access {
        url: String,
        id: String,
        secret: String,
        limits: Limits,
        #[serde(skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        restore: Option<String>,
    },
    Refused {
        refused: Refusal,
    },
    WithoutServer {
        connection: &'static str,
    },
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    code: u16,
    retry_after: u64,
    text: String,
}

impl Ticket {
    /// Creates the ticket of a page that has neither a server nor a session; see
    /// [`static_script_tag`](crate::static_script_tag).
    pub fn without_server() -> Self {
        Self {
            protocol: SUBPROTOCOL,
            content: Content::WithoutServer { connection: "none" },
        }
    }

    /// Creates the ticket of the session at `url`.
    pub(crate) fn access(
        url: String,
        id: &SessionId,
        secret: &Secret,
        limits: Limits,
        restore: Option<String>,
    ) -> Self {
        let content = Content::Access {
            url,
            id: id.to_string(),
            secret: secret.encode(),
            limits,
            connection: None,
            restore,
        };
        Self {
            protocol: SUBPROTOCOL,
            content,
        }
    }

    /// Tells the page to use the kind of connection with this name.
    pub(crate) fn with_connection(mut self, name: Option<&str>) -> Self {
        if let Content::Access { connection, .. } = &mut self.content {
            *connection = name.map(str::to_owned);
        }
        self
    }

    pub(crate) fn refused(code: Code, retry_after: Duration, text: String) -> Self {
        let refused = Refusal {
            code: code as u16,
            retry_after: millis(retry_after),
            text,
        };
        Self {
            protocol: SUBPROTOCOL,
            content: Content::Refused { refused },
        }
    }

    /// Returns the JSON that the client reads. It is safe inside a script element: no character in
    /// it can end the element, or a string in it.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string(self).expect("a ticket is plain strings and numbers");
        let mut safe = String::with_capacity(json.len());
        for character in json.chars() {
            match character {
                // These occur only within strings, where JSON allows the escaped form.
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    write!(safe, "\\u{:04x}", u32::from(character)).expect("writing to a string succeeds");
                }
                other => safe.push(other),
            }
        }
        safe
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Access { id, .. } => write!(f, "Ticket({id})"),
            Content::Refused { refused } => write!(f, "Ticket(refused: {})", refused.text),
            Content::WithoutServer { .. } => f.write_str("Ticket(without a server)"),
        }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_json_can_end_no_script_element_and_no_string_and_says_the_same() {
        let label = "</script><!--<script>&amp;\u{2028}\u{2029}\"\\\u{1F980}";
        let (id, secret) = (SessionId::from_bytes([1; 16]), Secret::from_bytes([2; 32]));
        let ticket = Ticket::access(
            label.to_owned(),
            &id,
            &secret,
            Limits::default(),
            Some(label.to_owned()),
        );
        let refused = Ticket::refused(Code::Full, Duration::ZERO, label.to_owned());
        for json in [ticket.to_json(), refused.to_json()] {
            assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{json}");
        }
        let read: serde_json::Value = serde_json::from_str(&ticket.to_json()).expect("it is JSON");
        assert_eq!(
            (read["restore"].as_str(), read["url"].as_str()),
            (Some(label), Some(label))
        );
    }
}
