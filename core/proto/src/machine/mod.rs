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
//! Most applications never touch this module: `stillhere::Session` and the adapters are built on it.

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
pub use plain::PlainDocument;
pub use session::{Cause, ConnectionKey, Event, Phase, SessionMachine, Timing};

use crate::code::{Code, EndReason};
use crate::wire::DecodeError;

/// How a peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Bytes that are no frame, or a frame that may not come here.
    Malformed,
    /// A compressed message where none is taken.
    Compressed,
    /// A message above the session's limit.
    TooLarge,
    /// More than the credit that was granted.
    Flood,
    /// A sequence was skipped: ends the connection, not the session.
    Gap,
    /// What was written before a ping has not come when its pong is written: as a gap.
    Loss,
}

impl Violation {
    /// The code of the close that answers it.
    pub const fn code(self) -> Code {
        match self {
            Self::Malformed | Self::Compressed => Code::Malformed,
            Self::TooLarge => Code::TooLarge,
            Self::Flood => Code::Flood,
            Self::Gap | Self::Loss => Code::Gap,
        }
    }

    /// Why a session ends by it.
    pub const fn reason(self) -> EndReason {
        match self {
            Self::Malformed | Self::Compressed | Self::Gap | Self::Loss => EndReason::Malformed,
            Self::TooLarge => EndReason::TooLarge,
            Self::Flood => EndReason::Flood,
        }
    }

    /// What the peer is told, if that is more than the reason.
    pub const fn text(self) -> Option<&'static str> {
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
