//! Hands a durable session over to the next process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::durable::durability::Durability;
use crate::durable::head::Standing;
use crate::durable::state::Which;
use crate::durable::store::{Commit, StoreError};
use crate::session::commits::LEEWAY;
use crate::session::durable::Durable;
use crate::session::send::Waiting;
use crate::session::shared::{Shared, Touched};
use crate::session::state::{Function, Inner};
use stillhere_proto::EndReason;
use stillhere_proto::machine::{Phase, Saved};

/// The outcome of handing a session over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandOver {
    /// The next process goes on with it.
    Done,
    /// It has ended meanwhile.
    Ended,
    /// The session cannot go on elsewhere: it is not durable, its function has not come to the end
    /// of its turn, or it could not be written.
    Failed,
}

impl Shared {
    /// Gives the function no more messages, so that it comes to the end of its turn.
    pub(crate) fn begin_hand_over(self: &Arc<Self>) {
        if self.durable.is_some() {
            self.change(|inner, _| {
                if let Some(turns) = &mut inner.turns {
                    turns.is_stopping = true;
                }
            });
            self.reader.wake();
        }
    }

    /// Hands the session over once its function has come to the end of its turn. Its page is told
    /// to come back after `retry_after`.
    pub(crate) async fn hand_over(self: &Arc<Self>, retry_after: Duration, until: Instant) -> HandOver {
        let Some(durable) = self.durable.as_deref() else {
            return HandOver::Failed;
        };
        let _waiting = Waiting::new(&self.senders);
        if tokio::time::timeout_at(until, self.come_to_rest()).await.is_err() {
            return match durable.durability {
                // It goes on from its last commit.
                Durability::Crash if self.lock().turns.as_ref().is_some_and(|turns| turns.revision > 0) => {
                    self.leave_for(retry_after)
                }
                Durability::Crash | Durability::Restart => HandOver::Failed,
            };
        }
        if self.end_reason().is_some() {
            if self.has_left() {
                return HandOver::Done;
            }
            let _ = tokio::time::timeout_at(until, self.end_is_written()).await;
            return HandOver::Ended;
        }
        let is_written = durable.durability == Durability::Crash
            && self.lock().turns.as_ref().is_some_and(|turns| turns.revision > 0);
        if is_written || self.write(durable, retry_after, until).await {
            self.leave_for(retry_after)
        } else {
            HandOver::Failed
        }
    }

    /// Waits until the function is at the end of a turn and all its turns count. Nothing can be
    /// sent from then on.
    async fn come_to_rest(self: &Arc<Self>) {
        loop {
            // Before the subscription, which it would notify.
            self.end_outside_turn();
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let rests = self.touch(|inner| {
                let is_over = inner.is_over();
                let rests = is_over || inner.is_at_rest();
                if let Some(turns) = &mut inner.turns {
                    turns.is_frozen = rests && !is_over;
                }
                (rests, Touched::Nothing)
            });
            if rests {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the end of the session is written.
    async fn end_is_written(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.lock().turns.as_ref().is_none_or(|turns| turns.end.is_none()) {
                return;
            }
            changed.await;
        }
    }

    /// Writes the whole record, because what it holds is not current.
    async fn write(self: &Arc<Self>, durable: &Durable, retry_after: Duration, until: Instant) -> bool {
        let keep = Duration::from_millis(self.keep()) + LEEWAY;
        let mut encoded = None;
        durable.state.end_turn(Which::Every, &mut |state| {
            encoded = state.ok().flatten();
            true
        });
        let Some(state) = encoded else {
            tracing::error!(session = %self.id, "a durable session ends: its state cannot be encoded");
            return false;
        };
        let commit = self.change(|inner, now| {
            inner.queue_all();
            // What arrives from now on belongs to the next process.
            inner.machine.hand_over(retry_after, now);
            let standing = match inner.machine.phase() {
                Phase::Ending(reason) => Standing::Closing(reason.into()),
                _ => Standing::Live,
            };
            let turns = inner.turns.as_ref()?;
            let saved = Saved {
                document: inner.machine.document(),
                incarnation: inner.machine.incarnation(),
                generation: turns.generation,
                lanes: inner.machine.save(),
                queued: inner.machine.queued_charge(),
            };
            let mut commit = Commit::new(
                self.id,
                turns.revision,
                turns.head(durable, standing, state, saved),
                keep,
            );
            commit.clears_rows = true;
            commit.rows = inner.machine.rows();
            Some(commit)
        });
        let Some(commit) = commit else { return false };
        loop {
            // A task of its own, because a shutdown can be shared between threads, and the future
            // of a store cannot.
            let (store, commit) = (Arc::clone(&durable.store), commit.clone());
            let writing = tokio::spawn(async move { store.commit(commit).await });
            let lost = |_| Err(StoreError::Failed("the store panicked".to_owned()));
            let written = async { writing.await.unwrap_or_else(lost) };
            match tokio::time::timeout_at(until + WRITE_TIME, written).await {
                Ok(Ok(_)) => return true,
                Ok(Err(error)) if error != StoreError::Fenced && Instant::now() < until => {
                    if let Some(host) = self.common.host.upgrade() {
                        host.commit_failed(&self.id, &error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(error)) => {
                    tracing::error!(session = %self.id, %error, "a durable session ends: it could not be written");
                    return false;
                }
                Err(_) => {
                    tracing::error!(session = %self.id, "a durable session ends: it was not written in time");
                    return false;
                }
            }
        }
    }

    fn leave_for(self: &Arc<Self>, retry_after: Duration) -> HandOver {
        self.change(|inner, now| {
            inner.machine.hand_over(retry_after, now);
            inner.leave(&EndReason::Draining, now);
        });
        self.changed.notify_waiters();
        HandOver::Done
    }
}

impl Inner {
    /// Returns true if no turn goes on and all that have ended count.
    fn is_at_rest(&self) -> bool {
        let Some(turns) = &self.turns else { return true };
        let no_function = matches!(self.function, Function::Unstarted(_) | Function::Returned);
        let has_ended = no_function || turns.is_reading && self.gate.is_none();
        has_ended && !turns.is_committing && turns.counted >= turns.ended && turns.closing.is_none()
            || matches!(self.machine.phase(), Phase::Ending(_)) && !turns.is_committing
    }
}

/// Pause after a commit that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How much longer than the deadline a commit may take that has begun.
const WRITE_TIME: Duration = Duration::from_millis(500);
