//! Frees sessions: sleeps until the nearest time at which a policy wants to be asked, and looks only at those that are due.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};
use crate::guard::guarded;
use crate::hub::{HubInner, KEPT_CAPACITY, SPARSE};
use crate::lock::Lock;
use crate::session::Shared;
use stillhere_proto::SessionId;

#[derive(Debug)]
pub(crate) struct Sweeper {
    due: Lock<BinaryHeap<Reverse<Due>>>,
    /// Who is to be judged now, whatever was scheduled. Each at most once: `Inner::called_up`.
    called_up: Lock<VecDeque<SessionId>>,
    /// Told when something is due earlier than the sweeper sleeps, when memory is short, and when the hub is gone.
    woken: Arc<Notify>,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    task: Task,
}

/// Names what it is about, so that an ended session leaves little behind until its time would have come.
#[derive(Debug)]
enum Task {
    /// Ask the policy about this session.
    Check(SessionId),
    /// The function of an ended session has had its time.
    Abort(AbortHandle),
}

impl Sweeper {
    pub(crate) fn new() -> Self {
        Self {
            due: Lock::default(),
            called_up: Lock::default(),
            woken: Arc::default(),
        }
    }

    pub(crate) fn woken(&self) -> Arc<Notify> {
        Arc::clone(&self.woken)
    }

    /// Looks at `session` at this time, unless that is to happen earlier anyway.
    pub(crate) fn schedule(&self, session: &Shared, at: Instant) {
        {
            let mut inner = session.lock();
            if inner.scheduled.is_some_and(|scheduled| scheduled <= at) {
                return;
            }
            inner.scheduled = Some(at);
        }
        self.push(Due {
            at,
            task: Task::Check(session.id),
        });
    }

    /// Looks at `session` soon, and not on this thread. What was scheduled stays.
    pub(crate) fn call_up(&self, session: &Shared) {
        if std::mem::replace(&mut session.lock().called_up, true) {
            return;
        }
        let is_first = {
            let mut called_up = self.called_up();
            called_up.push_back(session.id);
            called_up.len() == 1
        };
        if is_first {
            self.woken.notify_one();
        }
    }

    /// Aborts the task at this time, if it still runs.
    pub(crate) fn schedule_abort(&self, task: AbortHandle, at: Instant) {
        self.push(Due {
            at,
            task: Task::Abort(task),
        });
    }

    /// The hub is gone: the sweeper stops. The tasks it would have aborted.
    pub(crate) fn close(&self) -> Vec<AbortHandle> {
        let due = std::mem::take(&mut *self.heap());
        self.woken.notify_one();
        let tasks = due.into_iter().filter_map(|Reverse(due)| match due.task {
            Task::Abort(task) => Some(task),
            Task::Check(_) => None,
        });
        tasks.collect()
    }

    /// Runs as long as the hub lives.
    pub(crate) async fn run(hub: Weak<HubInner>, woken: Arc<Notify>) {
        loop {
            let wake = {
                let Some(hub) = hub.upgrade() else { return };
                let now = crate::clock::now();
                hub.sweeper().sweep(&hub, now);
                let again = if hub.relieve_memory() {
                    None
                } else {
                    Some(now + RELIEF_AGAIN)
                };
                [hub.sweeper().next(now), again].into_iter().flatten().min()
            };
            match wake {
                Some(at) if at <= crate::clock::now() => tokio::task::yield_now().await,
                Some(at) => {
                    let _ = tokio::time::timeout_at(at.into(), woken.notified()).await;
                }
                None => woken.notified().await,
            }
        }
    }

    fn push(&self, due: Due) {
        let at = due.at;
        let mut heap = self.heap();
        let nearest = heap.peek().map(|Reverse(due)| due.at);
        heap.push(Reverse(due));
        drop(heap);
        if nearest.is_none_or(|nearest| at < nearest) {
            self.woken.notify_one();
        }
    }

    /// Does what is due, but not so much that everything else on this thread waits for it.
    fn sweep(&self, hub: &HubInner, now: Instant) {
        self.sweep_called_up(hub, now);
        for _ in 0..DUE_IN_A_ROW {
            let Some(due) = self.pop(now) else { return };
            match due.task {
                Task::Abort(task) => task.abort(),
                Task::Check(id) => {
                    if let Some(session) = hub.find(&id)
                        && session
                            .lock()
                            .scheduled
                            .take_if(|scheduled| *scheduled == due.at)
                            .is_some()
                    {
                        check(hub, &session, now);
                    }
                }
            }
        }
    }

