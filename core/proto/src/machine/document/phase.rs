//! The phases of a document. Each owns the state that has a meaning in it alone.

use std::time::Instant;

use super::attempt::{Attempt, Step};
use super::connected::Connected;

/// The phase of a document, as the application sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentPhase {
    /// The document has not started.
    Idle,
    /// The transport is opening a connection.
    Connecting,
    /// The document waits for the answer to its hello.
    Hello,
    /// The document has confirmed an offer and waits for the welcome.
    Offered,
    /// The server has welcomed the document on the current connection.
    Connected,
    /// The document waits before its next attempt.
    Waiting,
    /// The page was hidden for longer than the server keeps the session. It does nothing until it
    /// is shown.
    Resting,
    /// The page went away. It does nothing until it returns.
    Left,
    /// The session has ended, or the server refused it for good.
    Over,
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    Attempting(Attempt),
    Connected(Connected),
    Waiting(Wait),
    Left(Option<Leaving>),
    Over(Option<Leaving>),
}

/// The time between two attempts.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) retry_at: Instant,
    /// The server asked for this wait, so waking the page does not cut it short.
    pub(super) is_later: bool,
    /// The page stays hidden for so long that it does not try again until it is shown.
    pub(super) is_resting: bool,
}

/// A connection that is closed as soon as `leave` is written on it.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) connection: u64,
    pub(super) code: u64,
}

impl Phase {
    pub(super) fn public(&self) -> DocumentPhase {
        match self {
            Self::Idle => DocumentPhase::Idle,
            Self::Attempting(attempt) => match attempt.step {
                Step::Opening => DocumentPhase::Connecting,
                Step::Hello => DocumentPhase::Hello,
                Step::Offered => DocumentPhase::Offered,
            },
            Self::Connected(_) => DocumentPhase::Connected,
            Self::Waiting(wait) if wait.is_resting => DocumentPhase::Resting,
            Self::Waiting(_) => DocumentPhase::Waiting,
            Self::Left(_) => DocumentPhase::Left,
            Self::Over(_) => DocumentPhase::Over,
        }
    }

    /// Returns the number of the connection in use.
    pub(super) fn connection(&self) -> Option<u64> {
        match self {
            Self::Idle | Self::Waiting(_) => None,
            Self::Attempting(attempt) => Some(attempt.connection),
            Self::Connected(connected) => Some(connected.connection),
            Self::Left(leaving) | Self::Over(leaving) => leaving.as_ref().map(|leaving| leaving.connection),
        }
    }
}
