//! Hands a durable session over to the next process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::durable::durability::Durability;
use crate::durable::head::Standing;
use crate::durable::state::{EncodeError, Which};
use crate::durable::store::{Commit, StoreError};
use crate::session::commits::LEEWAY;
use crate::session::durable::{Closing, Durable};
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
        loop {
            let goes_by_turns = || durable.durability == Durability::Crash && self.is_written();
            let rest = tokio::time::timeout_at(until, self.come_to_rest(durable, goes_by_turns())).await;
            let written = match rest {
                // It goes on from its last commit.
                _ if goes_by_turns() => Some(Written::ByTurns),
                Ok(Some(state)) => self.write(durable, state, retry_after, until).await,
                // It has ended, or was written for the first time since it was asked.
                Ok(None) => Some(Written::ByTurns),
                Err(_) => None,
            };
            let Some(written) = written else {
                // It ends in this process.
                self.change(|inner, _| inner.thaw());
                return HandOver::Failed;
            };
            match self.leave_for(retry_after, written) {
                Leaving::HasLeft => return HandOver::Done,
                Leaving::HasEnded => {
                    let _ = tokio::time::timeout_at(until, self.end_is_written()).await;
                    return HandOver::Ended;
                }
                Leaving::Closes(closing) => {
                    self.close_with_turn(&closing.reason, closing.retry_after, closing.wait);
                }
                Leaving::IsOutdated => {}
            }
        }
    }

    fn is_written(&self) -> bool {
        self.lock().turns.as_ref().is_some_and(|turns| turns.revision > 0)
    }

    /// Waits until the function is at the end of a turn and all its turns count. Nothing can be
    /// sent from then on. Returns the state of a session that has to be written, which is that at
    /// the end of the turn.
    async fn come_to_rest(self: &Arc<Self>, durable: &Durable, is_written: bool) -> Option<EncodedState> {
        loop {
            // Before the subscription, which it would notify.
            self.end_outside_turn();
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_written {
                if self.freeze() {
                    return None;
                }
            } else if self.lock().may_freeze() {
                let (mut rests, mut encoded) = (false, None);
                // The state cannot change before nothing can be sent.
                durable.state.end_turn(Which::Every, &mut |state| {
                    rests = self.freeze();
                    encoded = state.transpose();
                    rests
                });
                if rests {
                    return encoded.filter(|_| self.end_reason().is_none());
                }
            }
            changed.await;
        }
    }

    /// Stops everything that could be sent, if the session rests. Returns true if it does, or has
    /// ended.
    fn freeze(self: &Arc<Self>) -> bool {
        self.touch(|inner| {
            let rests = inner.may_freeze();
            let is_over = inner.is_over();
            if let Some(turns) = &mut inner.turns {
                turns.is_frozen = rests && !is_over;
            }
            (rests, Touched::Nothing)
        })
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
    /// Returns `None` if it cannot be written.
    async fn write(
        self: &Arc<Self>,
        durable: &Durable,
        state: EncodedState,
        retry_after: Duration,
        until: Instant,
    ) -> Option<Written> {
        let keep = Duration::from_millis(self.keep()) + LEEWAY;
        let state = state
            .inspect_err(|error| {
                tracing::error!(session = %self.id, %error, "a durable session ends: its state cannot be encoded");
            })
            .ok()?;
        let commit = self.change(|inner, now| {
            inner.queue_all();
            // What arrives from now on belongs to the next process.
            inner.machine.hand_over(retry_after, now);
            let (standing, written) = match inner.machine.phase() {
                Phase::Ending(reason) => (Standing::Closing(reason.into()), Written::Closing),
                _ => (Standing::Live, Written::Live),
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
            Some((commit, written))
        });
        let (commit, written) = commit?;
        loop {
            // A task of its own, because a shutdown can be shared between threads, and the future
            // of a store cannot.
            let (store, commit) = (Arc::clone(&durable.store), commit.clone());
            let writing = tokio::spawn(async move { store.commit(commit).await });
            let lost = |_| Err(StoreError::Failed("the store panicked".to_owned()));
            let writing = async { writing.await.unwrap_or_else(lost) };
            match tokio::time::timeout_at(until + WRITE_TIME, writing).await {
                Ok(Ok(revision)) => {
                    if let Some(turns) = &mut self.lock().turns {
                        turns.revision = revision;
                    }
                    return Some(written);
                }
                Ok(Err(error)) if error != StoreError::Fenced && Instant::now() < until => {
                    if let Some(host) = self.common.host.upgrade() {
                        host.commit_failed(&self.id, &error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(error)) => {
                    tracing::error!(session = %self.id, %error, "a durable session ends: it could not be written");
                    return None;
                }
                Err(_) => {
                    tracing::error!(session = %self.id, "a durable session ends: it was not written in time");
                    return None;
                }
            }
        }
    }

    /// Leaves the session to the next process, unless it was closed or aborted while it was being
    /// written.
    fn leave_for(self: &Arc<Self>, retry_after: Duration, written: Written) -> Leaving {
        let leaving = self.change(|inner, now| inner.leave_as_written(retry_after, written, now));
        self.changed.notify_waiters();
        leaving
    }
}

type EncodedState = Result<Bytes, EncodeError>;

/// What the record says of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Live,
    Closing,
    /// What the last turn that counts says.
    ByTurns,
}

/// Whether a session has left.
enum Leaving {
    HasLeft,
    /// It has ended, and that will be written.
    HasEnded,
    /// It is to be closed with a turn, which has to be written.
    Closes(Closing),
    /// The record has to be written again.
    IsOutdated,
}

impl Inner {
    fn leave_as_written(&mut self, retry_after: Duration, written: Written, now: std::time::Instant) -> Leaving {
        let (is_over, is_ending) = (self.is_over(), self.is_ending_or_over());
        let Some(turns) = &mut self.turns else {
            return Leaving::HasEnded;
        };
        if turns.has_left {
            return Leaving::HasLeft;
        }
        let late = turns.late_closing.take();
        if is_over || late.is_some() || is_ending && written == Written::Live {
            turns.is_frozen = false;
            return match late {
                _ if is_over => Leaving::HasEnded,
                Some(closing) => Leaving::Closes(closing),
                None => Leaving::IsOutdated,
            };
        }
        self.machine.hand_over(retry_after, now);
        self.leave(&EndReason::Draining, now);
        Leaving::HasLeft
    }

    fn thaw(&mut self) {
        if let Some(turns) = &mut self.turns {
            turns.is_frozen = false;
        }
    }

    fn may_freeze(&self) -> bool {
        self.is_over() || self.is_at_rest()
    }

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
