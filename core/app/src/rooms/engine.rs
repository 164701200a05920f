//! Carries what happens in rooms to every server that has members in them.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::member::Member;
use super::replica::Replica;

/// Something that happens in a room. All but an event can be serialized.
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
    /// An event for the pages of the members. It has no place in a serialized form: an engine
    /// sends its unit as bytes.
    #[serde(skip)]
    Event {
        /// The unit that each page gets.
        unit: Bytes,
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
    /// The server that has its session is out of reach, or has died. If it was out of reach only,
    /// the member joins again once it is back.
    Lost,
}

/// A server among those that share rooms. Each start of a server has an id of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ServerId(pub u64);

/// Why something is not going to happen in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It has more bytes than can be sent to the other servers.
    #[error("it has {size} bytes, and {max} can be sent to the other servers")]
    TooLarge {
        /// Bytes that it has.
        size: usize,
        /// Most bytes that can be sent.
        max: usize,
    },
    /// Too much waits to be sent to the other servers, because the connection to them is slow or
    /// lost.
    #[error("too much waits to be sent to the other servers")]
    Busy,
}

/// Carries what happens in rooms to every server that has members in them.
pub trait RoomEngine: Send + Sync + 'static {
    /// Returns the id of this server.
    fn server(&self) -> ServerId {
        ServerId::default()
    }

    /// Called when this server begins to use the room of this name. What it returns is dropped when
    /// the server uses the room no more. The replica does not exist yet, so the engine can upgrade
    /// `room` only later. Must not block.
    fn open(&self, room: &Weak<Replica>, name: &str) -> Box<dyn RoomLink>;
}

/// Carries what happens in one room to every server that has members in it.
pub trait RoomLink: Send + Sync + 'static {
    /// Has [`Replica::apply_from`] called for this room on every server, this one included. Every
    /// server must apply what happens in a room in the same order. Must not block.
    ///
    /// # Errors
    /// May refuse members, states and events with a [`PublishError`]. Must accept that a member
    /// leaves or is away.
    fn publish(&self, room: &Arc<Replica>, happening: Happening) -> Result<(), PublishError>;
}

/// Rooms of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

impl RoomEngine for InProcess {
    fn open(&self, _: &Weak<Replica>, _: &str) -> Box<dyn RoomLink> {
        Box::new(Self)
    }
}

impl RoomLink for InProcess {
    fn publish(&self, room: &Arc<Replica>, happening: Happening) -> Result<(), PublishError> {
        room.apply(happening);
        Ok(())
    }
}
