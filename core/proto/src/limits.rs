//! Size limits that both sides of a session share.

use serde::Serialize;

/// Bytes charged for every data frame in addition to its payload, so that empty messages are not
/// free.
pub const FRAME_CHARGE: u64 = 64;

/// Size limits of one session, in bytes. They are fixed when the session is opened; the client
/// learns them from the ticket and the welcome.
///
/// The windows and the outbox limit count *charge*: the bytes of the payload plus [`FRAME_CHARGE`]
/// for each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Payload of every fragment except the last of its message. Default 64 KiB.
    pub fragment: u64,
    /// Largest message on the wire, after compression, in either direction. Default 1 MiB.
    pub message: u64,
    /// Largest size to which a compressed message may inflate. Default 8 MiB.
    pub inflated: u64,
    /// Charge that may be in transit or unread on the interactive lane. Default 1 MiB.
    pub window: u64,
    /// Charge that may be in transit or unread on the bulk lane. An interactive message waits
    /// behind at most this much. Default 256 KiB of payload: four full fragments.
    pub bulk_window: u64,
    /// Charge that may wait for acknowledgement in each lane of the outbox. Default 4 MiB. An empty
    /// lane accepts one larger message.
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
    /// Returns the limits, clamped to valid values. The protocol needs windows of at least four
    /// full fragments; no limit may exceed 1 TiB.
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

    /// Returns the charge of a message of `size` bytes on the wire.
    pub fn charge(&self, size: usize) -> u64 {
        let size = size as u64;
        size + size.div_ceil(self.fragment).max(1) * FRAME_CHARGE
    }
}

/// Largest value of any limit, so that sums of charges stay well below 2^53.
const MOST: u64 = 1 << 40;
