//! How a session starts and ends.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::guard::guarded;
use crate::session::host::{Home, Host};
use crate::session::shared::{Shared, Touched};
use crate::session::state::{Application, ApplicationFuture, Function};
use crate::session::{Session, SessionHandle};
use stillhere_proto::EndReason;
use stillhere_proto::machine::Phase;

impl Shared {
    /// Spawns the application function. Called when the first browser connects.
    pub(super) fn start(self: &Arc<Self>, host: &dyn Host, home: Home, application: Application) {
        host.session_started(self);
        let incarnation = {
            let mut inner = self.lock();
            inner.note_started();
            inner.known_document()
        };
        let session = Session {
            handle: SessionHandle::new(Arc::clone(self)),
            incarnation,
        };
        let task = home.spawn(
            host,
            RunningFunction {
                future: Some(application(session)),
                end: EndWithTask(Arc::clone(self)),
            },
        );
        let mut inner = self.lock();
        match inner.function {
            Function::Starting if inner.is_over() => {
                drop(inner);
                host.give_grace(task, crate::clock::now());
            }
            Function::Starting => inner.function = Function::Running(task),
            Function::Unstarted(_) | Function::Running(_) | Function::Returned => {}
        }
    }

    /// Ends the session once everything sent has been delivered.
    pub(crate) fn close(self: &Arc<Self>, reason: EndReason) {
        let ending = self.options.timing.ending;
        if !self.close_with_turn(&reason, Duration::ZERO, ending) {
            self.change(|inner, now| inner.close(reason, now));
        }
    }

    /// Closes the session as [`EndReason::Draining`]. Browsers are told to reconnect after
    /// `retry_after`. Delivery of the last messages may take up to `wait`.
    pub(crate) fn drain(self: &Arc<Self>, retry_after: Duration, wait: Duration) {
        if self.close_with_turn(&EndReason::Draining, retry_after, wait) {
            return;
        }
        self.change(|inner, now| {
            inner.queue_all();
            inner.machine.close_with(EndReason::Draining, retry_after, wait, now);
        });
    }

    /// Ends the session at once.
    pub(crate) fn abort(self: &Arc<Self>, reason: EndReason) {
        self.update(|machine, now| machine.abort(reason, now));
    }

    /// Ends the session at once. If it is closing already, it keeps the reason it closes with.
    pub(crate) fn abort_now(self: &Arc<Self>, reason: EndReason) {
        self.update(|machine, now| {
            let reason = match machine.phase() {
                Phase::Ending(reason) => reason.clone(),
                Phase::Unconnected | Phase::Open | Phase::SoftClosed(_) | Phase::Closed(_) => reason,
            };
            machine.abort(reason, now);
        });
    }

    /// Ends the session at once if nothing has changed since `version`, and returns whether it did.
    /// Without a `reason` it ends as [`EndReason::NeverConnected`] or [`EndReason::Expired`].
    pub(crate) fn abort_if_unchanged(self: &Arc<Self>, version: u64, reason: Option<EndReason>) -> bool {
        self.change(|inner, now| {
            if inner.version() != version || !inner.takes_hello() {
                return false;
            }
            let machine = &mut inner.machine;
            let reason = match (machine.phase(), reason) {
                (Phase::Ending(reason), _) => reason.clone(),
                (_, Some(reason)) => reason,
                (Phase::Unconnected, None) => EndReason::NeverConnected,
                (_, None) => EndReason::Expired,
            };
            machine.abort(reason, now);
            true
        })
    }

    /// Ends the session at once while its hub is being dropped, when the weak reference to the hub
    /// no longer works.
    pub(crate) fn abort_on(self: &Arc<Self>, host: &dyn Host, reason: EndReason) {
        let ((), follow_up) = self.settle(|inner| {
            let now = crate::clock::now();
            if !inner.leave(&reason, now) {
                inner.machine.abort(reason, now);
            }
            ((), Touched::Machine { awake: None })
        });
        self.follow_up(follow_up, host, Home::Hub);
    }

    /// Returns why the session has ended, or `None` while it has not.
    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        match self.lock().machine.phase() {
            Phase::Closed(reason) => Some(reason.clone()),
            Phase::Unconnected | Phase::Open | Phase::SoftClosed(_) | Phase::Ending(_) => None,
        }
    }
}

/// Runs the application function, and ends the session when it returns or panics.
///
/// Written by hand instead of as an `async` block, because a session has it even while it waits for
/// its browser: an `async` block would take more than twice as much memory.
struct RunningFunction {
    /// `None` once the function has returned. Dropped before `end`.
    future: Option<ApplicationFuture>,
    end: EndWithTask,
}

impl Future for RunningFunction {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { future, end } = &mut *self;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if let Some(function) = future {
                ready!(function.as_mut().poll(context));
            }
            *future = None;
            Poll::Ready(())
        }));
        let panicked = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => false,
            Err(_) => true,
        };
        if panicked {
            tracing::error!(session = %end.0.id, "the application function panicked, so its session ends");
            guarded(&end.0.id, "what the application function held", || *future = None);
        }
        let is_frozen = end.0.change(|inner, now| {
            inner.function = Function::Returned;
            let is_frozen = inner.is_frozen();
            if panicked && !is_frozen {
                inner.machine.abort(EndReason::Panicked, now);
            }
            is_frozen
        });
        // While the session is handed over, the next process goes on from the turn before.
        if !panicked && !is_frozen {
            end.0.close(EndReason::Finished);
        }
        Poll::Ready(())
    }
}

/// Ends the session if the task of its function is dropped before the function has returned,
/// because the runtime that it runs on has shut down.
struct EndWithTask(Arc<Shared>);

impl Drop for EndWithTask {
    fn drop(&mut self) {
        self.0.touch(|inner| match inner.function {
            Function::Starting | Function::Running(_) => {
                let reason = EndReason::Aborted("the runtime of its function has shut down".into());
                let now = crate::clock::now();
                if !inner.leave(&reason, now) {
                    inner.machine.abort(reason, now);
                }
                ((), Touched::Machine { awake: None })
            }
            Function::Unstarted(_) | Function::Returned => ((), Touched::Nothing),
        });
    }
}
