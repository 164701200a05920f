//! Limits how many sessions one user may have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

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
    book: Lock<Book>,
}

impl PrincipalCap {
    /// Creates a limit of `max_sessions` for each principal.
    pub fn new(max_sessions: usize) -> Self {
        Self {
            max_sessions,
            closes_open_ones: false,
            book: Lock::default(),
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
    fn victim(&self, book: &Book, principal: &str) -> Option<SessionId> {
        let theirs = book.principals.get(principal)?;
        let first = theirs.first().filter(|_| theirs.len() > self.max_sessions)?;
        (!first.is_open || self.closes_open_ones).then_some(first.id)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }
}

/// The sessions that count, by principal and in the order in which they end. The collections are
/// trees because trees free memory as they shrink.
#[derive(Debug, Default)]
struct Book {
    principals: BTreeMap<Arc<str>, BTreeSet<Place>>,
    places: BTreeMap<SessionId, Place>,
}

/// Rank of a session. Soft-closed sessions come before those with a connection, and older ones
/// before newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    is_open: bool,
    since: Instant,
    id: SessionId,
}

impl Place {
    fn of(session: &SessionSnapshot) -> Option<Self> {
        let (is_open, since) = match session.state {
            // Not the time of the last connection, or a browser that reconnects often would keep
            // its session.
            SessionState::Open => (true, session.opened),
            SessionState::SoftClosed => (false, session.since),
            _ => return None,
        };
        let id = session.id;
        Some(Self { is_open, since, id })
    }
}

impl Book {
    /// Updates the session's entry. Returns true if the entry changed.
    fn note(&mut self, session: &SessionSnapshot, principal: &Arc<str>) -> bool {
        let place = Place::of(session);
        let before = match place {
            Some(place) => self.places.insert(session.id, place),
            None => self.places.remove(&session.id),
        };
        if before == place {
            return false;
        }
        let theirs = self.principals.entry(Arc::clone(principal)).or_default();
        if let Some(before) = before {
            theirs.remove(&before);
        }
        theirs.extend(place);
        if theirs.is_empty() {
            self.principals.remove(principal);
        }
        true
    }
}

impl CleanupPolicy for PrincipalCap {
    fn should_cleanup(&self, session: &SessionSnapshot, _now: Instant) -> bool {
        let Some(principal) = &session.principal else {
            return false;
        };
        Place::of(session).is_some() && self.victim(&self.book(), principal) == Some(session.id)
    }

    /// Always allows it: if there is no room, the session that has waited longest ends.
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
        let mut book = self.book();
        let is_news = book.note(session, principal);
        let victim = self.victim(&book, principal).filter(|_| is_news);
        victim.into_iter().collect()
    }
}
