//! The protocol as pure state machines, without IO, clocks or tasks.
//!
//! [`SessionMachine`] is the server's half and [`DocumentMachine`] the browser's, which has a twin
//! in the TypeScript client. Both are driven in the same way:
//!
//! - `handle_*` takes an input, with the time as an argument. Time must not run backwards.
//! - `poll_transmit` returns the next frame to write on a connection, or `None`. Data stays in the
//!   outbox until the peer acknowledges it, so a lost connection loses no data and a slow one needs
//!   no second queue.
//! - `poll_event` returns what the application may want to know. `poll_timeout` returns when to
//!   call `handle_timeout` if no other input arrives first.
//!
//! Most applications never use this module directly: `stillhere::Session` and the adapters are
//! built on it.

mod document;
mod inbox;
mod lanes;
mod ledger;
mod outbox;
mod plain;
mod saved;
mod session;
mod tail;
#[cfg(test)]
mod tests;

pub use document::{Action, DocumentEvent, DocumentMachine, DocumentOptions, DocumentPhase, Outcome, SendRefused};
pub use inbox::Received;
pub use lanes::NextAck;
pub use ledger::{Ledger, Turns};
pub use plain::PlainDocument;
pub use saved::{Row, Saved, SavedLane, Taken};
pub use session::{Cause, ConnectionKey, Event, Phase, SessionMachine, Timing, Transmit};

use crate::code::{Code, EndReason};
use crate::wire::DecodeError;

/// How a peer violated the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The bytes are not a frame, or the frame is not allowed at this point.
    Malformed,
    /// The message is compressed, but the session does not accept compression.
    Compressed,
    /// The message exceeds a limit of the session.
    TooLarge,
    /// The peer sent more than its credit allows.
    Flood,
    /// A sequence number was skipped. This ends the connection, not the session.
    Gap,
    /// A frame that was written before a ping had not arrived when the peer answered the ping.
    /// Handled like [`Violation::Gap`].
    Loss,
}

impl Violation {
    /// Returns the close code that answers the violation.
    pub const fn code(self) -> Code {
        match self {
            Self::Malformed | Self::Compressed => Code::Malformed,
            Self::TooLarge => Code::TooLarge,
            Self::Flood => Code::Flood,
            Self::Gap | Self::Loss => Code::Gap,
        }
    }

    /// Returns the reason for which the violation ends the session.
    pub const fn reason(self) -> EndReason {
        match self {
            Self::Malformed | Self::Compressed | Self::Gap | Self::Loss => EndReason::Malformed,
            Self::TooLarge => EndReason::TooLarge,
            Self::Flood => EndReason::Flood,
        }
    }

    /// Returns the text for the peer, if the reason alone does not explain enough.
    pub const fn text(self) -> Option<&'static str> {
        match self {
            Self::Compressed => {
                Some("the message is compressed, but the application has not enabled compression for this session")
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

/// How many connections in a row may end with a gap without any progress in between.
const GAPS_IN_A_ROW: u8 = 3;
