//! What is saved of a durable session, to be opened again from.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::PerLane;

/// What is saved of a session's protocol. A session is opened again from this and from its
/// [rows](Row).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// The current document and its last attempt.
    pub document: Option<([u8; 16], u64)>,
    /// The number of the document.
    pub incarnation: u64,
    /// The number of times that the session was opened.
    pub generation: u64,
    /// What was taken.
    pub lanes: PerLane<SavedLane>,
    /// What was queued for the document.
    pub queued: PerLane<Taken>,
}

/// What is saved of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedLane {
    /// What the application has taken.
    pub taken: Taken,
    /// The most credit that may be granted to the browser.
    pub horizon: u64,
}

/// A message that the browser may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What was queued on the lane before it.
    pub before: Taken,
    /// The sequence of its last frame.
    pub last: u64,
    /// Whether the payload is a zlib stream.
    pub compressed: bool,
    /// The payload.
    pub payload: Bytes,
}

/// A place in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Taken {
    /// Sequence of the last frame before it.
    pub sequence: u64,
    /// The charge of all frames up to it.
    pub charge: u64,
}
