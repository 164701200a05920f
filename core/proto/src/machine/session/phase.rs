//! The values that describe a session: its phases, its events, its timing.

use std::fmt;
use std::time::Duration;

use crate::code::EndReason;

/// The waits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A ping goes out when nothing was received for this long (with jitter, never longer). Twice as long without an answer is silence. Default 15 s.
    pub heartbeat: Duration,
    /// How long an incumbent may take to answer before its session is offered to a newcomer; `None` offers at once. Default 2 s.
    pub probe: Option<Duration>,
    /// How long a connection may take to say hello, and to confirm an offer. Default 10 s.
    pub hello: Duration,
    /// How long an ending session waits for its last messages to be acknowledged while it has a connection. Default 10 s.
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

/// Tells the connections of one session apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u64);

/// Where a session is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Opened; no browser has come yet.
    Unconnected,
    /// A connection carries it.
    Open,
    /// The connection is gone, the session waits.
    SoftClosed(Cause),
    /// Its last messages are on their way.
    Ending(EndReason),
    /// Over.
    Closed(EndReason),
}

/// Why a session lost its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The transport ended.
    Lost,
    /// The page said that it goes away.
    Left,
    /// Two heartbeats passed without a sign of life.
    Silent,
    /// A sequence was skipped, or a pong showed that something was lost on the way.
    Gap,
    /// The application asked for it.
    Asked,
}

/// What the cause is called in a log line.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the connection was lost",
            Self::Left => "the page went away",
            Self::Silent => "the browser fell silent",
            Self::Gap => "a frame was missing",
            Self::Asked => "the application asked for it",
        })
    }
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Its first document connected.
    Opened,
    /// Its connection is gone.
    SoftClosed(Cause),
    /// Its document is back.
    Resumed {
        /// How long it was without a connection; zero for a takeover.
        gap: Duration,
        /// Messages that were sent to the browser and had not been acknowledged.
        replayed: usize,
    },
    /// Another document has taken it over.
    Restored {
        /// The new document's number.
        incarnation: u64,
    },
    /// It is over.
    Ended(EndReason),
}
