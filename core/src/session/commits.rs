//! Writes the turns of a durable session, one commit after another.

#[cfg(feature = "cluster")]
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::durable::head::{Changing, Standing};
use crate::durable::store::{Commit, StoreError, guarded_store};
use crate::session::durable::{Closing, Durable, Turns};
use crate::session::shared::Shared;
use crate::session::state::Inner;
use stillhere_proto::machine::{Saved, Turns as Ended};
use stillhere_proto::{EndReason, PerLane, SessionId};

/// A commit that is on its way.
struct OnItsWay {
    commit: Commit,
    what: What,
    /// The proofs of ownership that it gives: those that were asked for before.
    proofs: u64,
}

/// What counts once a commit does.
enum What {
    Turns {
        turns: Box<Ended>,
        state: Bytes,
        number: u64,
        closing: Option<Closing>,
    },
    End,
    Refresh,
}

impl Shared {
    /// Commits until nothing is left to be committed.
    pub(super) async fn run_commits(self: Arc<Self>) {
        let Some(durable) = self.durable.as_deref() else { return };
        let mut pause = FIRST_PAUSE;
        while let Some(OnItsWay { commit, what, proofs }) = self.next_commit(durable) {
            let keep = commit.keep;
            let end = matches!(what, What::End).then(|| commit.clone());
            match guarded_store(async { durable.store.commit(commit).await }).await {
                Ok(revision) => {
                    pause = FIRST_PAUSE;
                    self.handle_committed(revision, proofs, what);
                }
                Err(StoreError::Fenced) => {
                    tracing::warn!(session = %self.id, "dropped a durable session: another process owns it now");
                    return self.leave_now(&EndReason::Aborted("another process owns the session".into()));
                }
                Err(error) => {
                    let Some(host) = self.common.host.upgrade() else { return };
                    host.commit_failed(&self.id, &error);
                    if let Some(end) = end {
                        // Neither the session nor a task waits for the store.
                        host.write_end_later(end);
                        self.handle_committed(0, 0, What::End);
                        continue;
                    }
                    drop(host);
                    self.handle_failed(what);
                    tokio::time::sleep(pause.min(keep)).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Returns what to commit next. If there is nothing, no task commits from now on.
    fn next_commit(&self, durable: &Durable) -> Option<OnItsWay> {
        // Calls the application, so it happens without the lock.
        let keep = Duration::from_millis(self.keep()) + LEEWAY;
        let (next, is_idle) = {
            let mut inner = self.lock();
            let next = inner.next_commit(durable, &self.id, keep);
            let is_idle = next.is_none();
            let is_over = inner.is_over();
            if let Some(turns) = &mut inner.turns
                && is_idle
            {
                turns.is_committing = false;
                if !is_over {
                    turns.counted = turns.ended;
                }
            }
            (next, is_idle)
        };
        if is_idle {
            self.changed.notify_waiters();
        }
        next
    }

    fn handle_committed(self: &Arc<Self>, revision: u64, proofs: u64, what: What) {
        self.change(|inner, now| {
            let is_over = inner.is_over();
            let Some(turns) = &mut inner.turns else { return };
            turns.revision = revision;
            turns.proofs = turns.proofs.max(proofs);
            match what {
                What::Turns {
                    turns: ended,
                    state,
                    number,
                    closing,
                } => {
                    turns.state = state;
                    turns.saved = ended.saved;
                    turns.counted = number;
                    if is_over {
                        return;
                    }
                    if let Some(ledger) = &mut turns.ledger {
                        ledger.handle_committed(&mut inner.machine, now);
                    }
                    if let Some(Closing {
                        reason,
                        retry_after,
                        wait,
                    }) = closing
                    {
                        inner.machine.close_with(reason, retry_after, wait, now);
                    }
                }
                What::End => turns.end = None,
                // Whoever has asked for a proof meanwhile needs another commit.
                What::Refresh => turns.is_expiring = turns.proofs < turns.proofs_wanted,
            }
        });
        self.changed.notify_waiters();
    }

    fn handle_failed(&self, what: What) {
        if let What::Turns { turns: ended, .. } = what
            && let Some(turns) = &mut self.lock().turns
            && let Some(ledger) = &mut turns.ledger
        {
            ledger.handle_failed(*ended);
        }
    }

    /// Leaves the session to another process, without a word to its page.
    pub(super) fn leave_now(self: &Arc<Self>, reason: &EndReason) {
        self.change(|inner, now| inner.leave(reason, now));
        self.changed.notify_waiters();
    }

    /// Writes the record of a live session again, which would otherwise expire.
    pub(crate) fn refresh_record(self: &Arc<Self>) {
        self.change(|inner, _| {
            if let Some(turns) = &mut inner.turns {
                turns.is_expiring |= turns.revision > 0;
            }
        });
    }

    /// Writes the record and waits for that, if other servers might have taken the session over.
    /// Returns false if one has, and `None` if it cannot be known at present.
    #[cfg(feature = "cluster")]
    pub(crate) async fn proves_ownership(self: &Arc<Self>) -> Option<bool> {
        let has_others = self.common.host.upgrade().is_some_and(|host| host.has_others());
        if self.durable.is_none() || !has_others {
            return Some(true);
        }
        let wanted = self.change(|inner, _| {
            let turns = inner.turns.as_mut().filter(|turns| turns.revision > 0)?;
            turns.is_expiring = true;
            turns.proofs_wanted += 1;
            Some(turns.proofs_wanted)
        });
        let Some(wanted) = wanted else { return Some(true) };
        let proving = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                {
                    let inner = self.lock();
                    match &inner.turns {
                        Some(turns) if turns.has_left => return false,
                        Some(turns) if turns.proofs < wanted && !inner.is_over() => {}
                        _ => return true,
                    }
                }
                changed.await;
            }
        };
        tokio::time::timeout(PROOF_TIME, proving).await.ok()
    }
}

impl Inner {
    fn next_commit(&mut self, durable: &Durable, id: &SessionId, keep: Duration) -> Option<OnItsWay> {
        let acknowledged = self.machine.acknowledged();
        let (is_over, has_document) = (self.is_over(), self.machine.has_document());
        let incarnation = self.machine.incarnation();
        let turns = self.turns.as_mut()?;
        if turns.has_left || turns.is_frozen {
            return None;
        }
        let proofs = turns.proofs_wanted;
        if is_over {
            let reason = turns.end.clone()?;
            if turns.revision == 0 && !has_document {
                turns.end = None;
                return None;
            }
            let head = turns.head(
                durable,
                Standing::Ended((&reason).into()),
                Bytes::new(),
                Saved::default(),
            );
            let mut commit = Commit::new(*id, turns.revision, head, ENDED_KEEP);
            commit.clears_rows = true;
            return Some(OnItsWay {
                commit,
                what: What::End,
                proofs,
            });
        }
        let ended = turns
            .ledger
            .as_mut()
            .and_then(|ledger| ledger.poll_commit(&self.machine));
        let Some(mut ended) = ended else {
            if !turns.is_expiring {
                return None;
            }
            let standing = turns.standing(durable);
            let head = turns.head(durable, standing, turns.state.clone(), turns.saved.clone());
            return Some(OnItsWay {
                commit: Commit::new(*id, turns.revision, head, keep),
                what: What::Refresh,
                proofs,
            });
        };
        let state = ended.state.clone().unwrap_or_else(|| turns.state.clone());
        let head = turns.head(durable, turns.standing(durable), state.clone(), ended.saved.clone());
        let mut commit = Commit::new(*id, turns.revision, head, keep);
        commit.clears_rows = ended.clears_rows;
        commit.acknowledged = if ended.saved.incarnation == incarnation {
            acknowledged
        } else {
            PerLane::default()
        };
        commit.rows = ended.rows.clone();
        ended.state = ended.state.or(Some(state.clone()));
        Some(OnItsWay {
            commit,
            what: What::Turns {
                turns: Box::new(ended),
                state,
                number: turns.ended,
                closing: turns.closing.clone(),
            },
            proofs,
        })
    }
}

impl Turns {
    pub(super) fn standing(&self, durable: &Durable) -> Standing {
        match &self.closing {
            Some(closing) => Standing::Closing((&closing.reason).into()),
            None if self.ledger.is_none() => {
                debug_assert_eq!(durable.durability, crate::durable::durability::Durability::Restart);
                Standing::Lent
            }
            None => Standing::Live,
        }
    }

    pub(super) fn head(&self, durable: &Durable, standing: Standing, state: Bytes, saved: Saved) -> Bytes {
        let changing = Changing {
            standing,
            state_version: durable.state_version,
            state,
            saved,
            turn: self.ended_turn,
            greeted: self.ended_greeted,
        };
        changing.encode(&durable.fixed)
    }
}

/// Pauses after a commit that has failed; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much longer than its session a record is kept, because time without a server does not count.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// How long the record of an ended session is kept.
pub(crate) const ENDED_KEEP: Duration = Duration::from_secs(3600);

/// How long a hello waits for the proof that its session still belongs to this process.
#[cfg(feature = "cluster")]
const PROOF_TIME: Duration = Duration::from_secs(3);
