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
use std::fmt;
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

/// Options of all rooms of a [`Rooms`].
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
    /// The format in which members and events are sent. Default JSON.
    pub codec: Codec,
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
            codec: Codec::default(),
        }
    }
}

/// The rooms of an application, by name. It is cheap to clone.
///
/// It is not part of a [`Hub`](stillhere::Hub), which knows bytes only: an application may have
/// several, with other options or another engine, and sessions of several hubs may meet in one.
///
/// A room exists while it has a member, or a [`Room`], [`Present`] or [`RoomEvents`] is kept.
/// Sessions join with a state, and each page sees the members and gets the room's events. A
/// membership survives that the page is away.
///
/// In a room of fewer than 50 members, the pages are told of each change at once. In a larger one
/// they are told of several together, after 20 us for each member: after at most 100 ms if there
/// are 5,000, and at most 250 ms in any room. Whoever gets an event knows of all changes before it.
/// [`Present`] and [`RoomEvents`] are told of each change at once.
///
/// ```
/// use serde_json::json;
/// use stillhere_app::{PageRights, Rooms, Session};
///
/// async fn board(session: Session, rooms: Rooms) {
///     let board = rooms.room("board").expect("there are few rooms");
///     let rights = PageRights::default().event("draw").state();
///     let _membership = board.join_with(&session, &json!({}), rights);
///     session.ended().await;
/// }
/// ```
///
/// In the page, `stillhere.session.room('board')` is the same room.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
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
        Self::new()
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Rooms {
    /// Creates an empty set of rooms within this process.
    pub fn new() -> Self {
        Self::with(RoomOptions::default(), InProcess)
    }

    /// Creates an empty set of rooms with options and an engine.
    pub fn with(options: RoomOptions, engine: impl RoomEngine) -> Self {
        let inner = Inner {
            options,
            engine: Arc::new(engine),
            by_name: Mutex::default(),
        };
        Self { inner: inner.into() }
    }

    /// Returns the room of this name, and creates it if it does not exist.
    ///
    /// # Errors
    /// Returns a [`RoomError`] if the name is empty or too long, or there are too many rooms.
    pub fn room(&self, name: &str) -> Result<Room, RoomError> {
        if !(1..=255).contains(&name.len()) {
            return Err(RoomError::Name);
        }
        let Inner {
            options,
            engine,
            by_name,
        } = &*self.inner;
        let mut by_name = by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(replica) = by_name.get(name).and_then(Weak::upgrade) {
            return Ok(Room::new(replica));
        }
        if by_name.len() >= options.rooms {
            by_name.retain(|_, replica| replica.strong_count() > 0);
        }
        if by_name.len() >= options.rooms {
            return Err(RoomError::TooMany);
        }
        let replica = Replica::new(name, options.clone(), &**engine);
        by_name.insert(name.into(), Arc::downgrade(&replica));
        Ok(Room::new(replica))
    }
}
