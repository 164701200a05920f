//! Sessions of users stay as long as these are logged in.

use std::fmt;
use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot};

/// Keeps the sessions of principals that are authenticated, and closes those of all others, also open ones.
///
/// Asked about each session of a principal at its changes and, when nothing changes, at the given interval: one that is no longer
/// authenticated has lost its sessions an interval later. To log somebody out at once, close what
/// [`Hub::sessions_of`](crate::Hub::sessions_of) tells. A session whose principal is not authenticated when its connection is lost ends there
/// and then. Sessions of nobody are none of its business, and it frees no session of an authenticated one: join it with a policy that does.
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
    /// Asks `is_authenticated` about each session's principal at this interval; below 10 ms it counts as 10 ms.
    ///
    /// `is_authenticated` must not block, and must not take a lock that the application holds while it opens or closes sessions. Where it
    /// panics the session stays, until it answers.
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

    /// While its principal is authenticated.
    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool {
        self.may_stay(session)
    }

    /// An interval from now, for sessions of a principal.
    fn next_check(&self, session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        session.principal.as_ref()?;
        now.checked_add(self.interval)
    }

    /// Without a bound.
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
