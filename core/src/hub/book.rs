//! The live sessions, and what is kept of recently ended ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::hub::ended_session::EndedSession;
use crate::hub::waiting::Waiting;
use crate::id::{Secret, SessionId};
use crate::machine::PlainDocument;
use crate::session::Shared;

/// Live and recently ended sessions.
#[derive(Default)]
pub(super) struct Book {
    pub(super) sessions: HashMap<SessionId, Arc<Shared>>,
    pub(super) waiting: Waiting,
    pub(super) ended: EndedSessions,
}

/// The session that an id leads to.
pub(crate) enum Found {
    Live(Arc<Shared>),
    /// Boxed, so that a connection that waits for its hello stays small.
    Ended(Box<EndedSession>),
}

impl Book {
    pub(super) fn find(&self, id: &SessionId) -> Option<Found> {
        let live = || self.sessions.get(id).cloned().map(Found::Live);
        live().or_else(|| self.ended.get(id).cloned().map(Box::new).map(Found::Ended))
    }
}

impl Found {
    pub(crate) fn principal(&self) -> Option<&str> {
        match self {
            Self::Live(session) => session.principal(),
            Self::Ended(session) => session.principal(),
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Self::Live(session) => session.plain.is_some(),
            Self::Ended(session) => session.is_plain(),
        }
    }

    /// Returns a plain session, and the document that the server simulates for its client.
    pub(crate) fn plain_document(&self) -> Option<(Arc<Shared>, Arc<Mutex<PlainDocument>>)> {
        let Self::Live(session) = self else { return None };
        let document = session.plain.clone()?;
        Some((Arc::clone(session), document))
    }

    pub(crate) fn has_secret(&self, secret: &Secret) -> bool {
        match self {
            Self::Live(session) => session.has_secret(secret),
            Self::Ended(session) => session.has_secret(secret),
        }
    }
}

/// Recently ended sessions, in two generations. The older one is dropped when the younger one is
/// full.
#[derive(Default)]
pub(super) struct EndedSessions {
    younger: HashMap<SessionId, EndedSession>,
    older: HashMap<SessionId, EndedSession>,
}

impl EndedSessions {
    fn get(&self, id: &SessionId) -> Option<&EndedSession> {
        self.younger.get(id).or_else(|| self.older.get(id))
    }

    pub(super) fn insert(&mut self, id: SessionId, session: EndedSession, most: usize) {
        if self.younger.len() >= most / 2 {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(id, session);
    }
}

/// A table is shrunk once fewer than one in this many of its slots are in use.
pub(crate) const SPARSE: usize = 4;

/// The capacity that a table may keep however empty it is.
pub(crate) const KEPT_CAPACITY: usize = 1024;
