//! What a document asks of its transport, and what it reports to its application.

use std::time::{Duration, Instant};

/// An instruction to the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection and call it by this number.
    Connect(u64),
    /// Close the connection of the first number with the code of the second.
    Close(u64, u64),
}

/// What a welcome means for this document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// This is the first document of the session.
    Opened,
    /// This document continues where it was.
    Resumed,
    /// The session existed before, and this document has taken it over.
    Restored,
}

/// A change that the application may want to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DocumentEvent {
    /// The server has welcomed the document.
    Welcomed {
        /// What the welcome means.
        outcome: Outcome,
        /// Number of this document within the session, from 1.
        incarnation: u64,
    },
    /// The connection is lost.
    Disconnected {
        /// Close code of the connection; 1006 if it ended without one.
        code: u64,
        /// Time of the next attempt; `None` if the page is hidden and waits to be shown.
        retry_at: Option<Instant>,
    },
    /// The server refused the connection: for good if the class of the code is
    /// [`Class::Never`](crate::code::Class::Never).
    Refused {
        /// Close code of the refusal.
        code: u64,
        /// Explanation for a person.
        text: String,
        /// Time of the next attempt; `None` if there is none, or if the page waits to be shown.
        retry_at: Option<Instant>,
    },
    /// The session has ended.
    Ended {
        /// Close code of the end.
        code: u64,
        /// Number of the [`EndReason`](crate::code::EndReason).
        reason: u64,
        /// Time to wait before asking for a new session.
        retry_after: Duration,
        /// Explanation for a person.
        text: String,
        /// Number of messages that the server did not acknowledge.
        unacknowledged: usize,
    },
    /// The server answered a [`DocumentMachine::ping`](super::DocumentMachine::ping).
    Pong {
        /// Number that the ping returned.
        nonce: u64,
        /// Time from writing the ping to reading the pong.
        round_trip: Duration,
    },
}
