//! The sizes both sides agree on.

use serde::Serialize;

/// Bytes that every data frame is charged beside its payload, so that empty messages are not free.
pub const FRAME_CHARGE: u64 = 64;

/// What bounds one session. Fixed when the session is opened; the client learns them from the ticket and the welcome.
///
/// All sizes are bytes; windows and the outbox count *charge*: payload bytes plus [`FRAME_CHARGE`] for each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The payload of every fragment that is not the last of its message. Default 64 KiB.
    pub fragment: u64,
    /// The most wire bytes (after compression) of a message, in either direction. Default 1 MiB.
    pub message: u64,
    /// The most bytes a compressed message may inflate to. Default 8 MiB.
    pub inflated: u64,
    /// Charge that may be on its way or unread on the interactive lane. Default 1 MiB.
    pub window: u64,
    /// The same for the bulk lane, so also what a click may have to wait behind. Default 256 KiB: four full fragments.
    pub bulk_window: u64,
    /// Charge that may wait unacknowledged in each lane of the outbox. Default 4 MiB. A single larger message is admitted into an empty lane.
    #[serde(skip)]
    pub outbox: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let fragment = 64 * 1024;
        Self {
            fragment,
            message: 1024 * 1024,
            inflated: 8 * 1024 * 1024,
            window: 1024 * 1024,
            bulk_window: 4 * (fragment + FRAME_CHARGE),
            outbox: 4 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// The same limits brought back to sense: windows that could not hold four full fragments, which the protocol needs, are raised, and what a
    /// number on the wire could not hold is lowered to 1 TiB.
    pub fn normalised(mut self) -> Self {
        self.fragment = self.fragment.clamp(1, MOST / 1024);
        let least = 4 * (self.fragment + FRAME_CHARGE);
        self.window = self.window.clamp(least, MOST);
        self.bulk_window = self.bulk_window.clamp(least, MOST);
        for limit in [&mut self.message, &mut self.inflated, &mut self.outbox] {
            *limit = (*limit).min(MOST);
        }
        self
    }

    /// What a message of `size` wire bytes costs in an outbox.
    pub fn charge(&self, size: usize) -> u64 {
        let size = size as u64;
        size + size.div_ceil(self.fragment).max(1) * FRAME_CHARGE
    }
}

/// No limit is above this, so that sums of charges stay far below 2^53.
const MOST: u64 = 1 << 40;
