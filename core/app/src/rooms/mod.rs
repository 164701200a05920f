//! Rooms: sessions that see each other and get the same events.

mod engine;
mod events;
mod member;
mod membership;
mod page;
mod present;
mod replica;
mod replication;
mod room;
mod roster;
mod seat;
mod seats;
mod tell;
mod untold;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub use engine::{Departure, Happening, InProcess, PublishError, RoomEngine, RoomLink, ServerId};
pub use events::{RoomEvent, RoomEvents};
pub use member::Member;
pub use membership::Membership;
pub(crate) use membership::Seated;
pub use page::PageRights;
pub(crate) use page::{Door, JoinBudget, receive, receive_event};
pub use present::Present;
pub use replica::Replica;
pub use replication::{Announced, Announcement, Snapshot};
pub use room::{JoinError, Room};
pub(crate) use wire::Action;

use crate::codec::Codec;

/// What happens to a member whose outbox is full, because its browser is slow or has been away for
/// long. Until then it misses nothing. In any case the page gets the room's members anew, and is
/// told how many events it has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Lag {
    /// Misses the oldest events that did not fit: the newest follow once there is room, as many as
    /// [`RoomOptions::kept_events`] and [`RoomOptions::kept_bytes`] allow.
    #[default]
    Newest,
    /// Misses all events until there is room.
    Skip,
    /// Is no longer a member. The page is told so, and the application with
    /// [`Departure::Lagged`].
    End,
}

/// Options of all rooms of a hub, for
/// [`HubBuilderExt::room_options`](crate::HubBuilderExt::room_options).
///
/// ```
/// use stillhere_app::{Lag, RoomOptions};
///
/// let mut options = RoomOptions::default();
/// options.lag = Lag::Skip;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomOptions {
    /// Most rooms that exist at a time. Default 10,000.
    pub rooms: usize,
    /// Most members of a room. Default 10,000.
    pub members: usize,
    /// Most bytes of a member's state, as JSON. It may nest arrays and maps 64 deep. Default 4 KiB.
    pub state: usize,
    /// What happens to a member whose outbox is full. Default [`Lag::Newest`].
    pub lag: Lag,
    /// Most events that [`Lag::Newest`] keeps for a member whose outbox is full. At least 1 is
    /// kept. Default 64.
    pub kept_events: usize,
    /// Most bytes of these events together, unless a single one is larger. Default 64 KiB.
    pub kept_bytes: usize,
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self {
            rooms: 10_000,
            members: 10_000,
            state: 4 * 1024,
            lag: Lag::default(),
            kept_events: 64,
            kept_bytes: 64 * 1024,
        }
    }
}

/// The rooms of a hub, by name.
pub(crate) struct Rooms {
    options: RoomOptions,
    engine: Arc<dyn RoomEngine>,
    by_name: Mutex<HashMap<Box<str>, Weak<Replica>>>,
}

/// Why there is no room of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The name is empty or has more than 255 bytes.
    #[error("the name of a room has 1 to 255 bytes")]
    Name,
    /// There are [`RoomOptions::rooms`] others.
    #[error("there are too many rooms")]
    TooMany,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            options: RoomOptions::default(),
            engine: Arc::new(InProcess),
            by_name: Mutex::default(),
        }
    }
}

impl Rooms {
    pub(crate) fn set_options(&mut self, options: RoomOptions) {
        self.options = options;
    }

    pub(crate) fn set_engine(&mut self, engine: impl RoomEngine) {
        self.engine = Arc::new(engine);
    }

    /// Returns the room of this name, and creates it if it does not exist. It will send members and
    /// events in this format.
    pub(crate) fn room(&self, name: &str, codec: Codec) -> Result<Room, RoomError> {
        if !(1..=255).contains(&name.len()) {
            return Err(RoomError::Name);
        }
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(replica) = by_name.get(name).and_then(Weak::upgrade) {
            return Ok(Room::new(replica));
        }
        if by_name.len() >= self.options.rooms {
            by_name.retain(|_, replica| replica.strong_count() > 0);
        }
        if by_name.len() >= self.options.rooms {
            return Err(RoomError::TooMany);
        }
        let replica = Replica::new(name, self.options.clone(), codec, &*self.engine);
        by_name.insert(name.into(), Arc::downgrade(&replica));
        Ok(Room::new(replica))
    }
}
