//! The status of a session.

use std::time::{Duration, Instant};

use stillhere_proto::machine::{DocumentEvent, Outcome};

/// The status of a client's session. PROTOCOL.md, section 11, lists the codes and reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The server has not welcomed the client yet.
    Connecting(Attempt),
    /// The client is connected, and messages can flow.
    Connected {
        /// Outcome of the last welcome: whether the session was opened, resumed or restored.
        outcome: Outcome,
        /// The kind of connection: `websocket`, `streamed`, `polled`, or the name that a custom
        /// connector gives.
        kind: &'static str,
    },
    /// The connection was lost. The client resumes the session as soon as it can.
    Reconnecting(Attempt),
    /// The server refused this ticket for good.
    Refused {
        /// The close code.
        code: u64,
        /// One line of explanation for a person; may be empty.
        text: String,
    },
    /// The session has ended.
    Ended {
        /// The close code.
        code: u64,
        /// Number of the end reason.
        reason: u64,
        /// How long to wait before asking for a new session.
        retry_after: Duration,
        /// One line of explanation for a person; may be empty.
        text: String,
        /// Number of messages that the server did not acknowledge.
        unacknowledged: usize,
    },
    /// This program closed the client.
    Closed {
        /// Number of messages that the server did not acknowledge.
        unacknowledged: usize,
    },
}

/// Why there is no connection, and when the client tries again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Attempt {
    /// Close code of the last connection: 1006 if it was lost without a close, and 0 before the
    /// first connection.
    pub code: u64,
    /// One line of explanation for a person; may be empty.
    pub text: String,
    /// When the client tries again.
    pub retry_at: Option<Instant>,
}

impl Status {
    /// Returns true while the client is connected.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Returns true once the session is refused, ended or closed, so that the status is final.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Ended { .. } | Self::Closed { .. })
    }

    /// Returns the status after an event, if the event changes it. `kind` is the kind of the
    /// current connection, and `hindrance` says why the last attempt failed.
    pub(crate) fn after(&self, event: &DocumentEvent, kind: &'static str, hindrance: &str) -> Option<Self> {
        let waiting = |code: u64, text: &str, retry_at| {
            let text = if text.is_empty() { hindrance } else { text }.to_owned();
            self.without_connection(Attempt { code, text, retry_at })
        };
        Some(match event.clone() {
            DocumentEvent::Welcomed { outcome, .. } => Self::Connected { outcome, kind },
            DocumentEvent::Disconnected { code, retry_at } => waiting(code, "", retry_at),
            DocumentEvent::Refused {
                code,
                text,
                retry_at: None,
            } => Self::Refused { code, text },
            DocumentEvent::Refused { code, text, retry_at } => waiting(code, &text, retry_at),
            DocumentEvent::Ended {
                code,
                reason,
                retry_after,
                text,
                unacknowledged,
            } => Self::Ended {
                code,
                reason,
                retry_after,
                text,
                unacknowledged,
            },
            _ => return None,
        })
    }

    fn without_connection(&self, attempt: Attempt) -> Self {
        match self {
            Self::Connecting(_) => Self::Connecting(attempt),
            _ => Self::Reconnecting(attempt),
        }
    }
}
