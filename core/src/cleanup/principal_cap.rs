//! How many sessions one user may have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use crate::cleanup::{CleanupPolicy, SessionSnapshot, SessionState};
use crate::lock::Lock;
use stillhere_proto::SessionId;

/// At most so many sessions of one principal: beyond that they end, the longest soft-closed first.
///
/// It counts those that a browser has come to and that are not ending: open and soft-closed ones. One that waits for its first browser
/// counts from when that comes, so that a reload does not end what it is about to replace. Open ones are never ended, however many there are,
/// unless [`PrincipalCap::close_open_ones`] says so. Sessions of nobody are not counted. The cap knows no time: join it with a policy that does.
///
/// ```
/// use stillhere::{CleanupPolicy, DefaultCleanupPolicy, Hub, PrincipalCap};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Five pages for everybody; a sixth closes the one that was opened first.
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
    /// Each principal may have this many sessions.
    pub fn new(max_sessions: usize) -> Self {
        Self {
            max_sessions,
            closes_open_ones: false,
            book: Lock::default(),
        }
    }

    /// If no soft-closed one is left, open ones end too, those that were opened first before the others. Default: never.
    #[must_use]
    pub fn close_open_ones(mut self) -> Self {
        self.closes_open_ones = true;
        self
    }

    /// The one of this principal's sessions that has to go, if they are too many.
    fn victim(&self, book: &Book, principal: &str) -> Option<SessionId> {
        let theirs = book.principals.get(principal)?;
        let first = theirs.first().filter(|_| theirs.len() > self.max_sessions)?;
        (!first.is_open || self.closes_open_ones).then_some(first.id)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }
}

/// The sessions that count, by principal and in the order in which they have to go. Trees, because those give memory back.
#[derive(Debug, Default)]
struct Book {
    principals: BTreeMap<Arc<str>, BTreeSet<Place>>,
    places: BTreeMap<SessionId, Place>,
}

/// Ordered: soft-closed before open, then by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    is_open: bool,
    since: Instant,
    id: SessionId,
}

impl Place {
    fn of(session: &SessionSnapshot) -> Option<Self> {
        let (is_open, since) = match session.state {
            // Not since its last connection: who reconnects often would stay.
            SessionState::Open => (true, session.opened),
            SessionState::SoftClosed => (false, session.since),
            _ => return None,
        };
        let id = session.id;
        Some(Self { is_open, since, id })
    }
}

impl Book {
    /// Whether that is news.
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

    /// Always: whoever has waited longest makes room.
    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    /// Never: only a change can exceed it.
    fn next_check(&self, _session: &SessionSnapshot, _now: Instant) -> Option<Instant> {
        None
    }

    /// Without a bound.
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
