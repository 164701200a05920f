//! Wakes the task that carries a connection.

use std::sync::Arc;
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// The task that carries a connection, as its session and its timer wake it. A timer that holds
/// this instead of the task need not be polled whenever the task is, only to learn which task it
/// is.
#[derive(Debug, Default)]
pub(crate) struct ConnectionWaker(AtomicWaker);

impl ConnectionWaker {
    /// Sets the task to wake.
    pub(crate) fn register(&self, task: &Waker) {
        self.0.register(task);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}