    fn sweep_called_up(&self, hub: &HubInner, now: Instant) {
        for _ in 0..DUE_IN_A_ROW {
            let Some(id) = self.pop_called_up() else { return };
            if let Some(session) = hub.find(&id) {
                // First: what changes from here on calls it up again.
                session.lock().called_up = false;
                check(hub, &session, now);
            }
        }
    }

    fn pop_called_up(&self) -> Option<SessionId> {
        let mut called_up = self.called_up();
        if called_up.len() < called_up.capacity() / SPARSE && called_up.capacity() > KEPT_CAPACITY {
            let len = called_up.len();
            called_up.shrink_to(2 * len);
        }
        called_up.pop_front()
    }

    fn pop(&self, now: Instant) -> Option<Due> {
        let mut heap = self.heap();
        if heap.len() < heap.capacity() / SPARSE && heap.capacity() > KEPT_CAPACITY {
            let len = heap.len();
            heap.shrink_to(2 * len);
        }
        if heap.peek()?.0.at > now {
            return None;
        }
        heap.pop().map(|Reverse(due)| due)
    }

    /// When there is something to do.
    fn next(&self, now: Instant) -> Option<Instant> {
        if !self.called_up().is_empty() {
            return Some(now);
        }
        self.heap().peek().map(|Reverse(due)| due.at)
    }

    fn called_up(&self) -> MutexGuard<'_, VecDeque<SessionId>> {
        self.called_up.lock()
    }

    fn heap(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Due>>> {
        self.due.lock()
    }
}

/// Asks the policy about one session and does what it says, if the session has not changed meanwhile.
pub(crate) fn check(hub: &HubInner, session: &Arc<Shared>, now: Instant) {
    let policy = hub.policy();
    for _ in 0..CHANGES_WHILE_ASKING {
        let snapshot = hub.tell(&*policy, session);
        if snapshot.state == SessionState::Closed {
            return;
        }
        hub.count_evaluation();
        let judged = guarded(&session.id, "the cleanup policy", || judge(&*policy, &snapshot, now));
        let (clean_up, next) = judged.unwrap_or((false, now.checked_add(AFTER_A_PANIC)));
        if !clean_up {
            if let Some(next) = next {
                hub.sweeper()
                    .schedule(session, if next > now { next } else { now + SOONEST });
            }
            return;
        }
        if session.abort_if_unchanged(snapshot.version, None) {
            return;
        }
    }
    hub.sweeper().schedule(session, now + SOONEST);
}

/// Tells the policy how the session is, and if that was late, how it is now: so that the last thing it hears of a session is true, whoever
/// else tells it something meanwhile. Whom it wants to judge for that.
pub(crate) fn observe(policy: &dyn CleanupPolicy, session: &Shared) -> (SessionSnapshot, Vec<SessionId>) {
    let mut called_up = Vec::new();
    let mut snapshot = session.snapshot();
    loop {
        let more = guarded(&session.id, "the cleanup policy", || policy.observe(&snapshot));
        called_up.extend(more.unwrap_or_default());
        let newer = session.snapshot();
        if newer.is_as(&snapshot) {
            return (snapshot, called_up);
        }
        snapshot = newer;
    }
}

fn judge(policy: &dyn CleanupPolicy, snapshot: &SessionSnapshot, now: Instant) -> (bool, Option<Instant>) {
    let clean_up = policy.should_cleanup(snapshot, now);
    (
        clean_up,
        if clean_up {
            None
        } else {
            policy.next_check(snapshot, now)
        },
    )
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

const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// A policy that wants to be asked again at once is asked this often.
const SOONEST: Duration = Duration::from_millis(10);

/// How often a session may change under the policy's eyes before it is left for later.
const CHANGES_WHILE_ASKING: usize = 3;

/// How much is done before others get their turn.
const DUE_IN_A_ROW: usize = 256;

/// When to look again if ending sessions has not freed enough.
const RELIEF_AGAIN: Duration = Duration::from_millis(100);
