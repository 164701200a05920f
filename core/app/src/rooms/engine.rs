//! Carries what happens in rooms to every server that has members in them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::member::Member;
use super::replica::Replica;

/// Something that happens in a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Happening {
    /// A session has joined.
    Joined(Member),
    /// A member has left.
    Left {
        /// The member.
        id: u64,
        /// Why.
        why: Departure,
    },
    /// A member's page has lost its connection, or has one again.
    Away {
        /// The member.
        id: u64,
        /// Whether the page has no connection.
        is_away: bool,
        /// When it happened, in milliseconds since 1970.
        since: u64,
    },
    /// A member says something else of itself.
    State {
        /// The member.
        id: u64,
        /// What it says.
        state: serde_json::Value,
        /// The number of this state among those that the member's page has set, if it has set it.
        number: Option<u64>,
    },
    /// An event for the pages of the members.
    Event {
        /// The unit that each page gets.
        unit: Vec<u8>,
        /// The member that does not get it.
        except: Option<u64>,
    },
}

/// Why a session is no longer a member of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Departure {
    /// The [`Membership`](super::Membership) was dropped, or the page has left.
    Left,
    /// Its outbox was full, and the room's [`Lag`](super::Lag) is [`End`](super::Lag::End).
    Lagged,
    /// The session has ended.
    Ended,
}

/// Carries what happens in rooms to every server that has members in them.
pub trait RoomEngine: Send + Sync + 'static {
    /// Has [`Replica::apply`] called for this room on every server, this one included. Every server
    /// must apply what happens in a room in the same order. Must not block.
    fn publish(&self, room: &Arc<Replica>, happening: Happening);
}

/// Rooms of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

impl RoomEngine for InProcess {
    fn publish(&self, room: &Arc<Replica>, happening: Happening) {
        room.apply(happening);
    }
}
