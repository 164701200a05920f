//! The schedule of the cleanup: which sessions to check and which tasks to abort, and when.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::hub::registry::{KEPT_CAPACITY, shrink_to};
use crate::lock::Lock;
use crate::session::Shared;
use stillhere_proto::SessionId;

/// The due times, and the sessions to check at once.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: Lock<BinaryHeap<Reverse<Due>>>,
    /// Sessions to check at once, regardless of their due times. `Inner::is_queued` ensures that
    /// each is here at most once.
    queue: Lock<VecDeque<SessionId>>,
    /// Notified when the sweep must run earlier than it expects: something is due earlier, memory
    /// is short, or the hub was dropped.
    woken: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) task: Task,
}

/// Names the session instead of holding it, so that little of an ended session remains until its
/// due time.
#[derive(Debug)]
pub(super) enum Task {
    /// Ask the policy about this session.
    Check(SessionId),
    /// Abort the function of an ended session, whose grace period is over.
    Abort(AbortHandle),
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
        let task = Task::Check(session.id);
        self.push(Due { at, task });
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
        let task = Task::Abort(task);
        self.push(Due { at, task });
    }

    /// Empties the schedule and wakes the sweep, which then stops because the hub was dropped.
    /// Returns the tasks that were to be aborted.
    pub(super) fn close(&self) -> Vec<AbortHandle> {
        let due = std::mem::take(&mut *self.due.lock());
        self.woken.notify_one();
        let tasks = due.into_iter().filter_map(|Reverse(due)| match due.task {
            Task::Abort(task) => Some(task),
            Task::Check(_) => None,
        });
        tasks.collect()
    }

    /// Takes the next session to check at once.
    pub(super) fn pop_queued(&self) -> Option<SessionId> {
        let mut queue = self.queue.lock();
        if let Some(capacity) = shrink_to(queue.len(), queue.capacity(), KEPT_CAPACITY) {
            queue.shrink_to(capacity);
        }
        queue.pop_front()
    }

    /// Takes the next task that is due.
    pub(super) fn pop_due(&self, now: Instant) -> Option<Due> {
        let mut heap = self.due.lock();
        if let Some(capacity) = shrink_to(heap.len(), heap.capacity(), KEPT_CAPACITY) {
            heap.shrink_to(capacity);
        }
        if heap.peek()?.0.at > now {
            return None;
        }
        heap.pop().map(|Reverse(due)| due)
    }

    /// Returns when the sweep must run next.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if !self.queue.lock().is_empty() {
            return Some(now);
        }
        self.due.lock().peek().map(|Reverse(due)| due.at)
    }

    fn push(&self, due: Due) {
        let at = due.at;
        let nearest = {
            let mut heap = self.due.lock();
            let nearest = heap.peek().map(|Reverse(due)| due.at);
            heap.push(Reverse(due));
            nearest
        };
        if nearest.is_none_or(|nearest| at < nearest) {
            self.woken.notify_one();
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
