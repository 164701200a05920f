//! A room, as the application uses it.

use std::sync::Arc;

use serde::Serialize;

use super::engine::{Happening, PublishError};
use super::events::RoomEvents;
use super::member::Member;
use super::membership::{Membership, Seated};
use super::page::PageRights;
use super::present::Present;
use super::replica::Replica;
use super::wire::event_unit;
use crate::codec::EncodeError;
use crate::handle::{SendError, SessionHandle};

/// A room: sends to its members, and knows who they are. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct Room {
    pub(super) replica: Arc<Replica>,
}

/// Why a session has not joined a room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The session is a member of the room already.
    #[error("the session is a member of the room already")]
    Already,
    /// The room has [`RoomOptions::members`](super::RoomOptions::members) others, or the session is
    /// in 64 rooms.
    #[error("the room has too many members, or the session is in too many rooms")]
    Full,
    /// The session is over.
    #[error("the session is over")]
    Over,
    /// The state is not JSON, has more bytes than
    /// [`RoomOptions::state`](super::RoomOptions::state), or nests arrays and maps more than 64
    /// deep.
    #[error("the state is not JSON, too large or nested too deeply")]
    State,
    /// The other servers cannot be told.
    #[error(transparent)]
    Refused(#[from] PublishError),
}

impl Room {
    pub(super) fn new(replica: Arc<Replica>) -> Self {
        Self { replica }
    }

    /// Returns the room's name.
    pub fn name(&self) -> &str {
        self.replica.name()
    }

    /// Makes a session a member, with a state for the others to see, until the [`Membership`] is
    /// dropped or the session ends. Its page may neither send to the room nor change the state.
    ///
    /// # Errors
    /// Returns a [`JoinError`] if the session is a member or over, the room is full, or the state
    /// is too large.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub fn join<T: Serialize + ?Sized>(&self, session: &SessionHandle, state: &T) -> Result<Membership, JoinError> {
        self.join_with(session, state, PageRights::default())
    }

    /// Makes a session a member as [`Room::join`] does, and gives its page rights.
    ///
    /// # Errors
    /// Returns the errors of [`Room::join`].
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub fn join_with<T: Serialize + ?Sized>(
        &self,
        session: &SessionHandle,
        state: &T,
        rights: PageRights,
    ) -> Result<Membership, JoinError> {
        let seated = Seated::new(&self.replica, session, state_of(&self.replica, state)?, rights)?;
        Ok(Membership::new(seated, session.clone()))
    }

    /// Sends an event to every member's page. It is encoded once, and no member delays the others.
    ///
    /// # Errors
    /// Returns [`SendError::Name`] unless the name has 1 to 255 bytes, [`SendError::Encode`] if the
    /// value cannot be encoded, and [`SendError::Room`] if the other servers cannot be told.
    pub fn emit<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), SendError> {
        self.emit_from(0, None, name, value)
    }

    /// Sends an event to every page but that of one member, if it is one.
    ///
    /// # Errors
    /// Returns the errors of [`Room::emit`].
    pub fn emit_except<T: Serialize + ?Sized>(&self, member: u64, name: &str, value: &T) -> Result<(), SendError> {
        self.emit_from(0, Some(member), name, value)
    }

    pub(super) fn emit_from<T: Serialize + ?Sized>(
        &self,
        from: u64,
        except: Option<u64>,
        name: &str,
        value: &T,
    ) -> Result<(), SendError> {
        let unit = event_unit(self.replica.codec, self.name(), from, name, value)??;
        let unit = unit.into();
        Ok(self.replica.publish(Happening::Event { unit, except })?)
    }

    /// Returns the members, in the order of joining.
    pub fn members(&self) -> Arc<[Member]> {
        self.replica.members()
    }

    /// Returns a watch of the members: joined, left, away, back, and what they say of themselves.
    pub fn present(&self) -> Present {
        self.replica.present()
    }

    /// Returns who joins, goes away, comes back and leaves from now on, in order, after those who
    /// are in the room already.
    ///
    /// ```
    /// use stillhere_app::{Room, RoomEvent};
    ///
    /// async fn log(board: Room) {
    ///     let mut events = board.events();
    ///     loop {
    ///         match events.next().await {
    ///             RoomEvent::Joined(member) => println!("{} joined", member.id),
    ///             RoomEvent::Left(member, why) => println!("{} left: {why:?}", member.id),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// ```
    pub fn events(&self) -> RoomEvents {
        self.replica.events()
    }
}

/// Returns a state as JSON, unless it is too large or nested too deeply.
pub(super) fn state_of<T: Serialize + ?Sized>(replica: &Replica, state: &T) -> Result<serde_json::Value, JoinError> {
    let state = serde_json::to_value(state).map_err(|_| JoinError::State)?;
    let size = serde_json::to_vec(&state).map_or(usize::MAX, |bytes| bytes.len());
    let fits = size <= replica.options.state && nests_at_most(&state, MOST_DEPTH);
    fits.then_some(state).ok_or(JoinError::State)
}

fn nests_at_most(value: &serde_json::Value, depth: usize) -> bool {
    use serde_json::Value;
    match value {
        Value::Array(values) => depth > 0 && values.iter().all(|value| nests_at_most(value, depth - 1)),
        Value::Object(values) => depth > 0 && values.values().all(|value| nests_at_most(value, depth - 1)),
        _ => true,
    }
}

/// How deep the arrays and maps of a state may nest. A receiver refuses more than 127 levels, and
/// the list of members has some of its own.
const MOST_DEPTH: usize = 64;

impl From<EncodeError> for JoinError {
    fn from(_: EncodeError) -> Self {
        Self::State
    }
}
