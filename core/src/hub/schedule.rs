//! The schedule of the cleanup: which sessions to check and which tasks to abort, and when.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::hub::shrink::shrink_to;
use crate::lock::Lock;
use crate::session::Shared;
use stillhere_proto::SessionId;

/// The due times, and the sessions to check at once.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When to ask the policy about which session. The ids stand for the sessions, so that little
    /// of an ended session remains until its due time.
    checks: Times<SessionId>,
    /// When to abort the functions of ended sessions, whose grace period is then over.
    aborts: Times<AbortHandle>,
    /// Sessions to check at once, regardless of their due times. `Inner::is_queued` ensures that
    /// each is here at most once.
    queue: Lock<VecDeque<SessionId>>,
    /// Notified when the sweep must run earlier than it expects: something is due earlier, memory
    /// is short, or the hub was dropped.
    woken: Arc<Notify>,
}

/// What is due at which time.
#[derive(Debug)]
struct Times<T>(Lock<BinaryHeap<Reverse<Due<T>>>>);

#[derive(Debug)]
pub(super) struct Due<T> {
    pub(super) at: Instant,
    pub(super) what: T,
}

impl Schedule {
    pub(super) fn woken(&self) -> Arc<Notify> {
        Arc::clone(&self.woken)
    }

    /// Schedules a check of the session at this time, unless an earlier one is scheduled.
    pub(super) fn check_at(&self, session: &Shared, at: Instant) {
        {
            let mut inner = session.lock();
            if inner.scheduled.is_some_and(|scheduled| scheduled <= at) {
                return;
            }
            inner.scheduled = Some(at);
        }
        self.wake_if(self.checks.push(at, session.id));
    }

    /// Schedules a check of the session as soon as possible, on the thread of the sweep. A
    /// scheduled check remains.
    pub(super) fn check_soon(&self, session: &Shared) {
        if std::mem::replace(&mut session.lock().is_queued, true) {
            return;
        }
        let is_first = {
            let mut queue = self.queue.lock();
            queue.push_back(session.id);
            queue.len() == 1
        };
        if is_first {
            self.woken.notify_one();
        }
    }

    /// Schedules the abort of a task, if it still runs at this time.
    pub(super) fn abort_at(&self, task: AbortHandle, at: Instant) {
        self.wake_if(self.aborts.push(at, task));
    }

    /// Empties the schedule and wakes the sweep, which then stops because the hub was dropped.
    /// Returns the tasks that were to be aborted.
    pub(super) fn close(&self) -> Vec<AbortHandle> {
        let due = std::mem::take(&mut *self.aborts.0.lock());
        self.woken.notify_one();
        due.into_iter().map(|Reverse(due)| due.what).collect()
    }

    /// Takes the next session to check at once.
    pub(super) fn pop_queued(&self) -> Option<SessionId> {
        let mut queue = self.queue.lock();
        if let Some(capacity) = shrink_to(queue.len(), queue.capacity(), KEPT_CAPACITY) {
            queue.shrink_to(capacity);
        }
        queue.pop_front()
    }

    /// Takes the next session whose check is due.
    pub(super) fn pop_check(&self, now: Instant) -> Option<Due<SessionId>> {
        self.checks.pop(now)
    }

    /// Takes the next task that is to be aborted by now.
    pub(super) fn pop_abort(&self, now: Instant) -> Option<AbortHandle> {
        self.aborts.pop(now).map(|due| due.what)
    }

    /// Returns when the sweep must run next.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if !self.queue.lock().is_empty() {
            return Some(now);
        }
        [self.checks.next(), self.aborts.next()].into_iter().flatten().min()
    }

    fn wake_if(&self, is_next: bool) {
        if is_next {
            self.woken.notify_one();
        }
    }
}

impl<T> Times<T> {
    /// Adds an entry. Returns true if it is due before all others.
    fn push(&self, at: Instant, what: T) -> bool {
        let mut heap = self.0.lock();
        let is_next = heap.peek().is_none_or(|Reverse(due)| at < due.at);
        heap.push(Reverse(Due { at, what }));
        is_next
    }

    fn pop(&self, now: Instant) -> Option<Due<T>> {
        let mut heap = self.0.lock();
        if let Some(capacity) = shrink_to(heap.len(), heap.capacity(), KEPT_CAPACITY) {
            heap.shrink_to(capacity);
        }
        if heap.peek()?.0.at > now {
            return None;
        }
        heap.pop().map(|Reverse(due)| due)
    }

    fn next(&self) -> Option<Instant> {
        self.0.lock().peek().map(|Reverse(due)| due.at)
    }
}

impl<T> Default for Times<T> {
    fn default() -> Self {
        Self(Lock::default())
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

/// The capacity that a queue keeps even when it is empty.
const KEPT_CAPACITY: usize = 1024;
