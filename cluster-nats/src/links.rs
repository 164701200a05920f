//! The hops that end at this server, and the messages that have arrived for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::packets::NO_LINK;

/// The hops that end at this server, by number.
#[derive(Debug)]
pub(crate) struct Links {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Link>>,
}

#[derive(Debug)]
struct Link {
    /// The other server, as soon as it is known.
    peer: Option<u64>,
    arrivals: UnboundedSender<Bytes>,
    held: Arc<AtomicUsize>,
}

/// What arrives over one hop. Dropping it closes the hop at this end.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(crate) number: u64,
    links: Arc<Links>,
    arrivals: UnboundedReceiver<Bytes>,
    held: Arc<AtomicUsize>,
}

impl Links {
    /// `first` should be random, so that the numbers of two servers differ.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            next: AtomicU64::new(first.max(NO_LINK + 1)),
            open: Mutex::default(),
        }
    }

    /// Opens a hop at this end.
    pub(crate) fn open(self: &Arc<Self>, peer: Option<u64>) -> Arrivals {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, arrivals) = mpsc::unbounded_channel();
        let held = Arc::default();
        let link = Link {
            peer,
            arrivals: sender,
            held: Arc::clone(&held),
        };
        self.lock().insert(number, link);
        Arrivals {
            number,
            links: Arc::clone(self),
            arrivals,
            held,
        }
    }

    /// Notes which server the other end is at.
    pub(crate) fn set_peer(&self, number: u64, peer: u64) {
        if let Some(link) = self.lock().get_mut(&number) {
            link.peer = Some(peer);
        }
    }

    /// Passes a message to its hop. Cuts the hop if it already holds [`MOST_HELD`] bytes.
    pub(crate) fn give(&self, number: u64, message: Bytes) {
        let mut open = self.lock();
        let Some(link) = open.get(&number) else { return };
        let held = link.held.fetch_add(charge(&message), Ordering::Relaxed);
        if held > MOST_HELD || link.arrivals.send(message).is_err() {
            tracing::debug!(number, held, "cut a hop whose connection does not take its messages");
            open.remove(&number);
        }
    }

    /// Cuts all hops for which `is_lost` returns true. Its argument is the other server, if known.
    pub(crate) fn cut(&self, is_lost: impl Fn(Option<u64>) -> bool) {
        self.lock().retain(|_, link| !is_lost(link.peer));
    }

    /// Returns the number of hops that end here.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Link>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    /// Returns the next message. `None` if the hop was cut.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let message = ready!(self.arrivals.poll_recv(context));
        if let Some(message) = &message {
            self.held.fetch_sub(charge(message), Ordering::Relaxed);
        }
        Poll::Ready(message)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.links.lock().remove(&self.number);
    }
}

fn charge(message: &Bytes) -> usize {
    message.len() + MESSAGE
}

/// Approximate overhead of a message in memory, in bytes.
const MESSAGE: usize = 64;

/// Bytes that a hop may hold for a connection that does not take them. A session sends at most its
/// windows before the page must acknowledge something: 1.3 MiB by default.
const MOST_HELD: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(arrivals: &mut Arrivals) -> Option<Bytes> {
        poll_fn(|context| arrivals.poll_next(context)).await
    }

    #[tokio::test]
    async fn a_hop_gets_its_messages_until_it_is_cut() {
        let links = Arc::new(Links::new(0));
        let (mut first, mut second) = (links.open(Some(1)), links.open(None));
        links.set_peer(second.number, 2);
        links.give(first.number, Bytes::from_static(b"1"));
        links.give(second.number, Bytes::from_static(b"2"));
        links.cut(|peer| peer == Some(1));
        assert_eq!(next(&mut first).await, Some(Bytes::from_static(b"1")));
        assert_eq!(next(&mut first).await, None);
        assert_eq!(
            (next(&mut second).await, links.len()),
            (Some(Bytes::from_static(b"2")), 1)
        );
        drop(second);
        assert_eq!(links.len(), 0);
    }

    #[tokio::test]
    async fn a_hop_that_takes_nothing_is_cut_and_others_are_not() {
        let links = Arc::new(Links::new(0));
        let (mut stalled, mut other) = (links.open(None), links.open(None));
        let large = Bytes::from(vec![0; MOST_HELD / 4]);
        for _ in 0..6 {
            links.give(stalled.number, large.clone());
            links.give(other.number, large.clone());
            assert!(next(&mut other).await.is_some());
        }
        assert_eq!(links.len(), 1);
        let mut taken = 0;
        while next(&mut stalled).await.is_some() {
            taken += 1;
        }
        assert!((4..6).contains(&taken), "{taken}");
    }
}
