//! What is held for a session and is not in its machine: counted with what it buffers.

use std::sync::{Arc, PoisonError};

use crate::session::shared::Shared;

/// Bytes held for a session outside its machine; given back when dropped.
#[derive(Debug)]
pub(crate) struct Beside {
    session: Arc<Shared>,
    size: u64,
}

impl Beside {
    pub(crate) fn new(session: Arc<Shared>) -> Self {
        Self { session, size: 0 }
    }

    pub(crate) fn set(&mut self, size: u64) {
        self.session.change_beside(self.size, size);
        self.size = size;
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Shared {
    fn change_beside(&self, before: u64, after: u64) {
        let mut inner = self.lock();
        inner.beside = inner.beside + after - before;
        inner.settle_account();
    }

    /// Counts what the document of a plain session has taken from its client and the session has not.
    pub(crate) fn count_plain(&self) {
        self.recount_plain(false);
    }

    /// The session is over and takes no more of it.
    pub(crate) fn let_plain_go(&self) {
        self.recount_plain(true);
    }

    fn recount_plain(&self, is_over: bool) {
        let Some(document) = &self.plain else { return };
        let changed = {
            let mut document = document.lock().unwrap_or_else(PoisonError::into_inner);
            if is_over {
                document.close();
            }
            document.recount()
        };
        if let Some((before, after)) = changed {
            self.change_beside(before, after);
        }
    }
}
