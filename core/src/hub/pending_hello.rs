//! Connections that wait for their hello.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::hub::places::{Place, Places};
use crate::peer::Peer;
use stillhere_proto::code::Code;
use stillhere_proto::wire::{End, millis};

/// Counts the connections that wait for their hello.
#[derive(Debug, Default)]
pub(super) struct PendingHellos {
    taken: Arc<AtomicUsize>,
    /// Counts the same connections per peer.
    by_peer: Arc<Places>,
    /// The time over which a hub that has shut down spreads reconnects.
    drained: watch::Sender<Option<Duration>>,
}

/// A place among the connections that wait for their hello, counted in total and for each peer.
#[derive(Debug)]
pub(crate) struct PendingHello {
    taken: Arc<AtomicUsize>,
    /// How many connections were already waiting.
    place: usize,
    drained: watch::Receiver<Option<Duration>>,
    _by_peer: Place,
}

impl PendingHellos {
    /// Returns a place if fewer than `most` are taken in total, and each of these peers holds fewer
    /// than its share.
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

    /// Tells all waiting connections that no session is left.
    pub(super) fn drain(&self, spread: Duration) {
        self.drained.send_replace(Some(spread));
    }
}

impl PendingHello {
    /// Waits until the hub has shut down, and returns what to tell the waiting connection.
    pub(crate) async fn drained(&mut self) -> End {
        let place = u32::try_from(self.place % SPREAD).expect("the spread is small");
        // A connection that opens after the shutdown is not told here: it sends its hello first,
        // and then learns more.
        if self.drained.changed().await.is_err() {
            // The hub was dropped without a shutdown.
            return pending().await;
        }
        let spread = self.drained.borrow().unwrap_or_default();
        let retry_after = RETRY_FIRST + spread * place / SPREAD as u32;
        End::connection(Code::Draining, "the server is shutting down").retry_after(millis(retry_after))
    }
}

impl Drop for PendingHello {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The shortest time after which a browser is told to reconnect after a shutdown.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The number of delays over which waiting connections are spread.
const SPREAD: usize = 64;
