//! Limits how much memory all soft-closed sessions use together.

use std::time::{Duration, Instant};

use crate::cleanup::ranking::Ranking;
use crate::cleanup::{CleanupPolicy, SessionSnapshot};
use crate::lock::Lock;
use stillhere_proto::SessionId;

/// A budget for soft-closed sessions. As soon as they exceed it, the session that was soft-closed
/// first ends, and then the next, until the rest fit.
///
/// A soft-closed session counts with the bytes that it buffers ([`SessionSnapshot::buffered`]) and
/// those that the application declared
/// ([`SessionHandle::set_weight`](crate::SessionHandle::set_weight)). A connected session does not
/// count. A session that is larger than the whole budget ends as soon as it is soft-closed. The
/// budget has no time limit and frees nothing that fits, so combine it with a policy that has one.
///
/// ```
/// use stillhere::{CleanupPolicy, DefaultCleanupPolicy, Hub, MemoryBudget, Session};
///
/// /// Holds a picture for its page, and declares the size of the picture.
/// async fn editor(mut session: Session) {
///     let mut picture = vec![0; 4 << 20];
///     session.set_weight(picture.len() as u64);
///     while let Some(stroke) = session.recv().await {
///         picture.extend_from_slice(&stroke);
///         session.set_weight(picture.len() as u64);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // Every session may wait for two minutes, while at most 1000 wait and use at most 256 MiB.
/// let budget = MemoryBudget::new(256 << 20).max_sessions(1000);
/// let hub = Hub::builder().cleanup_policy(budget.or(DefaultCleanupPolicy::default())).build();
/// let session = hub.open(editor);
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryBudget {
    max_bytes: u64,
    max_sessions: usize,
    held: Lock<Held>,
}

impl MemoryBudget {
    /// Creates a budget of `max_bytes` for all soft-closed sessions together. `u64::MAX` means no
    /// limit.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            max_sessions: usize::MAX,
            held: Lock::default(),
        }
    }

    /// Also limits how many sessions may be soft-closed. Default: no limit.
    #[must_use]
    pub fn max_sessions(mut self, count: usize) -> Self {
        self.max_sessions = count;
        self
    }

    /// Returns the session to end next, if the budget is exceeded.
    fn next_to_end(&self, held: &Held) -> Option<SessionId> {
        let bytes = u64::try_from(held.bytes).unwrap_or(u64::MAX);
        let exceeded = bytes > self.max_bytes || held.sessions.len(&()) > self.max_sessions;
        let (_, id) = held.sessions.first(&()).filter(|_| exceeded)?;
        Some(id)
    }
}

/// The soft-closed sessions, ranked by age.
#[derive(Debug, Default)]
struct Held {
    sessions: Ranking<(), Entry>,
    bytes: u128,
}

/// When a session was soft-closed, and its size in bytes.
type Entry = (Instant, u64);

impl Held {
    /// Updates the session's entry. Returns true if the entry changed.
    fn update(&mut self, session: &SessionSnapshot) -> bool {
        let size = session.buffered.saturating_add(session.weight);
        let entry = session.state.is_soft_closed().then_some((session.since, size));
        let before = self.sessions.set(&(), session.id, entry);
        let size_of = |entry: Option<Entry>| entry.map_or(0, |(_, size)| u128::from(size));
        self.bytes = self.bytes + size_of(entry) - size_of(before);
        before != entry
    }
}

impl CleanupPolicy for MemoryBudget {
    fn should_cleanup(&self, session: &SessionSnapshot, _now: Instant) -> bool {
        session.state.is_soft_closed() && self.next_to_end(&self.held.lock()) == Some(session.id)
    }

    /// Always returns true: if there is no room, the session that has waited longest ends.
    fn allow_soft_close(&self, _session: &SessionSnapshot) -> bool {
        true
    }

    /// Never checks by time, because only a change can exceed the budget.
    fn next_check(&self, _session: &SessionSnapshot, _now: Instant) -> Option<Instant> {
        None
    }

    /// Sets no limit.
    fn keep(&self, _session: &SessionSnapshot) -> Duration {
        Duration::MAX
    }

    fn observe(&self, session: &SessionSnapshot) -> Vec<SessionId> {
        let mut held = self.held.lock();
        let has_changed = held.update(session);
        self.next_to_end(&held).filter(|_| has_changed).into_iter().collect()
    }

    fn weighs(&self) -> bool {
        true
    }
}
