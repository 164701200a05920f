//! What a page needs to reach its session (PROTOCOL.md section 14).

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::code::Code;
use crate::id::{Secret, SessionId};
use crate::limits::Limits;
use crate::machine::millis;
use crate::wire::SUBPROTOCOL;

/// A page's access to its session: the public id, the secret, the limits. Serialize it as JSON for `connect(ticket)`.
///
/// It is as good as a password for that session. `Debug` and `Display` do not show the secret.
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
        restore: Option<String>,
    },
    Refused {
        refused: Refusal,
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
    pub(crate) fn access(base: &str, id: &SessionId, secret: &Secret, limits: Limits, restore: Option<String>) -> Self {
        let url = format!("{base}/{id}");
        let content = Content::Access {
            url,
            id: id.to_string(),
            secret: secret.encode(),
            limits,
            restore,
        };
        Self {
            protocol: SUBPROTOCOL,
            content,
        }
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

    /// The JSON that the client takes.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a ticket is plain strings and numbers")
    }

    /// The JSON, escaped for a quoted HTML attribute.
    pub(crate) fn to_attribute(&self) -> String {
        let mut out = String::new();
        for character in self.to_json().chars() {
            match character {
                '&' => out.push_str("&amp;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                other => out.push(other),
            }
        }
        out
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Access { id, .. } => write!(f, "Ticket({id})"),
            Content::Refused { refused } => write!(f, "Ticket(refused: {})", refused.text),
        }
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
