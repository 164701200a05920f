//! Values that describe a session: phases, events, timing.

use std::fmt;
use std::time::Duration;

use crate::code::EndReason;

/// The time limits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long to wait for a frame before sending a ping; jitter shortens it. After twice this
    /// time without any frame the connection counts as silent. Default 15 s.
    pub heartbeat: Duration,
    /// How long the current document may take to answer before its session is offered to another
    /// document. `None` offers it at once. Default 2 s.
    pub probe: Option<Duration>,
    /// How long a connection may take to send its hello, and to confirm an offer. Default 10 s.
    pub hello: Duration,
    /// How long a closing session with a connection waits until its last messages are acknowledged.
    /// Default 10 s.
    pub ending: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            probe: Some(Duration::from_secs(2)),
            hello: Duration::from_secs(10),
            ending: Duration::from_secs(10),
        }
    }
}

/// Identifies a connection among those of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u64);

/// The phase of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// No browser has connected yet.
    Unconnected,
    /// A connection carries the session.
    Open,
    /// The session has lost its connection and waits for another one.
    SoftClosed(Cause),
    /// The session is closing: its last messages are being delivered.
    Ending(EndReason),
    /// The session has ended.
    Closed(EndReason),
}

/// Why a session lost its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The transport failed or was closed.
    Lost,
    /// The page announced that it goes away.
    Left,
    /// No frame arrived for two heartbeats.
    Silent,
    /// A sequence number was skipped, or a pong showed that a frame was lost.
    Gap,
    /// The application called for a soft close.
    Asked,
}

/// Formats the cause for a log line.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the connection was lost",
            Self::Left => "the page went away",
            Self::Silent => "the browser stopped answering",
            Self::Gap => "a frame was missing",
            Self::Asked => "the application asked for it",
        })
    }
}

/// A change in the life of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The first document connected.
    Opened,
    /// The connection was lost.
    SoftClosed(Cause),
    /// The current document connected again.
    Resumed {
        /// How long the session had no connection; zero if the new connection replaced one.
        gap: Duration,
        /// Number of messages that the browser had not acknowledged, which are sent again.
        replayed: usize,
    },
    /// Another document has taken over the session.
    Restored {
        /// The number of the new document.
        incarnation: u64,
    },
    /// The session has ended.
    Ended(EndReason),
}
