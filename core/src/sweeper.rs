//! Frees sessions: sleeps until the nearest time at which a policy wants to be asked, and looks only at those that are due.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::cleanup::SessionSnapshot;
use crate::code::EndReason;
use crate::hub::HubInner;
use crate::session::Shared;

#[derive(Debug)]
pub(crate) struct Sweeper {
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    /// Told when something is due earlier than the sweeper sleeps, and when memory is short.
    woken: Arc<Notify>,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    task: Task,
}

#[derive(Debug)]
enum Task {
    /// Ask the policy about this session.
    Check(Weak<Shared>),
    /// The function of an ended session has had its time.
    Abort(AbortHandle),
}

impl Sweeper {
    pub(crate) fn new() -> Self {
        Self { due: Mutex::default(), woken: Arc::default() }
    }

    pub(crate) fn woken(&self) -> Arc<Notify> {
        Arc::clone(&self.woken)
    }

    /// Looks at `session` at this time, unless that is to happen earlier anyway.
    pub(crate) fn schedule(&self, session: &Arc<Shared>, at: Instant) {
        {
            let mut inner = session.lock();
            if inner.scheduled.is_some_and(|scheduled| scheduled <= at) {
                return;
            }
            inner.scheduled = Some(at);
        }
        self.push(Due { at, task: Task::Check(Arc::downgrade(session)) });
    }

    /// Aborts the task at this time, if it still runs.
    pub(crate) fn schedule_abort(&self, task: AbortHandle, at: Instant) {
        self.push(Due { at, task: Task::Abort(task) });
    }

    /// Runs as long as the hub lives.
    pub(crate) async fn run(hub: Weak<HubInner>, woken: Arc<Notify>) {
        loop {
            let wake = {
                let Some(hub) = hub.upgrade() else { return };
                hub.sweeper().sweep(&hub, crate::clock::now());
                hub.relieve_memory();
                hub.sweeper().next()
            };
            match wake {
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

    fn sweep(&self, hub: &Arc<HubInner>, now: Instant) {
        while let Some(due) = self.pop(now) {
            match due.task {
                Task::Abort(task) => task.abort(),
                Task::Check(session) => {
                    if let Some(session) = session.upgrade() {
                        session.lock().scheduled = None;
                        check(hub, &session, now);
                    }
                }
            }
        }
    }

    fn pop(&self, now: Instant) -> Option<Due> {
        let mut heap = self.heap();
        if heap.peek()?.0.at > now {
            return None;
        }
        heap.pop().map(|Reverse(due)| due)
    }

    fn next(&self) -> Option<Instant> {
        self.heap().peek().map(|Reverse(due)| due.at)
    }

    fn heap(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Due>>> {
        self.due.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Asks the policy about one session and does what it says, if the session has not changed meanwhile.
pub(crate) fn check(hub: &Arc<HubInner>, session: &Arc<Shared>, now: Instant) {
    let policy = hub.policy();
    for _ in 0..CHANGES_WHILE_ASKING {
        let snapshot = session.snapshot();
        if snapshot.state == crate::cleanup::SessionState::Closed {
            return;
        }
        hub.count_evaluation();
        let Ok((clean_up, next)) = judge(&*policy, &snapshot, now) else {
            tracing::error!(session = %session.id, "the cleanup policy panicked; it is asked again in a second");
            return hub.sweeper().schedule(session, now + AFTER_A_PANIC);
        };
        if !clean_up {
            if let Some(next) = next {
                hub.sweeper().schedule(session, next.max(now + SOONEST));
            }
            return;
        }
        if session.clean_up(snapshot.version, None::<EndReason>) {
            return;
        }
    }
    hub.sweeper().schedule(session, now + SOONEST);
}

fn judge(
    policy: &dyn crate::cleanup::CleanupPolicy,
    snapshot: &SessionSnapshot,
    now: Instant,
) -> std::thread::Result<(bool, Option<Instant>)> {
    catch_unwind(AssertUnwindSafe(|| {
        let clean_up = policy.should_cleanup(snapshot, now);
        (clean_up, if clean_up { None } else { policy.next_check(snapshot, now) })
    }))
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
