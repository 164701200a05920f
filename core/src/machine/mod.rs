//! The protocol as pure state machines: no IO, no clock, no tasks.
//!
//! [`SessionMachine`] is the server's half, [`DocumentMachine`] the browser's (the TypeScript client has its twin).
//! Both are driven alike:
//!
//! - `handle_*` takes in what happened, with the time as an argument. Times must not run backwards.
//! - `poll_transmit` gives the next frame to write on a connection, until it gives none. Data stays in the outbox until the peer
//!   has acknowledged it, so a dead connection loses nothing and a slow one needs no second queue.
//! - `poll_event` gives what the application may want to know, `poll_timeout` when to call `handle_timeout` if nothing happens first.
//!
//! Most applications never touch this module: [`Session`](crate::Session) and the adapters are built on it.

mod document;
mod inbox;
mod lanes;
mod outbox;
mod plain;
mod session;
mod tail;
#[cfg(test)]
mod tests;

pub use document::{Action, DocumentEvent, DocumentMachine, DocumentOptions, DocumentPhase, Outcome, SendRefused};
pub use inbox::Received;
pub(crate) use plain::PlainDocument;
pub use session::{Cause, ConnectionKey, Event, Phase, SessionMachine, Timing};
pub(crate) use session::{end_of_session, millis};

use crate::code::{Code, EndReason};
use crate::wire::DecodeError;

/// How a peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    Malformed,
    /// A compressed message where none is taken.
    Compressed,
    TooLarge,
    Flood,
    /// A sequence was skipped: ends the connection, not the session.
    Gap,
    /// What was written before a ping has not come when its pong is written: as a gap.
    Loss,
}

impl Violation {
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Malformed | Self::Compressed => Code::Malformed,
            Self::TooLarge => Code::TooLarge,
            Self::Flood => Code::Flood,
            Self::Gap | Self::Loss => Code::Gap,
        }
    }

    /// Why a session ends by it.
    pub(crate) const fn reason(self) -> EndReason {
        match self {
            Self::Malformed | Self::Compressed | Self::Gap | Self::Loss => EndReason::Malformed,
            Self::TooLarge => EndReason::TooLarge,
            Self::Flood => EndReason::Flood,
        }
    }

    /// What the peer is told, if that is more than the reason.
    pub(crate) const fn text(self) -> Option<&'static str> {
        match self {
            Self::Compressed => {
                Some("a compressed message: this session takes none, for its application has not chosen compression")
            }
            Self::Malformed | Self::TooLarge | Self::Flood | Self::Gap | Self::Loss => None,
        }
    }
}

impl From<DecodeError> for Violation {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// Connections in a row that may end by a gap without progress.
const GAPS_IN_A_ROW: u8 = 3;
