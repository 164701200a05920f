//! Ends sessions when all of them together hold more memory than the hub allows.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use crate::hub::inner::HubInner;
use crate::session::Shared;
use stillhere_proto::EndReason;

/// A session that holds more than its fair share.
struct Holder {
    session: Arc<Shared>,
    /// The session's version when it was measured.
    version: u64,
    buffered: u64,
    /// The bytes that ending it would certainly free, if they alone exceed the share; otherwise 0.
    owned: u64,
    /// When it lost its connection, if it has none.
    soft_closed: Option<Instant>,
}

impl HubInner {
    /// Ends sessions that hold more than a fair share, those that hold most first, until memory is
    /// within the limit. Returns true if it is.
    ///
    /// The fair share is the limit divided by the number of sessions. While the sessions themselves
    /// hold more than the limit, at least one of them holds more than that. A session that does not
    /// is never ended for memory.
    pub(super) fn enforce_memory_limit(&self) -> bool {
        if !self.memory.is_exceeded() {
            return true;
        }
        let sessions = self.all();
        let share = self.memory.limit() / sessions.len().max(1) as u64;
        let weighed = sessions.into_iter().filter_map(|session| Holder::above(share, session));
        let mut holders: Vec<_> = weighed.collect();
        holders.sort_by_key(Holder::precedence);
        for holder in holders {
            if !self.memory.is_exceeded() {
                return true;
            }
            holder.end();
        }
        !self.memory.is_exceeded()
    }
}

impl Holder {
    fn above(share: u64, session: Arc<Shared>) -> Option<Self> {
        let inner = session.lock();
        let (buffered, owned) = (inner.buffered(), inner.owned());
        if buffered <= share {
            return None;
        }
        let soft_closed = inner.is_soft_closed().then(|| inner.machine.since());
        let version = inner.version();
        drop(inner);
        Some(Self {
            session,
            version,
            buffered,
            owned: if owned > share { owned } else { 0 },
            soft_closed,
        })
    }

    /// Orders sessions that hold most first. Sizes within a power of two count as equal; among
    /// those, the session that was soft-closed first comes first. A session that holds mostly
    /// shared payloads comes last, because its end may free nothing.
    fn precedence(&self) -> impl Ord + use<> {
        (
            Reverse(self.owned.checked_ilog2()),
            Reverse(self.buffered.checked_ilog2()),
            self.soft_closed.is_none(),
            self.soft_closed,
            Reverse(self.buffered),
        )
    }

    /// Ends the session, unless it has changed since it was measured.
    fn end(self) {
        let Self { session, buffered, .. } = self;
        if session.abort_if_unchanged(self.version, Some(EndReason::MemoryPressure)) {
            tracing::warn!(
                session = %session.id,
                buffered,
                "ended a session to free memory: the sessions buffer more than HubBuilder::memory_limit"
            );
            session.update(|machine, _| machine.discard_received());
        }
    }
}
