//! Ends sessions when all of them together hold more than the hub may.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use crate::code::EndReason;
use crate::hub::HubInner;
use crate::session::Shared;

/// A session that holds more than its fair share.
struct Holder {
    session: Arc<Shared>,
    /// As it was when it was weighed.
    version: u64,
    buffered: u64,
    /// What its end would surely free, if that alone is more than the share.
    owned: u64,
    /// Since when it has been without a connection, if it has.
    soft_closed: Option<Instant>,
}

impl HubInner {
    /// Ends sessions that hold more than a fair share, until what is held fits again: those that hold most first. Whether it fits.
    ///
    /// The fair share is the limit divided by the number of sessions. While the sessions themselves hold more than the limit, at least one of
    /// them holds more than that; who does not is never ended for it.
    pub(crate) fn relieve_memory(&self) -> bool {
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

    /// Who holds most goes first. Sizes of one power of two count as equal; among them the longest soft-closed goes first. Who holds little but
    /// payloads that others share comes last: its end may free nothing.
    fn precedence(&self) -> impl Ord + use<> {
        (
            Reverse(self.owned.checked_ilog2()),
            Reverse(self.buffered.checked_ilog2()),
            self.soft_closed.is_none(),
            self.soft_closed,
            Reverse(self.buffered),
        )
    }

    /// Unless it has changed since it was weighed.
    fn end(self) {
        let Self { session, buffered, .. } = self;
        if session.clean_up(self.version, Some(EndReason::MemoryPressure)) {
            tracing::warn!(session = %session.id, buffered, "ended: the hub's memory limit is reached");
            session.update(|machine, _| machine.discard_received());
        }
    }
}
