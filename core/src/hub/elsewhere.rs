//! The sessions of users on other servers, for policies that compare them with those here.

use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};
use crate::clock::{to_instant, to_system_time};
use crate::guard::guarded;
use crate::hub::Hub;
use crate::hub::cluster::UserSession;
use crate::hub::inner::HubInner;
use stillhere_proto::SessionId;

impl Hub {
    /// Tells the cleanup policy of a user's session on another server. A server that has died no
    /// longer has any: the cluster must tell that they are `Closed`.
    pub fn observe_elsewhere(&self, session: &UserSession) {
        self.inner.observe_elsewhere(snapshot(session));
    }
}

impl HubInner {
    /// Tells the other servers how a user's session is, if the policy needs that.
    pub(super) fn tell_others(&self, policy: &dyn CleanupPolicy, session: &SessionSnapshot) {
        let (Some(cluster), Some(principal)) = (&self.cluster, &session.principal) else {
            return;
        };
        let state = match session.state {
            state @ (SessionState::Open | SessionState::SoftClosed) => state,
            _ => SessionState::Closed,
        };
        // Even if another policy has replaced the one that needs it.
        if session.state == SessionState::Closed || policy.spans_servers() {
            cluster.user_session_changed(&UserSession {
                session: session.id,
                principal: principal.clone(),
                state,
                since: to_system_time(session.since),
                opened: to_system_time(session.opened),
            });
        }
    }

    fn observe_elsewhere(&self, session: SessionSnapshot) {
        // It has moved here, and the other server does not know that yet.
        if self.find(&session.id).is_some() {
            self.elsewhere.lock().remove(&session.id);
            return;
        }
        if session.state == SessionState::Closed {
            self.elsewhere.lock().remove(&session.id);
        } else {
            self.elsewhere.lock().insert(session.id, session.clone());
        }
        let policy = self.policy();
        self.check_all_soon(&observe(&*policy, &session));
        // It may have moved here meanwhile.
        if let Some(here) = self.find(&session.id) {
            self.tell(&*policy, &here);
        }
    }

    /// Tells a new policy of all sessions on other servers, and returns them.
    pub(super) fn observe_all_elsewhere(&self, policy: &dyn CleanupPolicy) -> Vec<SessionSnapshot> {
        let known: Vec<_> = self.elsewhere.lock().values().cloned().collect();
        known.iter().for_each(|session| drop(observe(policy, session)));
        known
    }

    /// Tells a policy that has become the hub's own what only the one before was told after
    /// [`Self::observe_all_elsewhere`], which returned `known`.
    pub(super) fn observe_again_elsewhere(&self, policy: &dyn CleanupPolicy, known: Vec<SessionSnapshot>) {
        let now = self.elsewhere.lock().clone();
        for mut session in known.into_iter().filter(|session| !now.contains_key(&session.id)) {
            session.state = SessionState::Closed;
            observe(policy, &session);
        }
        now.values().for_each(|session| drop(observe(policy, session)));
    }
}

/// Tells a policy of a session on another server, and returns the sessions to judge.
fn observe(policy: &dyn CleanupPolicy, session: &SessionSnapshot) -> Vec<SessionId> {
    let observed = guarded(&session.id, "the cleanup policy", || {
        policy.spans_servers().then(|| policy.observe(session))
    });
    observed.flatten().unwrap_or_default()
}

fn snapshot(session: &UserSession) -> SessionSnapshot {
    SessionSnapshot {
        id: session.session,
        state: session.state,
        since: to_instant(session.since),
        opened: to_instant(session.opened),
        cause: None,
        buffered: 0,
        weight: 0,
        reconnects: 0,
        principal: Some(session.principal.clone()),
        is_elsewhere: true,
        version: 0,
    }
}
