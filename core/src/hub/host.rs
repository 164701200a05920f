//! The hub as its sessions see it: the questions that they ask and the events that they report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::cleanup::{DefaultCleanupPolicy, SessionSnapshot, SessionState};
#[cfg(feature = "durable")]
use crate::durable::store::{Commit, StoreError};
use crate::guard::guarded;
use crate::hub::inner::HubInner;
use crate::kind::ConnectionSetup;
use crate::session::{Host, Resized, SessionHandle, Shared, Teardown};
#[cfg(feature = "durable")]
use stillhere_proto::SessionId;
use stillhere_proto::{EndReason, Message};

impl Host for HubInner {
    fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn share(&self, message: Message) -> Message {
        self.memory.share(message)
    }

    fn keep(&self, session: &SessionSnapshot) -> Duration {
        let policy = self.policy();
        let keep = || {
            if policy.allow_soft_close(session) {
                policy.keep(session)
            } else {
                Duration::ZERO
            }
        };
        guarded(&session.id, "the cleanup policy", keep).unwrap_or(DefaultCleanupPolicy::default().soft_closed)
    }

    fn connection_setup(&self, session: &SessionHandle) -> ConnectionSetup {
        self.kinds.setup(session)
    }

    fn session_started(&self, session: &Shared) {
        self.registry().unconnected.remove(session.number);
    }

    /// Asks the policy whether the session may wait, and when it wants to be asked again.
    fn session_changed(&self, session: &Arc<Shared>, now: Instant) {
        let policy = self.policy();
        let snapshot = self.tell(&*policy, session);
        if snapshot.state == SessionState::Closed {
            return;
        }
        let allowed = !snapshot.state.is_soft_closed()
            || guarded(&session.id, "the cleanup policy", || policy.allow_soft_close(&snapshot)).unwrap_or(true);
        if !allowed {
            // Unless it has changed since: then this is called again.
            session.abort_if_unchanged(snapshot.version, Some(EndReason::Disconnected));
            return;
        }
        match guarded(&session.id, "the cleanup policy", || policy.next_check(&snapshot, now)) {
            Some(Some(at)) => self.schedule.check_at(session, at.max(now)),
            Some(None) => {}
            None => self.schedule.check_at(session, now),
        }
    }

    fn session_resized(&self, session: &Shared, by: Resized) {
        let weighs = || guarded(&session.id, "the cleanup policy", || self.policy().weighs()).unwrap_or(false);
        if by == Resized::Weight || weighs() {
            self.schedule.check_soon(session);
        }
    }

    #[cfg(feature = "durable")]
    fn commit_failed(&self, session: &SessionId, error: &StoreError) {
        if let Some(records) = &self.records {
            records.note_failure(session, error);
        }
    }

    #[cfg(feature = "durable")]
    fn write_end_later(&self, end: Commit) {
        if let Some(records) = &self.records {
            records.unwritten.push(&self.runtime, end);
        }
    }

    #[cfg(feature = "cluster")]
    fn has_others(&self) -> bool {
        self.cluster.is_some()
    }

    fn session_ended(&self, session: &Shared, teardown: Teardown, now: Instant) {
        let Teardown {
            reason,
            never_started,
            task,
            on_restore,
        } = teardown;
        let has_left = session.has_left();
        if has_left {
            tracing::debug!(session = %session.id, %reason, "left a session to another process");
            self.forget(session);
        } else {
            tracing::debug!(session = %session.id, %reason, "session ended");
            self.record_end(session, &reason);
        }
        if reason == EndReason::NeverConnected && self.reach.note_missed() {
            tracing::warn!(
                tickets_lead_to = %self.common.base,
                "no page has reached this hub yet: mount its routes at the path in its tickets, and outside layers that refuse requests, such as CORS"
            );
        }
        self.tell(&*self.policy(), session);
        match task {
            // It must not go on in two processes.
            Some(task) if has_left => task.abort(),
            Some(task) => self.give_grace(task, now),
            None => {}
        }
        guarded(&session.id, "what the application function captured", || {
            drop((never_started, on_restore));
        });
        if let Some(hook) = self.on_end.as_ref().filter(|_| !has_left) {
            guarded(&session.id, "the end hook", || hook(&session.id, &reason));
        }
    }

    fn give_grace(&self, task: AbortHandle, now: Instant) {
        if !task.is_finished()
            && let Some(at) = now.checked_add(self.config.function_grace)
        {
            self.schedule.abort_at(task, at);
        }
    }
}
