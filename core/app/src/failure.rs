//! Why a call was not answered, as it travels.

/// The code of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureCode {
    Failed = 1,
    Rejected = 2,
    Missing = 3,
    Undecodable = 4,
    Cancelled = 5,
    Busy = 6,
    Streamed = 7,
}

impl FailureCode {
    pub(crate) const ALL: [Self; 7] = [
        Self::Failed,
        Self::Rejected,
        Self::Missing,
        Self::Undecodable,
        Self::Cancelled,
        Self::Busy,
        Self::Streamed,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == byte)
    }
}

/// Returns the text, cut to 1 KiB, which is what a failure may carry.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

/// Largest text of a failure, in bytes.
pub(crate) const LONGEST_TEXT: usize = 1024;
