//! Who joins, goes away, comes back and leaves, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::engine::Departure;
use super::member::Member;
use super::replica::Replica;

/// What [`RoomEvents::next`] returns. Each has the member as it was then.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RoomEvent {
    /// A session has joined.
    Joined(Member),
    /// The member's page has lost its connection.
    Away(Member),
    /// The member's page has a connection again.
    Back(Member),
    /// A session is no longer a member.
    Left(Member, Departure),
    /// So many events were not read in time. [`Room::members`](super::Room::members) has who is
    /// there now.
    Missed(u64),
}

/// Who joins, goes away, comes back and leaves, in order. It keeps the room.
///
/// At most 1,024 events wait to be read. Beyond that the oldest are dropped, and
/// [`RoomEvent::Missed`] says how many.
#[derive(Debug)]
pub struct RoomEvents {
    listener: Arc<Listener>,
    present: Arc<[Member]>,
    /// How many of those who were there at first have been returned.
    returned: usize,
    _replica: Arc<Replica>,
}

impl RoomEvents {
    pub(super) fn new(replica: Arc<Replica>, listener: Arc<Listener>, present: Arc<[Member]>) -> Self {
        Self {
            listener,
            present,
            returned: 0,
            _replica: replica,
        }
    }

    /// Waits for the next event. Those who are in the room already come first, as joined. Cancel
    /// safe.
    pub async fn next(&mut self) -> RoomEvent {
        if let Some(member) = self.present.get(self.returned) {
            self.returned += 1;
            return RoomEvent::Joined(member.clone());
        }
        self.present = Arc::default();
        loop {
            if let Some(event) = self.listener.take() {
                return event;
            }
            self.listener.arrived.notified().await;
        }
    }
}

/// Events that one [`RoomEvents`] has not returned yet.
#[derive(Debug, Default)]
pub(super) struct Listener {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    missed: u64,
    events: VecDeque<RoomEvent>,
}

impl Listener {
    pub(super) fn push(&self, event: RoomEvent) {
        let dropped = {
            let mut waiting = self.lock();
            waiting.events.push_back(event);
            let is_full = waiting.events.len() > MOST_WAITING;
            waiting.missed += u64::from(is_full);
            is_full.then(|| waiting.events.pop_front())
        };
        drop(dropped);
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<RoomEvent> {
        let mut waiting = self.lock();
        match std::mem::take(&mut waiting.missed) {
            0 => waiting.events.pop_front(),
            missed => Some(RoomEvent::Missed(missed)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events that wait to be read.
const MOST_WAITING: usize = 1024;
