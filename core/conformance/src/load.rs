//! Sends numbered messages, and counts which of them are missing, duplicated or out of order.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use stillhere::{Lane, PerLane, SendError, Session, SessionHandle};
use tokio::sync::watch;

use crate::application::Handing;
use crate::browser::Browser;
use crate::patience::within;
use crate::random::Random;

/// Returns the message with this number and size, which is at least 8 bytes.
pub fn numbered(number: u64, size: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(size);
    message.put_u64_le(number);
    message.resize(size.max(8), filler(number));
    message.freeze()
}

fn filler(number: u64) -> u8 {
    number.wrapping_mul(31) as u8
}

/// Counts of the numbered messages that arrived. All but `received` are 0 if the promise was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Messages that arrived.
    pub received: u64,
    /// Numbers that were skipped.
    pub missing: u64,
    /// Numbers that had already arrived or been skipped.
    pub doubled_or_reordered: u64,
    /// Messages whose bytes differ from those sent.
    pub damaged: u64,
    next: u64,
}

impl Tally {
    /// Counts a message.
    pub fn count(&mut self, message: &[u8]) {
        let Some((number, rest)) = message.split_first_chunk() else {
            self.damaged += 1;
            return;
        };
        let number = u64::from_le_bytes(*number);
        self.received += 1;
        self.damaged += u64::from(rest.iter().any(|byte| *byte != filler(number)));
        if number < self.next {
            self.doubled_or_reordered += 1;
        } else {
            self.missing += number - self.next;
            self.next = number + 1;
        }
    }

    /// Asserts that exactly `sent` messages arrived, in order and undamaged.
    ///
    /// # Panics
    /// Panics if that does not hold.
    pub fn assert_exact(&self, sent: u64) {
        let expected = Self {
            received: sent,
            next: sent,
            ..Self::default()
        };
        assert_eq!(*self, expected, "{sent} were sent");
    }
}

/// What one side has received on both lanes.
#[derive(Debug, Clone)]
pub struct Tallies(Arc<watch::Sender<PerLane<Tally>>>);

impl Default for Tallies {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }
}

impl Tallies {
    /// Counts a message.
    pub fn count(&self, lane: Lane, message: &[u8]) {
        self.0.send_modify(|tallies| tallies[lane].count(message));
    }

    /// Returns the present counts.
    pub fn now(&self) -> PerLane<Tally> {
        *self.0.borrow()
    }

    /// Returns the number of messages received on both lanes together.
    pub fn received(&self) -> u64 {
        let now = self.now();
        now.interactive.received + now.bulk.received
    }

    /// Waits until this many messages have arrived on each lane.
    pub async fn wait_for(&self, what: &str, counts: PerLane<u64>) {
        let mut changes = self.0.subscribe();
        let reached = changes.wait_for(|now| Lane::ALL.iter().all(|lane| now[*lane].received >= counts[*lane]));
        within(what, reached).await.expect("the sender lives in self");
    }

    /// Waits until this many messages have arrived on both lanes together.
    pub async fn wait_for_any(&self, what: &str, count: u64) {
        let mut changes = self.0.subscribe();
        let reached = changes.wait_for(|now| now.interactive.received + now.bulk.received >= count);
        within(what, reached).await.expect("the sender lives in self");
    }
}

/// Largest message of each lane in bytes. Sizes range from 8 bytes to this, over all orders of
/// magnitude.
pub type Sizes = PerLane<u64>;

/// Numbered streams in both directions and on both lanes, which run until they are stopped.
#[derive(Debug)]
pub struct Load {
    sizes: Sizes,
    seed: u64,
    running: watch::Sender<bool>,
    /// How many of the four senders are still running.
    sending: watch::Sender<usize>,
    /// What the server has received.
    pub at_server: Tallies,
    /// What the browser has received.
    pub at_browser: Tallies,
    /// Messages sent by the server and by the browser.
    sent: [Sent; 2],
}

type Sent = Mutex<PerLane<u64>>;

#[derive(Debug, Clone, Copy)]
enum From {
    Server,
    Browser,
}

