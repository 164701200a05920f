//! What a hub needs to open the sessions of its store again.

use std::collections::HashMap;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use crate::durable::store::{Store, StoreError};
use crate::lock::Lock;
use crate::peer::Peer;
use crate::rate_limited_log::RateLimitedLog;
use crate::session::{Application, Opening, Shared};
use stillhere_proto::code::Code;
use stillhere_proto::wire::End;
use stillhere_proto::{Secret, SessionId};

/// Opens sessions again: the hub.
pub(super) trait Reopen: Send + Sync {
    /// Opens a session in a task of its own, so that a claim is not abandoned half-way if the
    /// connection is lost. The error is what to tell the peer.
    fn reopen_in_a_task(self: Arc<Self>, stored: Stored, secret: Secret) -> Reopening;
}

pub(super) type Reopening = Pin<Box<dyn Future<Output = Result<Arc<Shared>, End>> + Send>>;

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
    failures: RateLimitedLog,
}

/// A connection whose session may be in the store. Its hello decides.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) id: SessionId,
    hub: Weak<dyn Reopen>,
    /// The user who makes the request.
    pub(super) principal: Option<String>,
    /// The hub cannot determine users.
    pub(super) has_no_hook: bool,
    pub(super) peers: Vec<Peer>,
}

impl Records {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
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

impl Stored {
    pub(super) fn new(
        hub: Weak<dyn Reopen>,
        id: SessionId,
        principal: Option<Option<String>>,
        peers: Vec<Peer>,
    ) -> Self {
        Self {
            id,
            hub,
            has_no_hook: principal.is_none(),
            principal: principal.flatten(),
            peers,
        }
    }

    /// Opens the session again. The error is what to tell the peer.
    pub(crate) async fn open(&self, secret: &Secret) -> Result<Arc<Shared>, End> {
        let Some(hub) = self.hub.upgrade() else {
            return Err(unknown());
        };
        hub.reopen_in_a_task(self.clone(), secret.clone()).await
    }
}

pub(crate) fn unknown() -> End {
    let text = "this server has no such session: it ended some time ago, or the server restarted";
    End::connection(Code::Unknown, text)
}
