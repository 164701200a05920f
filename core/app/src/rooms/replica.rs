//! A room as one server knows it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;
use stillhere::{Message, SessionHandle, TrySendError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::RoomOptions;
use super::engine::{Departure, Happening, RoomEngine};
use super::events::{Listener, RoomEvent, RoomEvents};
use super::member::Member;
use super::present::Present;
use super::room::JoinError;
use super::roster::Roster;
use super::seat::{Behind, Seat};
use super::wire::{Action, Change, Changed, Left, Members, room_unit};
use crate::codec::EncodeError;

/// A room as one server knows it: for the [`RoomEngine`].
pub struct Replica {
    pub(super) name: Box<str>,
    pub(super) options: RoomOptions,
    engine: Arc<dyn RoomEngine>,
    state: Mutex<State>,
    /// [`State::version`].
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Number of changes of `members`.
    version: u64,
    members: Roster,
    /// The members that have their session on this server.
    seats: HashMap<u64, Seat>,
    /// Units that tell pages that they have left, and that did not fit. Whoever joins again is told
    /// nothing before that.
    owed: HashMap<u64, Owed>,
    listeners: Vec<Weak<Listener>>,
}

/// How many units are owed to a page, and who waits for that.
#[derive(Default)]
struct Owed {
    units: usize,
    waits: Option<Arc<Notify>>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Replica {
    pub(super) fn new(name: &str, options: RoomOptions, engine: Arc<dyn RoomEngine>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            options,
            engine,
            state: Mutex::default(),
            version: watch::Sender::default(),
        })
    }

    /// Returns the room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies what has happened, and tells the members on this server. For the engine: rooms
    /// converge only if every server applies the same in the same order.
    pub fn apply(self: &Arc<Self>, happening: Happening) {
        let mut state = self.lock();
        match happening {
            Happening::Joined(member) => self.join(&mut state, member),
            Happening::Left { id, why } => self.leave(&mut state, id, why),
            Happening::Away { id, is_away, since } => {
                let change = if is_away { Change::Away } else { Change::Back };
                self.change(&mut state, id, change, |member| {
                    member.is_away = is_away;
                    member.since = since;
                });
                let event = if is_away { RoomEvent::Away } else { RoomEvent::Back };
                if let Some(member) = state.members.get(id).cloned() {
                    state.notify(|| event(member.clone()));
                }
            }
            Happening::State { id, state: new, number } => self.set_state(&mut state, id, new, number),
            Happening::Event { unit, except } => return self.event(&mut state, unit.into(), except),
        }
        self.version.send_replace(state.version);
    }

    pub(super) fn publish(self: &Arc<Self>, happening: Happening) {
        self.engine.publish(self, happening);
    }

    /// Takes a place for a session of this server, which is to join.
    pub(super) fn seat(
        &self,
        id: u64,
        core: SessionHandle,
        fell_behind: Arc<Notify>,
        runtime: Handle,
    ) -> Result<(), JoinError> {
        let mut state = self.lock();
        if state.seats.contains_key(&id) {
            return Err(JoinError::Already);
        }
        let pending = state.seats.values().filter(|seat| !seat.is_in).count();
        if state.members.len() + pending >= self.options.members {
            return Err(JoinError::Full);
        }
        state.seats.insert(id, Seat::new(core, fell_behind, runtime));
        Ok(())
    }

    pub(super) fn members(&self) -> Arc<[Member]> {
        self.lock().members.list()
    }

    pub(super) fn present(self: &Arc<Self>) -> Present {
        Present::new(Arc::clone(self), self.version.subscribe())
    }

    pub(super) fn events(self: &Arc<Self>) -> RoomEvents {
        let listener = Arc::new(Listener::default());
        let mut state = self.lock();
        state.listeners.retain(|listener| listener.strong_count() > 0);
        state.listeners.push(Arc::downgrade(&listener));
        RoomEvents::new(Arc::clone(self), listener, state.members.list())
    }

    /// Has a page told, when its member leaves, that it has left.
    pub(super) fn tell_when_left(&self, id: u64, out: Message) {
        if let Some(seat) = self.lock().seats.get_mut(&id) {
            seat.out = Some(out);
        }
    }

    /// Sends a member its view of the room.
    pub(super) fn show(&self, id: u64) {
        let State {
            version,
            members,
            seats,
            ..
        } = &mut *self.lock();
        if let Some(seat) = seats.get_mut(&id).filter(|seat| seat.is_in && !seat.is_stale()) {
            let units = self.members_units(*version, members, (id, seat.number));
            seat.members(&units);
        }
    }

    /// Shows a member that the state with this number, which its page has set, does not count.
    pub(super) fn refuse_state(&self, id: u64, number: u64) {
        if let Some(seat) = self.lock().seats.get_mut(&id) {
            seat.number = number;
            seat.is_set_by_page = true;
        }
        self.show(id);
    }

    /// Returns the units that tell a new document who is in the room.
    pub(super) fn view(&self, id: u64) -> Vec<Message> {
        let State {
            version,
            members,
            seats,
            ..
        } = &mut *self.lock();
        let Some(seat) = seats.get_mut(&id).filter(|seat| seat.is_in) else {
            return Vec::new();
        };
        seat.begin_document();
        self.members_units(*version, members, (id, 0))
    }

    /// Called when all later states that the page sets come from a new document.
    pub(super) fn begin_document(&self, id: u64) {
        let is_behind = {
            let mut state = self.lock();
            let Some(seat) = state.seats.get_mut(&id) else { return };
            seat.number = 0;
            std::mem::take(&mut seat.is_set_by_page)
        };
        // A state that was read after the document was shown the room came from the one before.
        if is_behind {
            self.show(id);
        }
    }

    /// Returns what a member has missed, and the units that tell it the present state. Returns
    /// `None` once it is up to date.
    pub(super) fn take_behind(&self, id: u64) -> Option<(Behind, Vec<Message>)> {
        let State {
            version,
            members,
            seats,
            owed,
            ..
        } = &mut *self.lock();
        let seat = seats.get_mut(&id)?;
        if let Some(owed) = owed.get_mut(&id) {
            owed.waits = Some(Arc::clone(&seat.fell_behind));
            return None;
        }
        let behind = seat.take_behind()?;
        let units = if behind.is_stale {
            self.members_units(*version, members, (id, seat.number))
        } else {
            Vec::new()
        };
        Some((behind, units))
    }

    fn join(&self, state: &mut State, member: Member) {
        let id = member.id;
        state.notify(|| RoomEvent::Joined(member.clone()));
        state.members.insert(member);
        let is_owed = state.owed.contains_key(&id);
        if let Some(seat) = state.seats.get_mut(&id) {
            seat.is_in = true;
            if is_owed {
                seat.wait_for_owed();
            }
        }
        self.tell(state, id, Change::Joined, false);
        let State {
            version,
            members,
            seats,
            ..
        } = state;
        if let Some(seat) = seats.get_mut(&id) {
            seat.members(&self.members_units(*version, members, (id, seat.number)));
        }
    }

    fn leave(self: &Arc<Self>, state: &mut State, id: u64, why: Departure) {
        if let Some(seat) = state.seats.remove(&id) {
            self.dismiss(state, id, seat);
        }
        let Some(member) = state.members.remove(id) else {
            return;
        };
        state.notify(|| RoomEvent::Left(member.clone(), why));
        state.version += 1;
        let left = Left {
            version: state.version,
            id,
        };
        if let Some(unit) = self.unit(state, Action::Left, &left) {
            let seats = state.seats.values_mut().filter(|seat| seat.is_in);
            seats.for_each(|seat| seat.change(&unit, None));
        }
    }

    /// Tells the page of a member that has left so, before anything of a later membership.
    fn dismiss(self: &Arc<Self>, state: &mut State, id: u64, seat: Seat) {
        let Some(out) = seat.out else { return };
        let is_owed = state.owed.contains_key(&id);
        let out = if is_owed {
            Err(out)
        } else {
            seat.core.try_send(out).or_else(full)
        };
        let Err(out) = out else { return };
        state.owed.entry(id).or_default().units += 1;
        let (replica, core) = (Arc::clone(self), seat.core);
        seat.runtime.spawn(async move {
            let _ = core.send(out).await;
            replica.settle(id);
        });
    }

    /// Called when the page has been sent a unit that was owed to it.
    fn settle(&self, id: u64) {
        let mut state = self.lock();
        let Some(owed) = state.owed.get_mut(&id) else { return };
        owed.units -= 1;
        if owed.units == 0
            && let Some(waits) = state.owed.remove(&id).and_then(|owed| owed.waits)
        {
            waits.notify_one();
        }
    }

    fn change(&self, state: &mut State, id: u64, change: Change, apply: impl FnOnce(&mut Member)) {
        if let Some(member) = state.members.get_mut(id) {
            apply(member);
            self.tell(state, id, change, true);
        }
    }

    fn set_state(&self, state: &mut State, id: u64, new: serde_json::Value, number: Option<u64>) {
        let Some(member) = state.members.get_mut(id) else {
            return;
        };
        member.state = new;
        if let Some(seat) = state.seats.get_mut(&id)
            && let Some(number) = number
        {
            seat.number = number;
            seat.is_set_by_page = true;
        }
        self.tell(state, id, Change::State, number.is_none());
    }

    /// Tells the other members how one has changed, and perhaps the member itself.
    fn tell(&self, state: &mut State, id: u64, change: Change, tells_itself: bool) {
        state.version += 1;
        let changed = Changed {
            version: state.version,
            change,
            member: state.members.get(id).expect("only members change"),
            number: None,
        };
        let Some(unit) = self.unit(state, Action::Member, &changed) else {
            return;
        };
        let own = state.seats.get(&id).filter(|_| tells_itself).and_then(|seat| {
            let number = Some(seat.number);
            self.unit(state, Action::Member, &Changed { number, ..changed })
        });
        let key = (change == Change::State).then(|| format!("\0room\0{}\0{id}", self.name));
        for (seated, seat) in state.seats.iter_mut().filter(|(_, seat)| seat.is_in) {
            let unit = if *seated == id { own.as_ref() } else { Some(&unit) };
            if let Some(unit) = unit {
                seat.change(unit, key.as_deref());
            }
        }
    }

    fn event(&self, state: &mut State, unit: Message, except: Option<u64>) {
        let Some(unit) = share(state, unit) else { return };
        let seats = state.seats.iter_mut().filter(|(_, seat)| seat.is_in);
        for (_, seat) in seats.filter(|(id, _)| Some(**id) != except) {
            seat.event(&unit, &self.options);
        }
    }

    /// Encodes a unit once for all members. Returns `None` if there are none on this server.
    fn unit<T: Serialize>(&self, state: &State, action: Action, value: &T) -> Option<Message> {
        let unit = room_unit(self.options.codec, &self.name, action, value);
        share(state, encoded(unit)?.into())
    }

    fn members_units(&self, version: u64, members: &Roster, (you, number): (u64, u64)) -> Vec<Message> {
        let all: Vec<_> = members.iter().collect();
        let parts: Vec<_> = all.chunks(self.members_in_a_unit()).collect();
        let count = parts.len();
        let units = parts.into_iter().enumerate().map(|(part, members)| {
            let members = Members {
                version,
                you,
                number,
                is_first: part == 0,
                is_last: part + 1 == count,
                members: members.to_vec(),
            };
            room_unit(self.options.codec, &self.name, Action::Members, &members)
        });
        units.filter_map(encoded).map(Message::from).collect()
    }

    /// Returns how many members a unit may list, so that it has less than the 1 MiB that a message
    /// may have.
    fn members_in_a_unit(&self) -> usize {
        (UNIT / self.options.state.saturating_add(BESIDES_STATE)).clamp(1, 200)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells those who listen to the room's events.
    fn notify(&mut self, event: impl Fn() -> RoomEvent) {
        self.listeners.retain(|listener| {
            listener.upgrade().is_some_and(|listener| {
                listener.push(event());
                true
            })
        });
    }
}

/// Returns the message if it has to wait for room in the outbox.
fn full(error: TrySendError) -> Result<(), Message> {
    match error {
        TrySendError::Full(message) => Err(message),
        _ => Ok(()),
    }
}

/// Returns the message, to be counted and compressed once for all members on this server. Returns
/// `None` if there are none.
fn share(state: &State, unit: Message) -> Option<Message> {
    Some(state.seats.values().next()?.core.share(unit))
}

fn encoded(unit: Result<Vec<u8>, EncodeError>) -> Option<Vec<u8>> {
    unit.inspect_err(|error| tracing::error!(%error, "a room's members were not told of a change"))
        .ok()
}

/// Bytes of members in a unit, as JSON. As MessagePack, numbers may take 9 bytes instead of 4.
const UNIT: usize = 400 * 1024;

/// Bytes of a member besides its state.
const BESIDES_STATE: usize = 512;
