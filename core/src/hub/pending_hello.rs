//! The connections that wait for their hello.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::code::Code;
use crate::hub::places::{Place, Places};
use crate::peer::Peer;
use crate::wire::End;

/// The places for connections that wait for their hello.
#[derive(Debug, Default)]
pub(super) struct PendingHellos {
    taken: Arc<AtomicUsize>,
    /// The same, by who makes them.
    by_peer: Arc<Places>,
    /// Over how long a hub that has shut down spreads those that come back.
    drained: watch::Sender<Option<Duration>>,
}

/// Holds a place among the connections that wait for their hello, of all and of those who make it.
#[derive(Debug)]
pub(crate) struct PendingHello {
    taken: Arc<AtomicUsize>,
    /// How many waited before it.
    place: usize,
    drained: watch::Receiver<Option<Duration>>,
    _by_peer: Place,
}

impl PendingHellos {
    /// A place, if fewer than `most` are taken, and fewer than its share by each of these peers.
    pub(super) fn admit(&self, most: usize, peers: &[Peer], share: impl Fn(&Peer) -> usize) -> Option<PendingHello> {
        let by_peer = self.by_peer.take(peers, share)?;
        let pending = PendingHello {
            place: self.taken.fetch_add(1, Ordering::Relaxed),
            taken: Arc::clone(&self.taken),
            drained: self.drained.subscribe(),
            _by_peer: by_peer,
        };
        (pending.place < most).then_some(pending)
    }

    /// No session is left for anybody who says hello.
    pub(super) fn drain(&self, spread: Duration) {
        self.drained.send_replace(Some(spread));
    }
}

impl PendingHello {
    /// What to tell a connection that was waiting when its hub had shut down.
    pub(crate) async fn drained(&mut self) -> End {
        let place = u32::try_from(self.place % SPREAD).expect("the spread is small");
        // One that came after the shutdown says hello first, and is told more.
        if self.drained.changed().await.is_err() {
            // The hub is gone, and did not shut down.
            return pending().await;
        }
        let spread = self.drained.borrow().unwrap_or_default();
        End {
            code: Code::Draining as u64,
            reason: 0,
            retry_after: crate::machine::millis(RETRY_FIRST + spread * place / SPREAD as u32),
            text: "the server is shutting down".to_owned(),
        }
    }
}

impl Drop for PendingHello {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// No browser is told to come back sooner after a shutdown.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Among how many moments those that waited are spread.
const SPREAD: usize = 64;
