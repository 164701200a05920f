//! Restores a session's state in a new document: the application's restore function sends first.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::session::SessionHandle;
use crate::session::host::Host;
use crate::session::send::{SendError, Via};
use crate::session::shared::{Shared, Touched};
use crate::session::state::Effect;
use stillhere_proto::{Lane, Message};

/// Sends to a document that has just taken over the session, ahead of all other senders.
#[derive(Debug)]
pub struct Restoring {
    handle: SessionHandle,
    incarnation: u64,
}

impl Restoring {
    /// Sends as [`SessionHandle::send`] does, ahead of all other senders.
    ///
    /// # Errors
    /// Returns the errors of [`SessionHandle::send`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.handle
            .shared
            .send(Lane::Interactive, message.into(), Via::Restore(self.incarnation))
            .await
    }

    /// Sends as [`SessionHandle::send_bulk`] does, ahead of all other senders.
    ///
    /// # Errors
    /// Returns the errors of [`SessionHandle::send`].
    pub async fn send_bulk(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.handle
            .shared
            .send(Lane::Bulk, message.into(), Via::Restore(self.incarnation))
            .await
    }
}

pub(crate) type RestoreFunction = Arc<dyn Fn(Restoring) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Shared {
    /// Sets the application's restore function. The application knows the documents up to
    /// incarnation `known`; if a later one has connected already, it is restored now.
    pub(crate) fn set_on_restore(self: &Arc<Self>, restore: RestoreFunction, known: u64) {
        let (replaced, missed) = self.touch(|inner| {
            let current = inner.machine.incarnation();
            let is_missed = inner.on_restore.is_none() && current > known && !inner.is_ending_or_over();
            let replaced = if inner.is_over() {
                Some(restore)
            } else {
                inner.on_restore.replace(restore)
            };
            let missed = is_missed.then(|| inner.begin_restore(current)).flatten();
            ((replaced, missed), Touched::Nothing)
        });
        // This must happen without the lock, because dropping the function's captured values may
        // run code of the application.
        drop(replaced);
        if let Some(Effect::Restore(restore, incarnation)) = missed
            && let Some(host) = self.common.host.upgrade()
        {
            self.restore(&*host, restore, incarnation);
        }
    }

    /// Runs the application's restore function, then opens the gate for other senders.
    pub(super) fn restore(self: &Arc<Self>, host: &dyn Host, restore: RestoreFunction, incarnation: u64) {
        let opener = GateOpener {
            shared: Arc::clone(self),
            incarnation,
        };
        host.runtime().spawn(async move {
            let shared = &opener.shared;
            let restoring = Restoring {
                handle: SessionHandle::new(Arc::clone(shared)),
                incarnation,
            };
            let restored = AssertUnwindSafe(async move { restore(restoring).await }).catch_unwind();
            tokio::select! {
                biased;
                () = shared.gate_is_gone(incarnation) => {}
                restored = tokio::time::timeout(RESTORE_WAIT, restored) => match restored {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => tracing::error!(
                        session = %shared.id,
                        "the restore function panicked; the session continues without it"
                    ),
                    Err(_) => tracing::error!(
                        session = %shared.id,
                        "stopped the restore function because it did not return within 10 s; the session continues"
                    ),
                }
            }
        });
    }

    /// Waits until the restore function for this document is no longer needed.
    async fn gate_is_gone(&self, incarnation: u64) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.lock().gate.as_ref().is_none_or(|gate| !gate.is_for(incarnation)) {
                return;
            }
            changed.await;
        }
    }

    fn open_gate(self: &Arc<Self>, incarnation: u64) {
        self.touch(|inner| {
            if inner.gate.as_ref().is_some_and(|gate| gate.is_for(incarnation)) {
                inner.empty_gate();
                inner.gate = None;
                inner.note_greeted(incarnation);
            }
            ((), Touched::Gate)
        });
        self.end_outside_turn();
    }
}

/// Opens the gate when dropped: when the restore function has returned, panicked or been dropped.
struct GateOpener {
    shared: Arc<Shared>,
    incarnation: u64,
}

impl Drop for GateOpener {
    fn drop(&mut self) {
        self.shared.open_gate(self.incarnation);
    }
}

const RESTORE_WAIT: Duration = Duration::from_secs(10);
