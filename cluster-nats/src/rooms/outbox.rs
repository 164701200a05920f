//! What a server still has to tell a room, and its own members as it knows them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use stillhere_app::{Announced, Happening, Member, PublishError, Replica};
use tokio::sync::Notify;

use super::batch::{Entry, announcement, overhead};

/// What a server still has to tell a room.
pub(super) struct Outbox {
    limits: Limits,
    state: Mutex<State>,
    /// Notified when there is something to send.
    pub(super) filled: Notify,
}

/// How much may wait.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) waiting: usize,
    pub(super) bytes: usize,
    pub(super) all_bytes: usize,
    /// Bytes that wait in all rooms.
    pub(super) all: Arc<AtomicUsize>,
    /// Most bytes of a batch with a single entry.
    pub(super) largest: usize,
}

#[derive(Default)]
struct State {
    /// The members of this server, as the room knows them once everything that was taken has come
    /// back. What waits does not count yet: it comes after an announcement that is taken before it.
    own: BTreeMap<u64, Own>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The members of this server are going to be announced, or the beginning of that has been sent
    /// and has not come back.
    is_announcing: bool,
    /// Keeps the room while something waits or is being sent.
    keeps: Option<Arc<Replica>>,
}

/// What a batch has.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// How many entries, or members in an announcement.
    pub(super) count: u64,
    /// It begins an announcement.
    pub(super) begins_announcement: bool,
}

struct Own {
    member: Member,
    number: Option<u64>,
}

enum Waiting {
    Entry {
        bytes: Bytes,
        /// What happens to a member of this server.
        happening: Option<Happening>,
    },
    /// The members of this server from an id on.
    Members { from: u64 },
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.limits.all.fetch_sub(state.bytes, Ordering::Relaxed);
    }
}

