//! Orders that handles give to a connection.

use tokio::time::Instant;

use super::ending::Ending;

/// Orders for one connection.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) mode: Mode,
    /// How many more bytes a direction may pass; taken by its pump.
    pub(super) allowance: [Option<u64>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Passing,
    /// Passes bytes again from this time on.
    Stalled(Instant),
    Silent,
    BlackHole,
    Cut,
    Reset,
    Closed,
}

impl Mode {
    /// Returns how the orders end the connection, if they do.
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
