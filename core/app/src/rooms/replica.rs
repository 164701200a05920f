//! A room as one server knows it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use stillhere::{Message, SessionHandle, TrySendError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::RoomOptions;
use super::engine::{Departure, Happening, PublishError, RoomEngine, RoomLink, ServerId};
use super::events::{Listener, RoomEvent, RoomEvents};
use super::member::Member;
use super::present::Present;
use super::room::JoinError;
use super::roster::{Placed, Roster};
use super::seat::{Behind, Place, Seat};
use super::seats::Seats;
use super::tell::share;
use super::untold::Untold;
use super::wire::Change;
use crate::codec::Codec;

/// A room as one server knows it: for the [`RoomEngine`].
pub struct Replica {
    pub(super) name: Box<str>,
    pub(super) options: RoomOptions,
    /// The format in which it sends.
    pub(super) codec: Codec,
    link: Box<dyn RoomLink>,
    /// This server.
    pub(super) server: ServerId,
    state: Mutex<State>,
    /// [`State::version`].
    version: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct State {
    /// Number of changes of `members`.
    pub(super) version: u64,
    pub(super) members: Roster,
    /// Number of events that were sent to the room.
    pub(super) events: u64,
    /// The members that have their session on this server.
    pub(super) seats: Seats,
    /// How many of the seats are taken for members that are not in the room.
    taken: usize,
    pub(super) untold: Untold,
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
    pub(super) fn new(name: &str, options: RoomOptions, codec: Codec, engine: &dyn RoomEngine) -> Arc<Self> {
        Arc::new_cyclic(|replica| Self {
            name: name.into(),
            options,
            codec,
            link: engine.open(replica, name),
            server: engine.server(),
            state: Mutex::default(),
            version: watch::Sender::default(),
        })
    }

    /// Returns the room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has something happen on every server that uses the room.
    pub(super) fn publish(self: &Arc<Self>, happening: Happening) -> Result<(), PublishError> {
        self.link.publish(self, happening)
    }

    /// Has a member leave, or be away, which an engine must accept.
    pub(super) fn publish_always(self: &Arc<Self>, happening: Happening) {
        if let Err(error) = self.publish(happening) {
            tracing::error!(room = self.name(), %error, "the engine does not let a member leave or be away");
        }
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
        if let Some(seat) = state.seats.get_mut(id) {
            return seat.follow(Seat::new(core, fell_behind, runtime));
        }
        if state.members.len() + state.taken >= self.options.members {
            return Err(JoinError::Full);
        }
        state.taken += 1;
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

    /// Gives back a place whose session does not join.
    pub(super) fn unseat(&self, id: u64) {
        let mut state = self.lock();
        let Some(seat) = state.seats.get_mut(id) else { return };
        if !seat.give_up_newest() {
            state.remove_seat(id);
        }
    }

    /// Called when a membership has ended, before the room knows it. Has the page told, if there is
    /// something to tell it, when its member leaves.
    pub(super) fn begin_leaving(&self, id: u64, out: Option<Message>) {
        if let Some(seat) = self.lock().newest(id) {
            seat.is_leaving = true;
            seat.out = out;
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
        if let Some(seat) = seats.get_mut(id).filter(|seat| seat.is_in() && !seat.is_stale()) {
            let units = self.members_units(*version, members, (id, seat.number));
            seat.members(units);
        }
    }

    /// Returns false if a page that had the list of this version, or 0 if it had none, was not told
    /// of the present membership, so that the state with this number does not count.
    pub(super) fn counts_state(&self, id: u64, version: u64, number: u64) -> bool {
        let mut state = self.lock();
        let Some(seat) = state.newest(id) else {
            return version == 0;
        };
        if version == 0 {
            // The page forgets it if it is yet to be told that an earlier membership has ended.
            seat.echoed = seat.echoed.max(number);
        }
        version == 0 || (seat.joined > 0 && seat.joined <= version)
    }

    /// Shows a member that the state with this number, which its page has set, does not count.
    pub(super) fn refuse_state(&self, id: u64, number: u64) {
        if let Some(seat) = self.lock().newest(id) {
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
        let Some(seat) = seats.get_mut(id).filter(|seat| seat.is_in()) else {
            return Vec::new();
        };
        seat.begin_document();
        self.members_units(*version, members, (id, 0))
    }

    /// Called when all later states that the page sets come from a new document.
    pub(super) fn begin_document(&self, id: u64) {
        let is_behind = {
            let mut state = self.lock();
            let Some(seat) = state.newest(id) else { return };
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
        let seat = seats.get_mut(id)?;
        if let Some(owed) = owed.get_mut(&id) {
            owed.waits = Some(Arc::clone(&seat.fell_behind));
            return None;
        }
        let behind = seat.take_behind()?;
        let units = if behind.is_stale {
            seat.note_shown();
            self.members_units(*version, members, (id, seat.number))
        } else {
            Vec::new()
        };
        Some((behind, units))
    }

    pub(super) fn join(&self, state: &mut State, placed: Placed) {
        let id = placed.member.id;
        if state.members.get(id).is_none() {
            state.notify(|| RoomEvent::Joined(placed.member.clone()));
        }
        let is_owed = state.owed.contains_key(&id);
        state.version += 1;
        if placed.home == self.server
            && let Some(seat) = state.seats.get_mut(id)
        {
            if seat.joined == 0 {
                seat.joined = state.version;
            }
            state.taken -= usize::from(!seat.is_in());
            seat.enter(placed.member.is_away, is_owed);
        }
        state.members.insert(placed);
        state.untold.joined(id, state.version);
    }

    /// Has a member leave. Its place on this server is not affected.
    pub(super) fn leave(&self, state: &mut State, id: u64, why: Departure) {
        let Some(member) = state.members.remove(id) else {
            return;
        };
        state.notify(|| RoomEvent::Left(member.clone(), why));
        state.version += 1;
        state.untold.left(id, state.version);
    }

    /// Takes the place of a member of this server that has left, and tells its page so, before
    /// anything of a later membership.
    pub(super) fn vacate(self: &Arc<Self>, state: &mut State, id: u64) {
        state.hold_place(id);
        if state.seats.get(id).is_none_or(|seat| !seat.is_leaving) {
            return;
        }
        let seat = state.remove_seat(id).expect("it is there");
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

    pub(super) fn event(&self, state: &mut State, unit: Message, except: Option<u64>) {
        state.events += 1;
        // Whoever sees the event knows who has sent it.
        self.tell(state);
        let Some(unit) = share(state, unit) else { return };
        let seats = state.seats.iter_mut().filter(|(_, seat)| seat.is_in());
        for (_, seat) in seats.filter(|(id, _)| Some(*id) != except) {
            seat.event(&unit, &self.options);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch the members, and the pages, what has changed.
    pub(super) fn finish(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.version.send_replace(state.version);
        let wait = self.tell_or_wait(&mut state);
        drop(state);
        if let Some(wait) = wait {
            wait.spawn(self);
        }
    }
}

impl State {
    pub(super) fn set_away(&mut self, id: u64, is_away: bool, since: u64, is_here: bool) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        (member.is_away, member.since) = (is_away, since);
        let member = member.clone();
        if is_here && let Some(seat) = self.seats.get_mut(id) {
            seat.is_away = is_away;
            if !is_away && seat.has_missed_states {
                seat.place = Place::Joined;
                self.untold.shows(id);
            }
        }
        let (change, event): (_, fn(Member) -> RoomEvent) = if is_away {
            (Change::Away, RoomEvent::Away)
        } else {
            (Change::Back, RoomEvent::Back)
        };
        self.version += 1;
        self.untold.changed(id, self.version, change, false);
        self.notify(|| event(member.clone()));
    }

    pub(super) fn set_state(&mut self, id: u64, new: serde_json::Value, number: Option<u64>, is_here: bool) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.state = new;
        let mut is_own = number.is_some();
        if is_here
            && let Some(seat) = self.seats.get_mut(id)
            && let Some(number) = number
        {
            seat.number = number;
            seat.is_set_by_page = true;
            is_own = number > seat.echoed;
        }
        self.version += 1;
        self.untold.changed(id, self.version, Change::State, is_own);
    }

    /// Keeps the place of a member of this server that was taken for lost, until it joins again or
    /// the room knows that it has left.
    pub(super) fn hold_place(&mut self, id: u64) {
        if let Some(seat) = self.seats.get_mut(id) {
            self.taken += usize::from(seat.is_in());
            seat.place = Place::Taken;
        }
    }

    /// Takes the first place of a session of this server. The next one takes its part.
    fn remove_seat(&mut self, id: u64) -> Option<Seat> {
        let mut seat = self.seats.remove(id)?;
        self.taken -= usize::from(!seat.is_in());
        if let Some(next) = seat.next.take() {
            self.taken += 1;
            self.seats.insert(id, *next);
        }
        Some(seat)
    }

    /// Returns the place that a session of this server has taken last.
    fn newest(&mut self, id: u64) -> Option<&mut Seat> {
        self.seats.get_mut(id).map(Seat::newest)
    }

    /// Tells those who listen to the room's events.
    pub(super) fn notify(&mut self, event: impl Fn() -> RoomEvent) {
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
