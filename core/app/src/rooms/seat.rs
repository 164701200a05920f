//! The place of one member in a room on the server that has its session: it delivers to the
//! session, and remembers what did not fit.

use std::collections::VecDeque;
use std::sync::Arc;

use stillhere::{Message, SendLatestError, SessionHandle, TrySendError};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::engine::PublishError;
use super::room::JoinError;
use super::{Lag, RoomOptions};

pub(super) struct Seat {
    pub(super) core: SessionHandle,
    pub(super) place: Place,
    /// The version with which its member has joined.
    pub(super) joined: u64,
    /// Its page has no connection.
    pub(super) is_away: bool,
    /// The page was not told of states while it was away.
    pub(super) has_missed_states: bool,
    behind: Option<Behind>,
    /// The number of the last state that the page has set.
    pub(super) number: u64,
    /// The page is told of its own states up to this number, because it may have forgotten them.
    pub(super) echoed: u64,
    /// The page has set a state since a document was last shown the room.
    pub(super) is_set_by_page: bool,
    /// Notified when the outbox was full.
    pub(super) fell_behind: Arc<Notify>,
    /// Tells the page, when the member leaves, that it has left.
    pub(super) out: Option<Message>,
    pub(super) runtime: Handle,
    /// Its membership has ended, but the room does not know that yet.
    pub(super) is_leaving: bool,
    /// The place of the same session after this one, if it has joined again meanwhile.
    pub(super) next: Option<Box<Self>>,
}

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is going to join.
    Taken,
    /// It is in the room, and its page is going to be shown the others.
    Joined,
    /// Its page knows the others, and is told of changes.
    Shown,
}

/// What a member misses while its outbox is full.
#[derive(Debug, Default)]
pub(super) struct Behind {
    pub(super) missed: u64,
    pub(super) kept: VecDeque<Message>,
    /// Bytes of `kept`.
    kept_bytes: usize,
    /// The page does not know the members any more.
    pub(super) is_stale: bool,
    /// Its membership has to end.
    pub(super) is_out: bool,
}

impl Behind {
    fn is_nothing(&self) -> bool {
        self.missed == 0 && self.kept.is_empty() && !self.is_stale && !self.is_out
    }

    fn miss(&mut self, event: &Message, options: &RoomOptions) {
        match options.lag {
            Lag::Skip => self.missed += 1,
            Lag::End => self.is_out = true,
            Lag::Newest => {
                self.kept_bytes += event.len();
                self.kept.push_back(event.clone());
                while self.kept.len() > 1
                    && self.is_above(options)
                    && let Some(oldest) = self.kept.pop_front()
                {
                    self.kept_bytes -= oldest.len();
                    self.missed += 1;
                }
            }
        }
    }

    fn is_above(&self, options: &RoomOptions) -> bool {
        self.kept.len() > options.kept_events || self.kept_bytes > options.kept_bytes
    }
}

impl Seat {
    pub(super) fn new(core: SessionHandle, fell_behind: Arc<Notify>, runtime: Handle) -> Self {
        Self {
            core,
            place: Place::Taken,
            joined: 0,
            is_away: false,
            has_missed_states: false,
            behind: None,
            number: 0,
            echoed: 0,
            is_set_by_page: false,
            fell_behind,
            out: None,
            runtime,
            is_leaving: false,
            next: None,
        }
    }

    /// Returns the place that the session has taken last.
    pub(super) fn newest(&mut self) -> &mut Self {
        match self.next {
            Some(ref mut next) => next.newest(),
            None => self,
        }
    }

    /// Adds a place for the session's next membership, if this one is ending.
    pub(super) fn follow(&mut self, next: Self) -> Result<(), JoinError> {
        let waiting = std::iter::successors(self.next.as_deref(), |next| next.next.as_deref());
        if waiting.count() >= MOST_WAITING {
            return Err(JoinError::Refused(PublishError::Busy));
        }
        let newest = self.newest();
        if !newest.is_leaving {
            return Err(JoinError::Already);
        }
        newest.next = Some(Box::new(next));
        Ok(())
    }

