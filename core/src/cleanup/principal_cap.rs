//! Limits how many sessions one user may have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cleanup::ranking::Ranking;
use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};
use crate::lock::Lock;
use stillhere_proto::SessionId;

/// A limit on the sessions of each principal. Above it, the session that was soft-closed first
/// ends, and then the next, until the limit is met.
///
/// Sessions count once a browser has connected and until they start to close. A session that waits
/// for its first browser does not count yet, so a reload does not end the session that it is about
/// to replace. Sessions with a connection never end, whatever their number, unless
/// [`PrincipalCap::close_open_ones`] is set. Sessions without a principal do not count. The limit
/// has no time limit, so combine it with a policy that has one.
///
/// On the servers of a cluster, the sessions on all of them count together. Each server needs the
/// same limit. The clocks of the servers decide which session ends first.
///
/// ```
/// use stillhere::{CleanupPolicy, DefaultCleanupPolicy, Hub, PrincipalCap};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Each user may have five pages; a sixth closes the one that was opened first.
/// let cap = PrincipalCap::new(5).close_open_ones();
/// let hub = Hub::builder().cleanup_policy(cap.or(DefaultCleanupPolicy::default())).build();
/// # }
/// ```
#[derive(Debug)]
pub struct PrincipalCap {
    max_sessions: usize,
    closes_open_ones: bool,
    /// The sessions that count, by principal.
    sessions: Lock<Ranking<Arc<str>, Rank>>,
}

impl PrincipalCap {
    /// Creates a limit of `max_sessions` for each principal.
    pub fn new(max_sessions: usize) -> Self {
        Self {
            max_sessions,
            closes_open_ones: false,
            sessions: Lock::default(),
        }
    }

    /// Also ends sessions with a connection once no soft-closed session is left, those that were
    /// opened first before the others. Default: off.
    #[must_use]
    pub fn close_open_ones(mut self) -> Self {
        self.closes_open_ones = true;
        self
    }

    /// Returns the session of this principal to end next, if there are too many.
    fn next_to_end(&self, sessions: &Ranking<Arc<str>, Rank>, principal: &Arc<str>) -> Option<SessionId> {
        let is_exceeded = sessions.len(principal) > self.max_sessions;
        let (rank, id) = sessions.first(principal).filter(|_| is_exceeded)?;
        (!rank.is_open || self.closes_open_ones).then_some(id)
    }
}

/// Rank of a session. Soft-closed sessions end before those with a connection, and older ones
/// before newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_open: bool,
    since: Instant,
}

impl Rank {
    /// Returns the rank of a session that counts.
    fn of(session: &SessionSnapshot) -> Option<Self> {
        let (is_open, since) = match session.state {
            // Not the time of the last connection, or a browser that reconnects often would keep
            // its session.
            SessionState::Open => (true, session.opened),
            SessionState::SoftClosed => (false, session.since),
            _ => return None,
        };
        Some(Self { is_open, since })
    }
}

impl CleanupPolicy for PrincipalCap {
    fn should_cleanup(&self, session: &SessionSnapshot, _now: Instant) -> bool {
        let Some(principal) = &session.principal else {
            return false;
        };
        Rank::of(session).is_some() && self.next_to_end(&self.sessions.lock(), principal) == Some(session.id)
    }

    /// Always returns true: if there is no room, the session that has waited longest ends.
    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    /// Never checks by time, because only a change can exceed the limit.
    fn next_check(&self, _session: &SessionSnapshot, _now: Instant) -> Option<Instant> {
        None
    }

    /// Sets no limit.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        Duration::MAX
    }

    fn observe(&self, session: &SessionSnapshot) -> Vec<SessionId> {
        let Some(principal) = &session.principal else {
            return Vec::new();
        };
        let mut sessions = self.sessions.lock();
        let rank = Rank::of(session);
        let has_changed = sessions.set(principal, session.id, rank) != rank;
        let next = self.next_to_end(&sessions, principal).filter(|_| has_changed);
        next.into_iter().collect()
    }
    fn spans_servers(&self) -> bool {
        true
    }
}
