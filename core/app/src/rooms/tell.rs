//! Tells the pages of a room's members what has changed: at once in a small room, and in a large
//! one so rarely that it costs little.

use std::io;
use std::sync::{Arc, Weak};

use serde::Serialize;
use stillhere::Message;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use super::member::Member;
use super::replica::{Replica, State};
use super::roster::Roster;
use super::seat::{Place, Seat};
use super::untold::{UntoldChange, Wait};
use super::wire::{Action, Change, Changed, Left, Members, Told, room_unit};
use crate::codec::EncodeError;

/// A time at which the pages are to be told, and where to wait for it.
pub(super) struct Due {
    at: Instant,
    runtime: Handle,
}

impl Due {
    /// Has the pages told then. If the runtime stops before, they are told when it does.
    pub(super) fn spawn(self, replica: &Arc<Replica>) {
        let telling = Telling(Arc::downgrade(replica));
        self.runtime.spawn(async move {
            let telling = telling;
            sleep_until(self.at).await;
            drop(telling);
        });
    }
}

/// Tells the pages when it is dropped.
struct Telling(Weak<Replica>);

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some(replica) = self.0.upgrade() {
            let mut state = replica.lock();
            state.untold.end_wait();
            replica.tell(&mut state);
        }
    }
}

impl Replica {
    /// Tells the pages what they have not been told, or returns when that is due.
    pub(super) fn tell_or_wait(&self, state: &mut State) -> Option<Due> {
        let Some(seat) = state.seats.first() else {
            state.untold.take(0);
            return None;
        };
        if state.untold.is_empty() {
            return None;
        }
        match state.untold.wait(state.seats.len()) {
            Wait::Until(at) => {
                let runtime = seat.runtime.clone();
                return Some(Due { at, runtime });
            }
            Wait::Begun => {}
            Wait::Over => self.tell(state),
        }
        None
    }

    /// Tells the pages what they have not been told.
    pub(super) fn tell(&self, state: &mut State) {
        if state.untold.is_empty() {
            return;
        }
        let (changes, newcomers) = state.untold.take(state.seats.len());
        if state.seats.iter().any(|seat| seat.place == Place::Shown) {
            let (states, others): (Vec<_>, _) = changes.iter().partition(|change| change.is_state());
            self.tell_others(state, &others);
            self.tell_states(state, &states);
        }
        self.show_newcomers(state, &newcomers);
    }

    /// Tells the pages who has joined, left, gone away and come back.
    fn tell_others(&self, state: &mut State, changes: &[&UntoldChange]) {
        match changes {
            [] => return,
            [change] if change.left.is_none() => return self.tell_one(state, change),
            _ => {}
        }
        for unit in self.changes_units(state, changes) {
            shown(state).for_each(|(_, seat)| seat.change(&unit, None));
        }
    }

    /// Tells the pages what members say of themselves. A few states go one by one, so that a later
    /// one may replace them until they are sent. Many go together.
    fn tell_states(&self, state: &mut State, changes: &[&UntoldChange]) {
        if changes.len() <= FEW_STATES {
            return changes.iter().for_each(|change| self.tell_one(state, change));
        }
        for unit in self.changes_units(state, changes) {
            for (_, seat) in shown(state) {
                // They would only fill its outbox. It is shown the room when it comes back.
                if seat.is_away {
                    seat.has_missed_states = true;
                } else {
                    seat.change(&unit, None);
                }
            }
        }
    }

    /// Tells the pages how one member has changed.
    fn tell_one(&self, state: &mut State, change: &UntoldChange) {
        let Some(Told::Changed(changed)) = told(state, change).pop() else {
            return;
        };
        let id = change.member;
        let key = (changed.change == Change::State).then(|| format!("\0room\0{}\0{id}", self.name));
        let is_own = change.changed.is_some_and(|changed| changed.is_own);
        let unit = room_unit(self.codec, &self.name, Action::Member, &changed);
        let Some(unit) = self.encoded(state, unit) else { return };
        for (_, seat) in shown(state).filter(|(seated, _)| !(is_own && *seated == id)) {
            seat.change(&unit, key.as_deref());
        }
    }

    /// Returns the units that tell of several changes.
    fn changes_units(&self, state: &State, changes: &[&UntoldChange]) -> Vec<Message> {
        let told: Vec<_> = changes.iter().flat_map(|change| told(state, change)).collect();
        let units = self.parts(&told).into_iter().filter_map(|part| {
            let unit = match part {
                [Told::Left(left)] => room_unit(self.codec, &self.name, Action::Left, left),
                several => room_unit(self.codec, &self.name, Action::Changes, several),
            };
            self.encoded(state, unit)
        });
        units.collect()
    }

