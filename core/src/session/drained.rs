//! Waits until the browser has acknowledged what was sent.

use std::pin::pin;

use crate::session::SessionHandle;
use crate::session::send::Waiting;
use crate::session::shared::Shared;
use crate::session::state::Inner;
use stillhere_proto::{Lane, PerLane};

/// What is still to be awaited.
enum Undrained {
    /// Messages that wait outside the outbox: behind a restore function, or as the newest of their
    /// key if that was among the first so many keys to begin to wait.
    Outside { begun: u64 },
    /// The frames up to these sequences of this document.
    Queued { incarnation: u64, last: PerLane<u64> },
}

impl SessionHandle {
    /// Waits until the browser has acknowledged everything that was sent before, or the session has
    /// ended. Cancel safe.
    ///
    /// The browser acknowledges a message when its client has it, which is not when its handler has
    /// run. A message of [`SessionHandle::send_latest`] that is replaced counts as its replacement.
    /// Messages that are dropped because another document takes over are not awaited any longer.
    pub async fn drained(&self) {
        self.shared.drained().await;
    }
}

impl Shared {
    async fn drained(&self) {
        let _waiting = Waiting::new(&self.senders);
        let mut undrained = self.lock().undrained();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.lock().is_drained(&mut undrained) {
                return;
            }
            changed.await;
        }
    }
}

impl Inner {
    fn undrained(&self) -> Undrained {
        let begun = self.latest.as_ref().map_or(0, |latest| latest.begun());
        Undrained::Outside { begun }
    }

    fn is_drained(&self, undrained: &mut Undrained) -> bool {
        if self.is_over() {
            return true;
        }
        if let Undrained::Outside { begun } = undrained {
            let latest = self.latest.as_ref();
            if self.gate.is_some() || self.ledger_len() > 0 || latest.is_some_and(|latest| latest.waits_since(*begun)) {
                return false;
            }
            *undrained = Undrained::Queued {
                incarnation: self.document(),
                last: self.machine.queued(),
            };
        }
        let Undrained::Queued { incarnation, last } = undrained else {
            return false;
        };
        let acknowledged = self.machine.acknowledged();
        self.document() != *incarnation || Lane::ALL.iter().all(|lane| acknowledged[*lane] >= last[*lane])
    }

    /// Returns the number of the document that gets what is queued: also before it has connected.
    fn document(&self) -> u64 {
        self.machine.incarnation().max(1)
    }
}
