//! How a session stands.

use std::time::{Duration, Instant};

use stillhere_proto::machine::{DocumentEvent, Outcome};

/// How a client's session stands. The codes and reasons are those of PROTOCOL.md, section 11.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The server has not welcomed the client yet.
    Connecting(Attempt),
    /// Messages flow.
    Connected {
        /// What the server said at the last welcome: whether it knew this client or this session.
        outcome: Outcome,
        /// The kind of connection: `websocket`, `streamed`, `polled`, or that of another connector.
        kind: &'static str,
    },
    /// The connection was lost. The client resumes the session as soon as it can.
    Reconnecting(Attempt),
    /// The server does not accept this ticket.
    Refused {
        /// The close code.
        code: u64,
        /// One line for a person; may be empty.
        text: String,
    },
    /// The session is over.
    Ended {
        /// The close code.
        code: u64,
        /// The number of the reason.
        reason: u64,
        /// When a new session may be had.
        retry_after: Duration,
        /// One line for a person; may be empty.
        text: String,
        /// Number of messages that the server did not acknowledge.
        unacknowledged: usize,
    },
    /// The client was closed by this program.
    Closed {
        /// Number of messages that the server did not acknowledge.
        unacknowledged: usize,
    },
}

/// Why there is no connection, and when the next one is tried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Attempt {
    /// The close code of the last connection: 1006 if it was lost without one, 0 if there was none.
    pub code: u64,
    /// One line for a person; may be empty.
    pub text: String,
    /// When the next connection is tried.
    pub retry_at: Option<Instant>,
}

impl Status {
    /// Returns true while messages flow.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Returns true once nothing more will happen: the session is refused, ended or closed.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Ended { .. } | Self::Closed { .. })
    }

    /// Returns the status after an event, if the event changes it. `kind` is that of the connection
    /// in use, and `hindrance` what the last attempt met.
    pub(crate) fn after(&self, event: &DocumentEvent, kind: &'static str, hindrance: &str) -> Option<Self> {
        let waiting = |code: u64, text: &str, retry_at| {
            let text = if text.is_empty() { hindrance } else { text }.to_owned();
            self.without_connection(Attempt { code, text, retry_at })
        };
        Some(match event.clone() {
            DocumentEvent::Pong { .. } => return None,
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
        })
    }

    fn without_connection(&self, attempt: Attempt) -> Self {
        match self {
            Self::Connecting(_) => Self::Connecting(attempt),
            _ => Self::Reconnecting(attempt),
        }
    }
}
