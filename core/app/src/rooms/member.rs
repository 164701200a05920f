//! A member of a room, as the others see it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stillhere::SessionId;

/// A member of a room, as the other members see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Member {
    /// Identifies the member in its room: a number below 2^53 that belongs to its session.
    pub id: u64,
    /// The user for whom the session was opened, if any.
    pub principal: Option<String>,
    /// Whether its page has no connection at present.
    #[serde(rename = "away")]
    pub is_away: bool,
    /// Since when it is away, or else connected: milliseconds since 1970.
    pub since: u64,
    /// What it says of itself.
    pub state: serde_json::Value,
}

impl Member {
    /// Decodes what the member says of itself.
    ///
    /// # Errors
    /// Returns an error if the state is not a `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.state)
    }
}

/// Returns the id of a session's member.
pub(super) fn member_id(session: &SessionId) -> u64 {
    let bytes = session.as_bytes().first_chunk().expect("an id has 16 bytes");
    (u64::from_le_bytes(*bytes) >> 11).max(1)
}

/// Returns the time as [`Member::since`] counts it.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
