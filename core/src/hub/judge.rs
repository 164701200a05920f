//! Asks the cleanup policy about a session, and carries out its decision.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};
use crate::guard::guarded;
use crate::hub::inner::HubInner;
use crate::session::Shared;
use stillhere_proto::SessionId;

impl HubInner {
    /// Ends the session if the policy decides so and the session has not changed meanwhile.
    /// Otherwise schedules the next check.
    pub(super) fn check(&self, session: &Arc<Shared>, now: Instant) {
        let policy = self.policy();
        for _ in 0..ATTEMPTS {
            let snapshot = self.tell(&*policy, session);
            if snapshot.state == SessionState::Closed {
                return;
            }
            self.count_evaluation();
            let judged = guarded(&session.id, "the cleanup policy", || judge(&*policy, &snapshot, now));
            match judged.unwrap_or(Verdict::Keep(now.checked_add(AFTER_A_PANIC))) {
                Verdict::Keep(next) => {
                    if let Some(next) = next {
                        let next = if next > now { next } else { now + SOONEST };
                        self.schedule.check_at(session, next);
                    }
                    return;
                }
                Verdict::End if session.abort_if_unchanged(snapshot.version, None) => return,
                Verdict::End => {}
            }
        }
        self.schedule.check_at(session, now + SOONEST);
    }

    /// Reports the state of the session to the policy, and queues the sessions that the policy
    /// wants to judge because of it.
    pub(super) fn tell(&self, policy: &dyn CleanupPolicy, session: &Shared) -> SessionSnapshot {
        let (snapshot, to_check) = observe(session, |snapshot| {
            let to_check = guarded(&session.id, "the cleanup policy", || policy.observe(snapshot));
            // Afterwards, because if it has left, they answer with who has it now.
            self.tell_others(policy, snapshot);
            to_check.unwrap_or_default()
        });
        self.check_all_soon(&to_check);
        snapshot
    }

    /// Queues those of these sessions that are here.
    pub(super) fn check_all_soon(&self, sessions: &[SessionId]) {
        for session in sessions.iter().filter_map(|id| self.find(id)) {
            self.schedule.check_soon(&session);
        }
    }

    #[cfg(not(feature = "cluster"))]
    fn tell_others(&self, _policy: &dyn CleanupPolicy, _session: &SessionSnapshot) {}
}

/// Reports the state of the session to a policy, and again if it has changed meanwhile. So the last
/// reported state is the final one, even if several threads report. Returns the sessions that the
/// policy wants to judge because of it.
pub(super) fn observe(
    session: &Shared,
    report: impl Fn(&SessionSnapshot) -> Vec<SessionId>,
) -> (SessionSnapshot, Vec<SessionId>) {
    let mut to_check = Vec::new();
    let mut snapshot = session.snapshot();
    loop {
        let more = guarded(&session.id, "the cleanup policy", || report(&snapshot));
        to_check.extend(more.unwrap_or_default());
        let newer = session.snapshot();
        if newer.is_as(&snapshot) {
            return (snapshot, to_check);
        }
        snapshot = newer;
    }
}

/// The decision of a policy.
enum Verdict {
    End,
    /// Keep the session, and ask again at this time.
    Keep(Option<Instant>),
}

fn judge(policy: &dyn CleanupPolicy, snapshot: &SessionSnapshot, now: Instant) -> Verdict {
    if policy.should_cleanup(snapshot, now) {
        Verdict::End
    } else {
        Verdict::Keep(policy.next_check(snapshot, now))
    }
}

/// Delay before a policy that has panicked is asked again.
const AFTER_A_PANIC: Duration = Duration::from_secs(1);

/// The shortest delay before a policy is asked again about the same session.
const SOONEST: Duration = Duration::from_millis(10);

/// How many times in a row the policy is asked about a session that keeps changing.
const ATTEMPTS: usize = 3;
