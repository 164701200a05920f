//! What a hub needs to open the sessions of its store again.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use crate::durable::store::{Store, StoreError};
use crate::hub::unwritten::Unwritten;
use crate::lock::Lock;
use crate::rate_limited_log::RateLimitedLog;
use crate::session::{Application, Opening};
use stillhere_proto::SessionId;

/// A kind whose state's type is not known.
pub(super) trait AnyKind: Send + Sync {
    /// Prepares a session whose state is read from these bytes.
    fn read(
        &self,
        version: u32,
        bytes: &[u8],
        records: &Option<Box<Records>>,
    ) -> Result<(Application, Opening), Box<dyn Error + Send + Sync>>;
}

/// Sessions that are being opened. Whoever holds the lock of one opens it.
type OpeningLocks = Lock<HashMap<SessionId, BeingOpened>>;

#[derive(Default)]
struct BeingOpened {
    mutex: Arc<Mutex<()>>,
    /// How many [`OpeningLock`]s there are.
    locks: usize,
}

/// The store of a hub, and what it needs to open sessions again.
pub(crate) struct Records {
    pub(super) store: Arc<dyn Store>,
    pub(super) kinds: Lock<HashMap<String, Arc<dyn AnyKind>>>,
    opening: OpeningLocks,
    pub(super) unwritten: Arc<Unwritten>,
    failures: RateLimitedLog,
}

impl Records {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            unwritten: Unwritten::new(Arc::clone(&store)),
            store,
            kinds: Lock::default(),
            opening: Lock::default(),
            failures: RateLimitedLog::default(),
        }
    }

    /// Returns what whoever opens this session, or removes its record, has to lock.
    pub(super) fn lock_of(&self, id: SessionId) -> OpeningLock<'_> {
        lock_of(&self.opening, id)
    }

    /// Waits until all sessions are open that are being opened now.
    pub(super) async fn all_open(&self) {
        let opening: Vec<_> = self.opening.lock().keys().copied().collect();
        for id in opening {
            drop(self.lock_of(id).mutex.lock().await);
        }
    }

    /// Logs that the store has failed, at most once a minute.
    pub(super) fn note_failure(&self, session: &SessionId, error: &StoreError) {
        if let Some(count) = self.failures.count(crate::clock::now()) {
            tracing::error!(%session, %error, count, "the store has failed: durable sessions wait for it, others are not affected");
        }
    }
}

fn lock_of(opening: &OpeningLocks, id: SessionId) -> OpeningLock<'_> {
    let mut sessions = opening.lock();
    let session = sessions.entry(id).or_default();
    session.locks += 1;
    let mutex = Arc::clone(&session.mutex);
    OpeningLock { opening, id, mutex }
}

/// The lock of one session, which goes when nobody has it any more.
pub(super) struct OpeningLock<'a> {
    opening: &'a OpeningLocks,
    id: SessionId,
    mutex: Arc<Mutex<()>>,
}

impl OpeningLock<'_> {
    pub(super) async fn lock(&self) -> MutexGuard<'_, ()> {
        self.mutex.lock().await
    }
}

impl Drop for OpeningLock<'_> {
    fn drop(&mut self) {
        let mut sessions = self.opening.lock();
        let Some(session) = sessions.get_mut(&self.id) else {
            return;
        };
        session.locks -= 1;
        if session.locks == 0 {
            sessions.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two that are dropped at the same time may both see the mutex of the other.
    #[test]
    fn the_last_lock_removes_its_session_even_if_its_mutex_is_still_alive() {
        let opening = OpeningLocks::default();
        let id = SessionId::random();
        let (first, second) = (lock_of(&opening, id), lock_of(&opening, id));
        assert!(Arc::ptr_eq(&first.mutex, &second.mutex));
        let mutex = Arc::clone(&first.mutex);
        drop(first);
        assert_eq!(opening.lock().len(), 1);
        drop(second);
        assert_eq!((opening.lock().len(), Arc::strong_count(&mutex)), (0, 1));
    }
}