    /// Takes back the last [`Seat::follow`]. Returns false if there was none.
    pub(super) fn give_up_newest(&mut self) -> bool {
        match &mut self.next {
            None => false,
            Some(next) => {
                if !next.give_up_newest() {
                    self.next = None;
                }
                true
            }
        }
    }

    /// Makes this the place of a member that is in the room.
    pub(super) fn enter(&mut self, is_away: bool, is_owed: bool) {
        self.place = Place::Joined;
        self.is_away = is_away;
        if is_owed {
            self.wait_for_owed();
        }
    }

    /// Called when the page has missed so many events that no server can send any more.
    pub(super) fn miss(&mut self, events: u64) {
        let behind = self.behind();
        behind.is_stale = true;
        behind.missed += events;
    }

    /// Tells the page nothing before what is owed to it from an earlier membership.
    fn wait_for_owed(&mut self) {
        self.behind().is_stale = true;
    }

    /// Delivers an event, in order with everything else but states.
    pub(super) fn event(&mut self, event: &Message, options: &RoomOptions) {
        if self.behind.is_none() {
            match self.core.try_send(event.clone()) {
                Ok(()) | Err(TrySendError::Ended { .. }) => return,
                // It has kept up all the same.
                Err(TrySendError::TooLarge { .. }) => return self.behind().missed += 1,
                Err(_) => {}
            }
        }
        self.behind().miss(event, options);
    }

    /// Tells the page of a change. With a key, it may be replaced by a later one of the same key
    /// before it is sent.
    pub(super) fn change(&mut self, unit: &Message, key: Option<&str>) {
        if self.behind.is_none() {
            let is_sent = match key {
                None => self.has_sent(unit.clone()),
                Some(key) => match self.core.send_latest(key, unit.clone()) {
                    Ok(()) | Err(SendLatestError::Ended { .. }) => true,
                    Err(_) => self.has_sent(unit.clone()),
                },
            };
            if is_sent {
                return;
            }
        }
        self.behind().is_stale = true;
    }

    /// Returns true if its member has joined.
    pub(super) fn is_in(&self) -> bool {
        self.place != Place::Taken
    }

    /// Called when the page gets all members.
    pub(super) fn note_shown(&mut self) {
        self.place = Place::Shown;
        self.has_missed_states = false;
    }

    /// Tells the page who is in the room.
    pub(super) fn members(&mut self, units: impl IntoIterator<Item = Message>) {
        self.note_shown();
        if self.behind.is_some() || !units.into_iter().all(|unit| self.has_sent(unit)) {
            self.behind().is_stale = true;
        }
    }

    /// Called when a new document is shown the room, which has missed nothing yet.
    pub(super) fn begin_document(&mut self) {
        self.note_shown();
        self.number = 0;
        self.is_set_by_page = false;
        if let Some(behind) = &mut self.behind {
            // What is being sent to the document before may reach the new one.
            behind.is_stale = true;
            behind.missed = 0;
            behind.kept.clear();
            behind.kept_bytes = 0;
        }
    }

    /// Returns true if the page is going to get the members anew.
    pub(super) fn is_stale(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.is_stale)
    }

    /// Returns what the page has missed since the last call. After `None` it is up to date.
    pub(super) fn take_behind(&mut self) -> Option<Behind> {
        if self.behind.as_ref()?.is_nothing() {
            self.behind = None;
            return None;
        }
        self.behind.replace(Behind::default())
    }

    /// Returns false if there is no room. A session that has ended needs none.
    fn has_sent(&self, unit: Message) -> bool {
        match self.core.try_send(unit) {
            Ok(()) | Err(TrySendError::Ended { .. }) => true,
            Err(_) => false,
        }
    }

    fn behind(&mut self) -> &mut Behind {
        self.fell_behind.notify_one();
        self.behind.get_or_insert_default()
    }
}

/// Memberships of a session in one room that have begun while the room does not know yet that an
/// earlier one has ended.
const MOST_WAITING: usize = 8;