impl Outbox {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Queues what has happened here.
    pub(super) fn push(&self, room: &Arc<Replica>, happening: Happening) -> Result<(), PublishError> {
        let entry = Entry::Happening(happening);
        let encoded = entry.encode();
        let Entry::Happening(happening) = entry else {
            unreachable!("it was made a line above");
        };
        let (size, max) = (encoded.len() + overhead(), self.limits.largest);
        if size > max {
            return Err(PublishError::TooLarge { size, max });
        }
        {
            let mut state = self.lock();
            let is_full = self.is_full(&state, encoded.len());
            let can_wait = matches!(happening, Happening::Left { .. } | Happening::Away { .. });
            if is_full && !can_wait {
                return Err(PublishError::Busy);
            }
            // So that each member adds little to what is too much already.
            if is_full && let Some(before) = state.take_absence(&happening) {
                self.count_out(&mut state, before.len());
            }
            let happening = Some(happening).filter(|happening| !matches!(happening, Happening::Event { .. }));
            self.count_in(&mut state, encoded.len());
            state.waiting.push_back(Waiting::Entry {
                bytes: encoded,
                happening,
            });
            state.keeps.get_or_insert_with(|| Arc::clone(room));
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Queues something that this server says of the room, before all else.
    pub(super) fn push_first(&self, room: &Arc<Replica>, entry: &Entry) {
        let encoded = entry.encode();
        {
            let mut state = self.lock();
            self.count_in(&mut state, encoded.len());
            state.waiting.push_front(Waiting::Entry {
                bytes: encoded,
                happening: None,
            });
            state.keeps.get_or_insert_with(|| Arc::clone(room));
        }
        self.filled.notify_one();
    }

    /// Has this server announce its members, unless it is about to.
    pub(super) fn announce(&self, room: &Arc<Replica>) {
        {
            let mut state = self.lock();
            if state.is_announcing {
                return;
            }
            state.announce();
            state.keeps.get_or_insert_with(|| Arc::clone(room));
        }
        self.filled.notify_one();
    }

    /// Appends what waits to a batch, up to `limit` bytes of it. Returns `None` if nothing waits.
    /// `position` is that of the batch.
    pub(super) fn take(&self, room: &Replica, batch: &mut BytesMut, position: u64, limit: usize) -> Option<Taken> {
        let positions = self.has_members_first().then(|| room.positions());
        let mut state = self.lock();
        let mut taken = Taken::default();
        let before = batch.len();
        while let Some(first) = state.waiting.pop_front() {
            let is_first = batch.len() == before;
            match first {
                Waiting::Entry { bytes, happening } if is_first || batch.len() + bytes.len() <= limit => {
                    self.count_out(&mut state, bytes.len());
                    batch.extend_from_slice(&bytes);
                    if let Some(happening) = happening {
                        state.note(happening);
                    }
                    taken.count += 1;
                }
                Waiting::Members { from } if is_first => {
                    let Some(positions) = &positions else {
                        // They have come first only now.
                        state.waiting.push_front(first);
                        drop(state);
                        return self.take(room, batch, position, limit);
                    };
                    let members = state.announced(positions, from, position);
                    let announcement = announcement(from, members, limit.saturating_sub(batch.len() + 64));
                    taken.begins_announcement = from == 0;
                    taken.count = announcement.members.len() as u64;
                    if let Some(from) = announcement.ids.end().checked_add(1) {
                        state.waiting.push_front(Waiting::Members { from });
                    }
                    batch.extend_from_slice(&Entry::Announcement(announcement).encode());
                    break;
                }
                other => {
                    state.waiting.push_front(other);
                    break;
                }
            }
        }
        (batch.len() > before).then_some(taken)
    }

    /// Called when the batch that begins an announcement has come back: what is asked for from now
    /// on needs another one.
    pub(super) fn has_announced(&self) {
        self.lock().is_announcing = false;
    }

    /// Called when nothing is being sent. Lets go of the room, if nothing waits.
    pub(super) fn settle(&self) {
        let room = {
            let mut state = self.lock();
            let is_idle = state.waiting.is_empty();
            state.keeps.take_if(|_| is_idle)
        };
        drop(room);
    }

    /// Returns true if this server has members whom the room knows, or should.
    pub(super) fn has_members(&self) -> bool {
        !self.lock().own.is_empty()
    }

    fn has_members_first(&self) -> bool {
        matches!(self.lock().waiting.front(), Some(Waiting::Members { .. }))
    }

    fn is_full(&self, state: &State, size: usize) -> bool {
        let Limits {
            waiting,
            bytes,
            all_bytes,
            all,
            ..
        } = &self.limits;
        let is_idle = state.waiting.is_empty();
        state.waiting.len() >= *waiting
            || (!is_idle && state.bytes + size > *bytes)
            || all.load(Ordering::Relaxed) + size > *all_bytes
    }

    fn count_in(&self, state: &mut State, bytes: usize) {
        state.bytes += bytes;
        self.limits.all.fetch_add(bytes, Ordering::Relaxed);
    }

    fn count_out(&self, state: &mut State, bytes: usize) {
        state.bytes -= bytes;
        self.limits.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps what has happened to the members of this server.
    fn note(&mut self, happening: Happening) {
        match happening {
            Happening::Joined(member) => {
                self.own.insert(member.id, Own { member, number: None });
            }
            Happening::Left { id, .. } => {
                self.own.remove(&id);
            }
            Happening::Away { id, is_away, since } => {
                if let Some(own) = self.own.get_mut(&id) {
                    own.member.is_away = is_away;
                    own.member.since = since;
                }
            }
            Happening::State { id, state, number } => {
                if let Some(own) = self.own.get_mut(&id) {
                    own.member.state = state;
                    own.number = number.or(own.number);
                }
            }
            _ => {}
        }
    }

    /// Takes back that a member is away or is back, if that is the last that waits of it and
    /// `happening` says the same anew.
    fn take_absence(&mut self, happening: &Happening) -> Option<Bytes> {
        let Happening::Away { id, .. } = happening else {
            return None;
        };
        let is_of = |waiting: &Waiting| matches!(waiting, Waiting::Entry { happening: Some(before), .. } if member(before) == Some(*id));
        let place = self.waiting.iter().rposition(is_of)?;
        let is_away = |waiting: &mut Waiting| {
            matches!(
                waiting,
                Waiting::Entry {
                    happening: Some(Happening::Away { .. }),
                    ..
                }
            )
        };
        match self
            .waiting
            .get_mut(place)
            .is_some_and(is_away)
            .then(|| self.waiting.remove(place))??
        {
            Waiting::Entry { bytes, .. } => Some(bytes),
            Waiting::Members { .. } => None,
        }
    }

    fn announce(&mut self) {
        if !self.is_announcing {
            self.is_announcing = true;
            self.waiting.push_front(Waiting::Members { from: 0 });
        }
    }

    /// Returns the members of this server from an id on, in the order of their ids. Those without a
    /// position are put behind all others.
    fn announced<'a>(
        &'a self,
        positions: &'a HashMap<u64, u64>,
        from: u64,
        end: u64,
    ) -> impl Iterator<Item = Announced> + 'a {
        self.own.range(from..).zip(end..).map(|((id, own), end)| Announced {
            member: own.member.clone(),
            number: own.number,
            position: positions.get(id).copied().unwrap_or(end),
        })
    }
}

/// Returns the member to whom something happens.
fn member(happening: &Happening) -> Option<u64> {
    match happening {
        Happening::Joined(member) => Some(member.id),
        Happening::Left { id, .. } | Happening::Away { id, .. } | Happening::State { id, .. } => Some(*id),
        _ => None,
    }
}