impl Load {
    /// Creates streams with messages up to these sizes.
    pub fn new(sizes: Sizes, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            sizes,
            seed,
            running: watch::Sender::new(true),
            sending: watch::Sender::new(4),
            at_server: Tallies::default(),
            at_browser: Tallies::default(),
            sent: Default::default(),
        })
    }

    /// Returns an application function that counts what it receives, and sends while the load runs.
    pub fn application(self: &Arc<Self>) -> impl FnOnce(Session) -> Handing + Send + 'static {
        let load = Arc::clone(self);
        move |mut session| {
            Box::pin(async move {
                for lane in Lane::ALL {
                    tokio::spawn(Arc::clone(&load).send_from_server(session.handle(), lane));
                }
                while let Some(message) = session.recv().await {
                    load.at_server.count(message.lane(), &message);
                }
            })
        }
    }

    async fn send_from_server(self: Arc<Self>, session: SessionHandle, lane: Lane) {
        let mut messages = self.messages(From::Server, lane);
        while *self.running.borrow() && send(&session, lane, messages.next()).await.is_ok() {}
        self.stopped(From::Server, lane, &messages);
    }

    /// Counts what the browser receives, and sends from it while the load runs.
    pub fn drive(self: &Arc<Self>, browser: &Arc<Browser>) {
        for lane in Lane::ALL {
            tokio::spawn(Arc::clone(self).send_from_browser(Arc::clone(browser), lane));
        }
        let (load, browser) = (Arc::clone(self), Arc::clone(browser));
        tokio::spawn(async move {
            while let Some(delivery) = browser.recv_or_end().await {
                load.at_browser.count(delivery.lane, &delivery.payload);
            }
        });
    }

    async fn send_from_browser(self: Arc<Self>, browser: Arc<Browser>, lane: Lane) {
        let mut messages = self.messages(From::Browser, lane);
        while *self.running.borrow() && browser.send_when_there_is_room(lane, messages.next()).await.is_ok() {}
        self.stopped(From::Browser, lane, &messages);
    }

    fn stopped(&self, from: From, lane: Lane, messages: &Messages) {
        self.sent[from as usize].lock().unwrap_or_else(PoisonError::into_inner)[lane] = messages.next;
        self.sending.send_modify(|sending| *sending -= 1);
    }

    fn messages(&self, from: From, lane: Lane) -> Messages {
        let seed = self.seed.wrapping_mul(4) + from as u64 * 2 + lane as u64;
        Messages {
            random: Random::new(seed),
            next: 0,
            largest: self.sizes[lane],
        }
    }

    /// Stops both sides from sending, waits until everything sent has arrived, and checks the
    /// counts.
    ///
    /// # Panics
    /// Panics if a message is missing, duplicated, out of order or damaged.
    pub async fn finish(&self) {
        self.running.send_replace(false);
        let mut sending = self.sending.subscribe();
        let stopped = sending.wait_for(|sending| *sending == 0);
        within("all senders stop", stopped)
            .await
            .expect("the sender lives in self");
        for (from, what, tallies) in [
            (From::Browser, "the server has everything", &self.at_server),
            (From::Server, "the browser has everything", &self.at_browser),
        ] {
            let sent = *self.sent[from as usize].lock().unwrap_or_else(PoisonError::into_inner);
            tallies.wait_for(what, sent).await;
            for lane in Lane::ALL {
                tallies.now()[lane].assert_exact(sent[lane]);
            }
        }
    }
}

/// The messages of one stream.
struct Messages {
    random: Random,
    next: u64,
    largest: u64,
}

impl Messages {
    fn next(&mut self) -> Bytes {
        let magnitude = self.random.within(3..u64::from(self.largest.ilog2()) + 2);
        let size = self.random.within(8..(1 << magnitude) + 1).min(self.largest);
        let message = numbered(self.next, size as usize);
        self.next += 1;
        message
    }
}

async fn send(session: &SessionHandle, lane: Lane, message: Bytes) -> Result<(), SendError> {
    match lane {
        Lane::Interactive => session.send(message).await,
        Lane::Bulk => session.send_bulk(message).await,
    }
}
