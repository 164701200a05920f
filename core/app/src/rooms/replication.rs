//! What an engine tells a replica: what has happened, who is a member on another server, and what
//! the whole room is like.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::engine::{Departure, Happening, ServerId};
use super::member::Member;
use super::replica::{Replica, State};
use super::roster::Placed;
use super::seat::Seat;

/// Members of one server: all whose ids are in a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// The ids. A member of that server whose id is among them, but who is not listed, has left.
    pub ids: RangeInclusive<u64>,
    /// The members.
    pub members: Vec<Announced>,
}

/// A member, as its own server knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announced {
    /// The member.
    pub member: Member,
    /// The number of its state among those that its page has set, if it has set it.
    pub number: Option<u64>,
    /// Where it is among the members; see [`Replica::apply_from`].
    pub position: u64,
}

/// All that a server knows of a room, for another one that begins to use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    members: Vec<Placed>,
    events: u64,
}

impl Snapshot {
    /// Returns the servers that have members in the room.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> {
        self.members.iter().map(|placed| placed.home)
    }
}

impl Replica {
    /// Applies what has happened to a member of this server, which joins behind all others.
    pub(super) fn apply(self: &Arc<Self>, happening: Happening) {
        let position = match happening {
            Happening::Joined(_) => self.lock().members.end(),
            _ => 0,
        };
        self.apply_from(self.server, position, happening);
    }

    /// Applies what has happened to a member of `server`, and tells the members on this server. For
    /// the engine: rooms converge only if every server applies the same in the same order.
    ///
    /// Members are listed by position and id. So `position` should grow with each that joins; it
    /// has no meaning for anything else. What happens to a member that is on another server now is
    /// ignored.
    pub fn apply_from(self: &Arc<Self>, server: ServerId, position: u64, happening: Happening) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let is_here = server == self.server;
        let is_of = |state: &State, id| state.members.placed(id).is_some_and(|placed| placed.home == server);
        match happening {
            Happening::Joined(member) => {
                let (home, known) = (server, state.members.placed(member.id));
                let position = known
                    .filter(|known| known.home == home)
                    .map_or(position, |known| known.position);
                self.update(state, Placed { member, home, position }, None);
            }
            Happening::Left { id, why } => {
                if is_here {
                    self.vacate(state, id);
                }
                if is_of(state, id) {
                    self.leave(state, id, why);
                }
            }
            Happening::Away { id, is_away, since } if is_of(state, id) => state.set_away(id, is_away, since, is_here),
            Happening::State { id, state: new, number } if is_of(state, id) => {
                state.set_state(id, new, number, is_here);
            }
            Happening::Away { .. } | Happening::State { .. } => {}
            Happening::Event { unit, except } => return self.event(state, unit.into(), except),
        }
        self.finish(guard);
    }

    /// Has the members of a server leave, because it has died or is out of reach. If it is this
    /// one, their sessions keep their places, for an announcement to bring them back.
    pub fn lose(self: &Arc<Self>, server: ServerId) {
        let mut state = self.lock();
        for id in state.members.of(server) {
            self.remove(&mut state, server, id, Departure::Lost);
        }
        self.finish(state);
    }

    /// Applies what a server says of its own members.
    pub fn apply_announcement(self: &Arc<Self>, server: ServerId, announcement: Announcement) {
        let mut state = self.lock();
        let listed: HashSet<_> = announcement.members.iter().map(|one| one.member.id).collect();
        let known = state.members.of(server).into_iter();
        let gone = known.filter(|id| announcement.ids.contains(id) && !listed.contains(id));
        for id in gone.collect::<Vec<_>>() {
            self.remove(&mut state, server, id, Departure::Lost);
        }
        for Announced {
            member,
            number,
            position,
        } in announcement.members
        {
            let placed = Placed {
                member,
                home: server,
                position,
            };
            self.update(&mut state, placed, number);
        }
        self.finish(state);
    }

    /// Returns all that this server knows of the room.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            members: state.members.all().cloned().collect(),
            events: state.events,
        }
    }

    /// Makes the room what another server knows of it. Members of this server that are not in the
    /// snapshot keep their places, for an announcement to bring them back. Their pages are told how
    /// many events they have missed, if `has_missed` is true.
    pub fn restore(self: &Arc<Self>, snapshot: Snapshot, has_missed: bool) {
        let mut state = self.lock();
        let homes: HashMap<u64, ServerId> = snapshot.members.iter().map(|one| (one.member.id, one.home)).collect();
        let known = state.members.all().map(|placed| (placed.member.id, placed.home));
        let gone: Vec<_> = known.filter(|(id, _)| !homes.contains_key(id)).collect();
        for (id, home) in gone {
            self.remove(&mut state, home, id, Departure::Lost);
        }
        let missed = snapshot.events.saturating_sub(state.events);
        state.events = snapshot.events;
        if has_missed && missed > 0 {
            let seats = state.seats.iter_mut().filter(|(_, seat)| seat.is_in());
            seats.for_each(|(_, seat)| seat.miss(missed));
        }
        for placed in snapshot.members {
            self.update(&mut state, placed, None);
        }
        self.finish(state);
    }

    /// Returns the other servers that have members in the room, each once.
    pub fn other_servers(&self) -> Vec<ServerId> {
        let state = self.lock();
        let mut servers: Vec<_> = state.members.all().map(|placed| placed.home).collect();
        drop(state);
        servers.sort_unstable();
        servers.dedup();
        servers.retain(|server| *server != self.server);
        servers
    }

    /// Returns where the members of this server are among all, by id.
    pub fn positions(&self) -> HashMap<u64, u64> {
        let state = self.lock();
        let own = state.members.all().filter(|placed| placed.home == self.server);
        own.map(|placed| (placed.member.id, placed.position)).collect()
    }

    fn remove(&self, state: &mut State, server: ServerId, id: u64, why: Departure) {
        if server == self.server {
            state.hold_place(id);
        }
        self.leave(state, id, why);
    }

    /// Makes a member what is known of it, and tells of what is new. `number` is that of its state.
    fn update(self: &Arc<Self>, state: &mut State, placed: Placed, number: Option<u64>) {
        let id = placed.member.id;
        let is_here = placed.home == self.server;
        if is_here && let (Some(seat), Some(number)) = (state.seats.get_mut(id), number) {
            seat.number = number;
            seat.is_set_by_page = true;
        }
        let is_in = !is_here || state.seats.get(id).is_none_or(Seat::is_in);
        let known = state.members.placed(id).filter(|_| is_in);
        let Some(known) = known.filter(|known| (known.home, known.position) == (placed.home, placed.position)) else {
            return self.join(state, placed);
        };
        let (was, is) = (&known.member, placed.member);
        let has_moved = (was.is_away, was.since) != (is.is_away, is.since);
        if was.state != is.state {
            state.set_state(id, is.state, None, is_here);
        }
        if has_moved {
            state.set_away(id, is.is_away, is.since, is_here);
        }
    }
}
