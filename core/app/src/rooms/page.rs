//! What a page asks of its rooms.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use super::engine::Happening;
use super::membership::Seated;
use super::room::{JoinError, Room, state_of};
use super::wire::{Action, Out, Reason, room_unit};
use crate::handle::SessionHandle;
use crate::trouble::Trouble;
use crate::value::Value;

/// What a member's page may do in a room by itself. By default nothing: it sees the members and
/// gets the events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageRights {
    events: HashSet<Box<str>>,
    state: bool,
}

impl PageRights {
    /// Lets the page send events of this name to the other members, with any value.
    #[must_use]
    pub fn event(mut self, name: &str) -> Self {
        self.events.insert(name.into());
        self
    }

    /// Lets the page change what the member says of itself.
    #[must_use]
    pub fn state(mut self) -> Self {
        self.state = true;
        self
    }
}

/// Returns what a page may do in the room of this name, or `None` if it may not join.
pub(crate) type Admits = Box<dyn Fn(&str) -> Option<PageRights> + Send + Sync>;

/// Decides which rooms a page may join by itself.
pub(crate) struct Door {
    pub(crate) admits: Admits,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    /// Returns the room, and the page's rights in it, if the page may join.
    fn open(&self, session: &SessionHandle, name: &str) -> Result<(Room, PageRights), String> {
        let admitted = catch_unwind(AssertUnwindSafe(|| (self.admits)(name)));
        let Ok(Some(rights)) = admitted else {
            return Err("the page may not join this room".into());
        };
        let room = session.room(name).map_err(|error| error.to_string())?;
        Ok((room, rights))
    }
}

/// Handles what the page says about a room. Returns a unit to answer with.
pub(crate) fn receive(session: &SessionHandle, room: &str, action: Action, value: &Value) -> Option<Vec<u8>> {
    let seated = session.shared.lock().rooms.get(room).cloned();
    match (action, seated) {
        (Action::Join, Some(seated)) => {
            seated.ask();
            None
        }
        (Action::Join, None) => join(session, room, value).err(),
        (Action::State, Some(seated)) => {
            let SetState { number, version, state } = value.decode().ok()?;
            if !seated.replica.counts_state(seated.id, version, number) {
                return None;
            }
            let state = state_of(&seated.replica, &state).ok().filter(|_| seated.rights.state);
            if state.is_none_or(|state| seated.set_state(state, Some(number)).is_err()) {
                seated.replica.refuse_state(seated.id, number);
            }
            None
        }
        (Action::Leave, Some(seated)) => {
            seated.leave(&session.shared);
            None
        }
        _ => None,
    }
}

/// What the page says of its member.
#[derive(Deserialize)]
struct SetState {
    /// Counts the states that this document has set, from 1.
    number: u64,
    /// The version of the list of members that the page has, or 0.
    #[serde(default)]
    version: u64,
    state: serde_json::Value,
}

fn join(session: &SessionHandle, name: &str, value: &Value) -> Result<(), Vec<u8>> {
    let (door, may_join) = {
        let mut state = session.shared.lock();
        (state.door.clone(), state.joins.take())
    };
    if !may_join {
        return Err(refusal(session, name, "the page joins rooms too often"));
    }
    let opened = door.map_or_else(
        || Err("pages may not join rooms".to_owned()),
        |door| door.open(session, name),
    );
    let joined = opened.and_then(|(room, rights)| {
        let state: serde_json::Value = value.decode().map_err(|error| error.to_string())?;
        let state = state_of(&room.replica, &state).map_err(|error| error.to_string())?;
        let seated = Seated::new(&room.replica, session, state, rights);
        seated.map(drop).map_err(|error: JoinError| error.to_string())
    });
    joined.map_err(|text| refusal(session, name, &text))
}

/// How often a page may still join: 128 times at once and then twice a second, because each time
/// costs as much as the room has members.
pub(crate) struct JoinBudget {
    left: u32,
    since: Instant,
}

impl Default for JoinBudget {
    fn default() -> Self {
        Self {
            left: MOST_JOINS,
            since: Instant::now(),
        }
    }
}

impl JoinBudget {
    /// Returns false if the page may not join now.
    fn take(&mut self) -> bool {
        let elapsed = self.since.elapsed();
        let earned = u32::try_from(elapsed.as_millis() / JOIN_INTERVAL.as_millis()).unwrap_or(MOST_JOINS);
        if earned > 0 {
            self.since = Instant::now();
            self.left = self.left.saturating_add(earned).min(MOST_JOINS);
        }
        let may_join = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may_join
    }
}

/// Joins of a page at once, and the time until it may join once more.
const MOST_JOINS: u32 = 128;
const JOIN_INTERVAL: Duration = Duration::from_millis(500);

fn refusal(session: &SessionHandle, room: &str, text: &str) -> Vec<u8> {
    let out = Out {
        reason: Reason::Refused,
        text,
    };
    room_unit(session.shared.options.codec, room, Action::Out, &out).expect("texts can be encoded")
}

/// Relays an event of the page to the other members, if it may send it. `unit` is the whole unit.
/// Returns why it cannot be sent.
pub(crate) fn receive_event(
    session: &SessionHandle,
    room: &str,
    from: u64,
    name: &str,
    unit: &Bytes,
) -> Result<(), Trouble> {
    let seated: Option<Arc<Seated>> = session.shared.lock().rooms.get(room).cloned();
    let Some(seated) = seated.filter(|seated| seated.id == from && seated.rights.events.contains(name)) else {
        return Ok(());
    };
    let published = seated.replica.publish(Happening::Event {
        unit: unit.clone(),
        except: Some(from),
    });
    published.map_err(|error| Trouble::RoomEvent {
        name: name.to_owned(),
        error,
    })
}