    /// Shows the room to those who have joined. What is the same for all is encoded once.
    fn show_newcomers(&self, state: &mut State, newcomers: &[u64]) {
        let is_new = |state: &State, id: &u64| state.seats.get(*id).is_some_and(|seat| seat.place == Place::Joined);
        let newcomers: Vec<_> = newcomers.iter().filter(|id| is_new(state, id)).collect();
        let shared = if newcomers.len() > 1 {
            let members: Vec<_> = state.members.iter().collect();
            self.list_units(state.version, &members, None)
        } else {
            Vec::new()
        };
        let shared: Vec<_> = shared.into_iter().filter_map(|unit| share(state, unit)).collect();
        let State {
            version,
            members,
            seats,
            ..
        } = state;
        for id in newcomers {
            let Some(seat) = seats.get_mut(*id) else { continue };
            let you = (*id, seat.number);
            let own = match shared.len() {
                0 => self.members_units(*version, members, you),
                _ => self.list_units(*version, &[], Some(you)),
            };
            seat.members(shared.iter().cloned().chain(own));
        }
    }

    /// Returns the units that tell a page who is in the room. `you` is the page's member, and how
    /// many states of its own the server has received from the page.
    pub(super) fn members_units(&self, version: u64, members: &Roster, you: (u64, u64)) -> Vec<Message> {
        let members: Vec<_> = members.iter().collect();
        self.list_units(version, &members, Some(you))
    }

    /// Returns the units of a list. Without `you`, a unit has to follow that ends it. Without
    /// members, it is that unit.
    fn list_units(&self, version: u64, members: &[&Member], you: Option<(u64, u64)>) -> Vec<Message> {
        let parts = self.parts(members);
        let last = parts.len() - 1;
        let units = parts.into_iter().enumerate().filter_map(|(number, part)| {
            let you = you.filter(|_| number == last);
            let list = Members {
                version,
                you: you.map(|(id, _)| id),
                number: you.map(|(_, number)| number),
                is_first: number == 0 && !part.is_empty(),
                is_last: you.is_some(),
                members: part,
            };
            encoded(room_unit(self.codec, &self.name, Action::Members, &list))
        });
        units.map(Message::from).collect()
    }

    /// Divides what is to be sent, so that each unit has less than the 1 MiB that a message may
    /// have.
    fn parts<'a, T: Serialize>(&self, all: &'a [T]) -> Vec<&'a [T]> {
        let most = self.options.state.saturating_add(BESIDES_STATE);
        if all.len().saturating_mul(most) <= UNIT {
            return vec![all];
        }
        let (mut parts, mut start, mut size) = (Vec::new(), 0, 0);
        for (at, one) in all.iter().enumerate() {
            let more = json_size(one);
            if at > start && size + more > UNIT {
                parts.push(&all[start..at]);
                (start, size) = (at, 0);
            }
            size += more;
        }
        parts.push(&all[start..]);
        parts
    }

    /// Returns a unit for all members on this server.
    fn encoded(&self, state: &State, unit: Result<Vec<u8>, EncodeError>) -> Option<Message> {
        share(state, encoded(unit)?.into())
    }
}

/// The pages that know the room.
fn shown(state: &mut State) -> impl Iterator<Item = (u64, &mut Seat)> {
    state.seats.iter_mut().filter(|(_, seat)| seat.place == Place::Shown)
}

/// Returns what pages are told of a change.
fn told<'a>(state: &'a State, change: &UntoldChange) -> Vec<Told<'a>> {
    let id = change.member;
    let left = change.left.map(|version| Told::Left(Left { version, id }));
    let changed = change.changed.map(|changed| {
        let number = state.seats.get(id).filter(|_| !changed.is_own);
        Told::Changed(Changed {
            version: changed.version,
            change: changed.change,
            member: state.members.get(id).expect("only members change"),
            number: number.map(|seat| seat.number),
        })
    });
    left.into_iter().chain(changed).collect()
}

/// Returns the message, to be counted and compressed once for all members on this server. Returns
/// `None` if there are none.
pub(super) fn share(state: &State, unit: Message) -> Option<Message> {
    Some(state.seats.first()?.core.share(unit))
}

fn encoded(unit: Result<Vec<u8>, EncodeError>) -> Option<Vec<u8>> {
    unit.inspect_err(|error| tracing::error!(%error, "a room's members were not told of a change"))
        .ok()
}

/// Returns how many bytes a value has as JSON.
fn json_size<T: Serialize>(value: &T) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    let counted = serde_json::to_writer(&mut counter, value);
    counted.map_or(0, |()| counter.0 + 1)
}

/// Bytes of members in a unit, as JSON. As MessagePack, numbers may take 9 bytes instead of 4.
const UNIT: usize = 400 * 1024;

/// Bytes of a member besides its state, at least unless the user's name is long.
const BESIDES_STATE: usize = 512;

/// So many states at a time are told one by one.
const FEW_STATES: usize = 8;
