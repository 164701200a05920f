//! Policies that combine two others.

use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot};
use stillhere_proto::SessionId;

/// A policy that frees a session if either of two policies does. Created by [`CleanupPolicy::or`].
///
/// | | |
/// |---|---|
/// | frees a session | if either policy does |
/// | allows a soft close | if both do |
/// | next check | at the earlier of both times |
/// | keeps sessions | for the shorter of both times |
///
/// Order and grouping do not matter: `a.or(b)` frees the same sessions as `b.or(a)`, and
/// `a.or(b).or(c)` the same as `a.or(b.or(c))`. `or` and [`and`](CleanupPolicy::and) distribute
/// over each other.
///
/// ```
/// use stillhere::{CleanupPolicy, DefaultCleanupPolicy, MemoryBudget, PrincipalCap};
///
/// let policy = MemoryBudget::new(64 << 20)
///     .or(PrincipalCap::new(20))
///     .or(DefaultCleanupPolicy::default());
/// ```
#[derive(Debug)]
pub struct Or<A, B>(pub(crate) A, pub(crate) B);

impl<A: CleanupPolicy, B: CleanupPolicy> CleanupPolicy for Or<A, B> {
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool {
        self.0.should_cleanup(session, now) || self.1.should_cleanup(session, now)
    }

    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool {
        self.0.allow_soft_close(session) && self.1.allow_soft_close(session)
    }

    fn next_check(&self, session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        let checks = [self.0.next_check(session, now), self.1.next_check(session, now)];
        checks.into_iter().flatten().min()
    }

    fn keep(&self, session: &SessionSnapshot) -> Duration {
        self.0.keep(session).min(self.1.keep(session))
    }

    fn observe(&self, session: &SessionSnapshot) -> Vec<SessionId> {
        both(observe(&self.0, session), observe(&self.1, session))
    }

    fn weighs(&self) -> bool {
        self.0.weighs() || self.1.weighs()
    }

    fn spans_servers(&self) -> bool {
        self.0.spans_servers() || self.1.spans_servers()
    }
}

/// A policy that frees a session only if both of two policies do. Created by
/// [`CleanupPolicy::and`].
///
/// | | |
/// |---|---|
/// | frees a session | if both policies do |
/// | allows a soft close | if either does |
/// | next check | at the time of the policy that still objects; if both object, at the later of their times |
/// | keeps sessions | for the longer of both times |
///
/// Order and grouping do not matter. A [`MemoryBudget`](crate::MemoryBudget) or a
/// [`PrincipalCap`](crate::PrincipalCap) selects one session at a time. While the other policy
/// objects to that session, no other session is freed in its place.
///
/// ```
/// use std::time::Duration;
/// use stillhere::{CleanupPolicy, DefaultCleanupPolicy, MemoryBudget};
///
/// // Over budget, the session that was soft-closed first ends, but none before ten seconds have passed.
/// let grace = DefaultCleanupPolicy { soft_closed: Duration::from_secs(10), ..Default::default() };
/// let policy = MemoryBudget::new(64 << 20).and(grace).or(DefaultCleanupPolicy::default());
/// ```
#[derive(Debug)]
pub struct And<A, B>(pub(crate) A, pub(crate) B);

impl<A: CleanupPolicy, B: CleanupPolicy> CleanupPolicy for And<A, B> {
    fn should_cleanup(&self, session: &SessionSnapshot, now: Instant) -> bool {
        self.0.should_cleanup(session, now) && self.1.should_cleanup(session, now)
    }

    fn allow_soft_close(&self, session: &SessionSnapshot) -> bool {
        self.0.allow_soft_close(session) || self.1.allow_soft_close(session)
    }

    fn next_check(&self, session: &SessionSnapshot, now: Instant) -> Option<Instant> {
        let (first, second) = (self.0.next_check(session, now), self.1.next_check(session, now));
        match (self.0.should_cleanup(session, now), self.1.should_cleanup(session, now)) {
            (true, true) => Some(now),
            (true, false) => second,
            (false, true) => first,
            (false, false) => Some(first?.max(second?)),
        }
    }

    fn keep(&self, session: &SessionSnapshot) -> Duration {
        self.0.keep(session).max(self.1.keep(session))
    }

    fn observe(&self, session: &SessionSnapshot) -> Vec<SessionId> {
        both(observe(&self.0, session), observe(&self.1, session))
    }

    fn weighs(&self) -> bool {
        self.0.weighs() || self.1.weighs()
    }

    fn spans_servers(&self) -> bool {
        self.0.spans_servers() || self.1.spans_servers()
    }
}

/// Tells one of the policies about a session, if it concerns it.
fn observe(policy: &impl CleanupPolicy, session: &SessionSnapshot) -> Vec<SessionId> {
    if session.is_elsewhere && !policy.spans_servers() {
        return Vec::new();
    }
    policy.observe(session)
}

fn both(mut sessions: Vec<SessionId>, others: Vec<SessionId>) -> Vec<SessionId> {
    sessions.extend(others);
    sessions
}
