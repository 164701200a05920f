//! What a hub needs to open the sessions of its store again.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Weak};

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

/// The store of a hub, and what it needs to open sessions again.
pub(crate) struct Records {
    pub(super) store: Arc<dyn Store>,
    pub(super) kinds: Lock<HashMap<String, Arc<dyn AnyKind>>>,
    /// Sessions that are being opened. Whoever holds the lock of one opens it.
    pub(super) opening: Lock<HashMap<SessionId, Weak<tokio::sync::Mutex<()>>>>,
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

    pub(super) fn lock_of(&self, id: SessionId) -> Arc<tokio::sync::Mutex<()>> {
        let mut opening = self.opening.lock();
        if let Some(lock) = opening.get(&id).and_then(Weak::upgrade) {
            return lock;
        }
        opening.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        opening.insert(id, Arc::downgrade(&lock));
        lock
    }

    /// Logs that the store has failed, at most once a minute.
    pub(super) fn note_failure(&self, session: &SessionId, error: &StoreError) {
        if let Some(count) = self.failures.count(crate::clock::now()) {
            tracing::error!(%session, %error, count, "the store has failed: durable sessions wait for it, others are not affected");
        }
    }
}
