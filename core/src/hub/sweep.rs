//! The task that frees sessions. It sleeps until something is due, and checks only sessions that
//! are due.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::hub::inner::HubInner;

/// Runs until the hub is dropped.
pub(super) async fn run_sweep(hub: Weak<HubInner>, woken: Arc<Notify>) {
    loop {
        let next = {
            let Some(hub) = hub.upgrade() else { return };
            hub.sweep(crate::clock::now())
        };
        match next {
            Some(at) if at <= crate::clock::now() => tokio::task::yield_now().await,
            Some(at) => {
                let _ = tokio::time::timeout_at(at.into(), woken.notified()).await;
            }
            None => woken.notified().await,
        }
    }
}

impl HubInner {
    /// Does what is due, up to a number of steps so that other tasks on the thread get their turn.
    /// Returns when to continue.
    fn sweep(&self, now: Instant) -> Option<Instant> {
        self.check_queued(now);
        self.do_due(now);
        let retry = (!self.enforce_memory_limit()).then(|| now + MEMORY_RETRY);
        [self.schedule.next(now), retry].into_iter().flatten().min()
    }

    fn check_queued(&self, now: Instant) {
        for _ in 0..STEPS {
            let Some(id) = self.schedule.pop_queued() else { return };
            if let Some(session) = self.find(&id) {
                // Before the check, so that a later change queues the session again.
                session.lock().is_queued = false;
                self.check(&session, now);
            }
        }
    }

    fn do_due(&self, now: Instant) {
        for _ in 0..STEPS {
            let Some(task) = self.schedule.pop_abort(now) else {
                break;
            };
            task.abort();
        }
        for _ in 0..STEPS {
            let Some(due) = self.schedule.pop_check(now) else {
                return;
            };
            let Some(session) = self.find(&due.what) else { continue };
            // Otherwise the check has been moved to another time.
            let is_current = session.lock().scheduled.take_if(|at| *at == due.at).is_some();
            if is_current {
                self.check(&session, now);
            }
        }
    }
}

/// The number of sessions that one sweep checks from each list.
const STEPS: usize = 256;

/// Delay before the memory is checked again if ending sessions has not freed enough.
const MEMORY_RETRY: Duration = Duration::from_millis(100);
