//! Two waits: what a hub does that was told nothing else.

use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};

/// Two waits: one for the first browser, one for its return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultCleanupPolicy {
    /// How long a session waits for its first browser. Default 30 s.
    pub never_connected: Duration,
    /// How long a soft-closed session waits for its browser to come back; zero closes it at once. Default 120 s.
    pub soft_closed: Duration,
}

impl Default for DefaultCleanupPolicy {
    fn default() -> Self {
        Self {
            never_connected: Duration::from_secs(30),
            soft_closed: Duration::from_secs(120),
        }
    }
}

impl DefaultCleanupPolicy {
    fn deadline(&self, session: &SessionSnapshot) -> Option<Instant> {
        match session.state {
            SessionState::Waiting => session.since.checked_add(self.never_connected),
            state if state.is_soft_closed() => session.since.checked_add(self.soft_closed),
            _ => None,
        }
    }
}

impl CleanupPolicy for DefaultCleanupPolicy {
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool {
        self.deadline(session).is_some_and(|deadline| deadline <= now)
    }

    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        !self.soft_closed.is_zero()
    }

    fn next_check(&self, session: &SessionSnapshot, _now: Instant) -> Option<Instant> {
        self.deadline(session)
    }

    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        self.soft_closed
    }
}
