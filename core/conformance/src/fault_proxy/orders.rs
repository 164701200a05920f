//! What the handles want of a connection.

use tokio::time::Instant;

use super::ending::Ending;

/// What the handles want of a connection.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) mode: Mode,
    /// How many bytes a direction may still pass, until its pump has taken the order.
    pub(super) allowance: [Option<u64>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Passing,
    /// Passing again from this moment on.
    Stalled(Instant),
    Silent,
    BlackHole,
    Cut,
    Reset,
    Closed,
}

impl Mode {
    /// How it ends the connection, if it does.
    pub(super) fn ending(self) -> Option<Ending> {
        match self {
            Self::Passing | Self::Stalled(_) | Self::Silent | Self::BlackHole => None,
            Self::Cut => Some(Ending::Cut),
            Self::Reset | Self::Closed => Some(Ending::Reset),
        }
    }

    pub(super) fn is_over(self) -> bool {
        self.ending().is_some()
    }
}
