//! The sizes of a session beyond its machine: bytes held elsewhere, and the weight that the
//! application declares.

use std::sync::Arc;

use crate::session::shared::{Shared, Touched};

/// Counts bytes that are held for a session outside its machine. Dropping it sets the count to 0.
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
    pub(crate) fn set_weight(self: &Arc<Self>, bytes: u64) {
        self.touch(|inner| {
            if inner.weight == bytes {
                return ((), Touched::Nothing);
            }
            inner.weight = bytes;
            inner.weighings += 1;
            ((), Touched::Weight)
        });
    }

    /// Counts the messages of a plain client that its document holds for the session.
    pub(crate) fn count_plain(self: &Arc<Self>) {
        self.recount_plain(false);
    }

    /// Closes the document of a plain session, which takes no more messages from now on.
    pub(super) fn close_plain_document(self: &Arc<Self>) {
        self.recount_plain(true);
    }

    fn recount_plain(self: &Arc<Self>, is_over: bool) {
        let Some(document) = &self.plain else { return };
        let changed = {
            let mut document = document.lock();
            if is_over {
                document.close();
            }
            document.recount()
        };
        if let Some((before, after)) = changed {
            self.change_beside(before, after);
        }
    }

    fn change_beside(self: &Arc<Self>, before: u64, after: u64) {
        self.touch(|inner| {
            inner.beside = inner.beside + after - before;
            ((), Touched::Beside)
        });
    }
}
