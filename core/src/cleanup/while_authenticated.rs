//! Ends the sessions of users who have logged out.

use std::fmt;
use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot};

/// Keeps the sessions of authenticated principals, and closes those of all others even while they
/// are connected.
///
/// The policy checks each session of a principal after every change, and at the given interval if
/// nothing changes, so the sessions of a user who logs out end within one interval. To end them at
/// once, close the sessions that [`Hub::sessions_of`](crate::Hub::sessions_of) returns. A session
/// whose principal is no longer authenticated when its connection is lost ends immediately. The
/// policy ignores sessions without a principal and never frees a session of an authenticated one,
/// so combine it with a policy that does.
///
/// ```
/// use std::collections::HashSet;
/// use std::sync::{Arc, RwLock};
/// use std::time::Duration;
/// use stillhere::{CleanupPolicy, DefaultCleanupPolicy, Hub, WhileAuthenticated};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let logged_in = Arc::new(RwLock::new(HashSet::from(["ada".to_owned()])));
/// let known = Arc::clone(&logged_in);
/// let policy = WhileAuthenticated::new(Duration::from_secs(30), move |user| {
///     known.read().is_ok_and(|known| known.contains(user))
/// });
/// let hub = Hub::builder().cleanup_policy(policy.or(DefaultCleanupPolicy::default())).build();
/// # }
/// ```
pub struct WhileAuthenticated {
    interval: Duration,
    is_authenticated: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl WhileAuthenticated {
    /// Creates a policy that calls `is_authenticated` for each session's principal at this
    /// interval, which is at least 10 ms.
    ///
    /// `is_authenticated` must not block, and must not take a lock that the application holds while
    /// it opens or closes sessions. If it panics, the session stays until a later call returns.
    pub fn new(interval: Duration, is_authenticated: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self {
            interval,
            is_authenticated: Box::new(is_authenticated),
        }
    }

    fn may_stay(&self, session: &SessionSnapshot) -> bool {
        session.principal.as_deref().is_none_or(&self.is_authenticated)
    }
}

impl CleanupPolicy for WhileAuthenticated {
    fn should_cleanup(&self, session: &SessionSnapshot, _now: Instant) -> bool {
        !self.may_stay(session)
    }

    /// Returns true while the principal is authenticated.
    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool {
        self.may_stay(session)
    }

    /// Returns one interval from now for sessions of a principal.
    fn next_check(&self, session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        session.principal.as_ref()?;
        now.checked_add(self.interval)
    }

    /// Sets no limit.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        Duration::MAX
    }
}

impl fmt::Debug for WhileAuthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhileAuthenticated")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
