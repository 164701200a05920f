//! The live sessions, and records of recently ended ones.

use std::sync::Arc;

#[cfg(feature = "durable")]
use crate::hub::absent::Absent;
use crate::hub::ended_session::EndedSession;
use crate::hub::id_hasher::IdMap;
use crate::hub::places::Place;
use crate::hub::sessions::Sessions;
use crate::hub::unconnected::Unconnected;
use crate::lock::Lock;
use crate::session::Shared;
use stillhere_proto::EndReason;
use stillhere_proto::machine::PlainDocument;
use stillhere_proto::{Secret, SessionId};

/// Live and recently ended sessions.
#[derive(Default)]
pub(super) struct Registry {
    pub(super) sessions: Sessions,
    pub(super) unconnected: Unconnected,
    pub(super) ended: EndedSessions,
    /// Ended sessions that no browser connected to. They are kept apart, so that a flood of pages
    /// does not evict the others.
    pub(super) never_connected: EndedSessions,
}

/// The session that an id leads to.
pub(crate) enum Found {
    Live(Arc<Shared>),
    /// Boxed, so that a connection that waits for its hello stays small.
    Ended(Box<EndedSession>),
    /// Perhaps on another server or in the store.
    #[cfg(feature = "durable")]
    Absent(Box<Absent>),
}

impl Registry {
    pub(super) fn find(&self, id: &SessionId) -> Option<Found> {
        let live = || self.sessions.get(id).cloned().map(Found::Live);
        let ended = || self.ended.get(id).or_else(|| self.never_connected.get(id));
        live().or_else(|| ended().cloned().map(Box::new).map(Found::Ended))
    }

    /// Removes a live session. Returns its place, if it counts for a peer, or `None` if the session
    /// is not here.
    pub(super) fn remove(&mut self, session: &Shared) -> Option<Option<Place>> {
        self.unconnected.remove(session.number);
        self.sessions.remove(&session.id)
    }

    /// Keeps the record of an ended session: the latest `most` records, and a tenth as many of
    /// sessions that no browser connected to.
    pub(super) fn keep(&mut self, id: SessionId, ended: EndedSession, most: usize) {
        match ended.reason() {
            EndReason::NeverConnected => self.never_connected.insert(id, ended, most / 10),
            _ => self.ended.insert(id, ended, most),
        }
    }
}

impl Found {
    pub(crate) fn principal(&self) -> Option<&str> {
        match self {
            Self::Live(session) => session.principal(),
            Self::Ended(session) => session.principal(),
            #[cfg(feature = "durable")]
            Self::Absent(_) => None,
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Self::Live(session) => session.plain.is_some(),
            Self::Ended(session) => session.is_plain(),
            #[cfg(feature = "durable")]
            Self::Absent(_) => false,
        }
    }

    /// Returns true if the session is not known until its hello has arrived.
    pub(crate) fn is_absent(&self) -> bool {
        match self {
            Self::Live(_) | Self::Ended(_) => false,
            #[cfg(feature = "durable")]
            Self::Absent(_) => true,
        }
    }

    /// Returns a plain session, and the document that the server simulates for its client.
    pub(crate) fn plain_document(&self) -> Option<(Arc<Shared>, Arc<Lock<PlainDocument>>)> {
        let Self::Live(session) = self else { return None };
        let document = session.plain.clone()?;
        Some((Arc::clone(session), document))
    }

    pub(crate) fn has_secret(&self, secret: &Secret) -> bool {
        match self {
            Self::Live(session) => session.has_secret(secret),
            Self::Ended(session) => session.has_secret(secret),
            // The store knows. It is asked when the session is opened.
            #[cfg(feature = "durable")]
            Self::Absent(_) => true,
        }
    }
}

/// Recently ended sessions, in two generations. The older one is dropped when the younger one is
/// full.
#[derive(Default)]
pub(super) struct EndedSessions {
    younger: IdMap<EndedSession>,
    older: IdMap<EndedSession>,
}

impl EndedSessions {
    fn get(&self, id: &SessionId) -> Option<&EndedSession> {
        self.younger.get(id).or_else(|| self.older.get(id))
    }

    fn insert(&mut self, id: SessionId, session: EndedSession, most: usize) {
        if self.younger.len() >= most / 2 {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(id, session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Hub;

    #[tokio::test]
    async fn pages_that_nobody_opens_do_not_evict_other_ended_sessions() {
        let hub = Hub::new();
        let session = hub.open(async |session| drop(session.ended().await));
        let shared = hub.inner.find(session.id()).expect("the session is live");
        let mut registry = Registry::default();
        registry.keep(shared.id, EndedSession::new(&shared, &EndReason::Finished), 20);
        for _ in 0..100 {
            let unopened = EndedSession::new(&shared, &EndReason::NeverConnected);
            registry.keep(SessionId::random(), unopened, 20);
        }
        assert!(matches!(registry.find(&shared.id), Some(Found::Ended(_))));
        assert!(registry.never_connected.younger.len() + registry.never_connected.older.len() <= 2);
        for _ in 0..100 {
            let other = EndedSession::new(&shared, &EndReason::Finished);
            registry.keep(SessionId::random(), other, 20);
        }
        assert!(registry.find(&shared.id).is_none(), "it has been long enough");
    }
}
