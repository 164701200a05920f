//! The state that a client and its driver share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use stillhere_proto::machine::DocumentMachine;
use tokio::sync::watch;

use crate::status::Status;

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Wakes the driver.
    pub(crate) driver: AtomicWaker,
    /// Notifies that the state may have changed.
    pub(crate) changed: watch::Sender<()>,
    pub(crate) status: watch::Sender<Status>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: DocumentMachine,
    /// True once the program has closed the client. Nothing more is sent or received.
    pub(crate) is_closed: bool,
    /// True once the client was dropped. The driver then ends at once.
    pub(crate) is_dropped: bool,
    /// True once the driver has completed.
    pub(crate) is_done: bool,
}

impl Shared {
    pub(crate) fn new(machine: DocumentMachine) -> Self {
        Self {
            state: Mutex::new(State {
                machine,
                is_closed: false,
                is_dropped: false,
                is_done: false,
            }),
            driver: AtomicWaker::new(),
            changed: watch::Sender::new(()),
            status: watch::Sender::new(Status::Connecting(Default::default())),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the driver, which acts on the change.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.driver.wake();
        result
    }

    /// Waits until `condition` returns a value. Calls it again after every change.
    pub(crate) async fn wait_until<T>(&self, mut condition: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(value) = self.with(&mut condition) {
                return value;
            }
            // The sender lives as long as self.
            let _ = changes.changed().await;
        }
    }
}

/// Returns the time from the runtime's clock, which tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
