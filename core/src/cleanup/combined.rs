//! Policies made of policies.

use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot};
use stillhere_proto::SessionId;

/// Two policies of which each may free a session: made by [`CleanupPolicy::or`].
///
/// | | |
/// |---|---|
/// | frees | what either frees |
/// | allows a soft close | if both do |
/// | is asked again | at the earlier of both times |
/// | keeps | as long as the one that keeps shorter |
///
/// Order and grouping change nothing: `a.or(b)` frees what `b.or(a)` frees, and `a.or(b).or(c)` what `a.or(b.or(c))` does. Together with
/// [`And`] each distributes over the other.
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
        both(self.0.observe(session), self.1.observe(session))
    }

    fn weighs(&self) -> bool {
        self.0.weighs() || self.1.weighs()
    }
}

/// Two policies that must agree to free a session: made by [`CleanupPolicy::and`].
///
/// | | |
/// |---|---|
/// | frees | what both free |
/// | allows a soft close | if either does |
/// | is asked again | when the one that still objects wants to be asked; if both object, at the later of their times |
/// | keeps | as long as the one that keeps longer |
///
/// Order and grouping change nothing. A [`MemoryBudget`](crate::MemoryBudget) or a [`PrincipalCap`](crate::PrincipalCap) names one session at
/// a time: as long as the other policy objects to that one, no other goes in its place.
///
/// ```
/// use std::time::Duration;
/// use stillhere::{CleanupPolicy, DefaultCleanupPolicy, MemoryBudget};
///
/// // Beyond the budget the longest soft-closed go, but nobody before ten seconds have passed.
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
        both(self.0.observe(session), self.1.observe(session))
    }

    fn weighs(&self) -> bool {
        self.0.weighs() || self.1.weighs()
    }
}

fn both(mut sessions: Vec<SessionId>, others: Vec<SessionId>) -> Vec<SessionId> {
    sessions.extend(others);
    sessions
}
