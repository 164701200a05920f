//! The servers that are alive: each sends a sign of life at an interval.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Options of [`Servers`]. They must be the same on all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServersOptions {
    /// The subject of the signs of life. Default `stillhere.servers`.
    pub subject: String,
    /// Time between two signs of life. At least 10 ms. Default 500 ms.
    pub interval: Duration,
    /// After how many signs of life of its own, without one from another server, a server takes the
    /// other for lost. At least 2. Default 4, which is 2 seconds.
    pub lost_after: u32,
}

impl Default for ServersOptions {
    fn default() -> Self {
        Self {
            subject: "stillhere.servers".into(),
            interval: Duration::from_millis(500),
            lost_after: 4,
        }
    }
}

/// The servers that are connected to the same NATS, this one among them. It is cheap to clone, and
/// this server says that it is alive until the last clone is dropped.
///
/// A server is lost when nothing is heard from it for 2 seconds, by default. The others measure
/// this time by their own signs of life as they come back from NATS: while NATS itself is away, no
/// server is lost.
#[derive(Clone)]
pub struct Servers {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    client: Client,
    id: u64,
    known: Mutex<Known>,
    /// How many servers were lost.
    lost: watch::Sender<u64>,
    reconnects: watch::Sender<Reconnects>,
}

#[derive(Default)]
struct Known {
    /// How many of its own signs of life this server has heard.
    beats: u64,
    /// The value of `beats` when each other server was last heard from.
    heard: HashMap<u64, u64>,
}

/// How often the client has reconnected to NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reconnects {
    pub(crate) count: u64,
    /// The last time before the latest reconnect at which NATS is known to have worked.
    pub(crate) worked: Instant,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Servers {
    /// Makes this process one of the servers, under a new id.
    ///
    /// # Errors
    /// Returns an error if the subject is not valid or the client is closed.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub async fn join(client: Client, options: ServersOptions) -> Result<Self, async_nats::SubscribeError> {
        let beats = client.subscribe(options.subject.clone()).await?;
        let shared = Arc::new(Shared {
            client,
            id: random(),
            known: Mutex::default(),
            lost: watch::Sender::default(),
            reconnects: watch::Sender::new(Reconnects {
                count: 0,
                worked: Instant::now(),
            }),
        });
        let heart = Heart {
            connects: shared.connects(),
            shared: Arc::clone(&shared),
            options,
            asked: None,
            worked: Instant::now(),
        };
        let task = tokio::spawn(heart.run(beats)).abort_handle();
        let inner = Arc::new(Inner { shared, task });
        Ok(Self { inner })
    }

    /// Returns the id of this server. Each call of [`Servers::join`] makes a new one.
    pub fn id(&self) -> u64 {
        self.inner.shared.id
    }

    /// Returns the ids of the other servers that are alive, in no order.
    pub fn others(&self) -> Vec<u64> {
        self.inner.shared.known().heard.keys().copied().collect()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.shared.client
    }

    /// Returns true if the server was heard from recently, or is this one.
    pub(crate) fn is_alive(&self, server: u64) -> bool {
        server == self.id() || self.inner.shared.known().heard.contains_key(&server)
    }

    /// Counts anything that a server has sent, or that is known of it, as a sign of life.
    pub(crate) fn heard_of(&self, server: u64) {
        self.inner.shared.heard_of(server);
    }

    /// Watches how many servers have been lost.
    pub(crate) fn lost(&self) -> watch::Receiver<u64> {
        self.inner.shared.lost.subscribe()
    }

    pub(crate) fn reconnects(&self) -> watch::Receiver<Reconnects> {
        self.inner.shared.reconnects.subscribe()
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    fn heard_of(&self, server: u64) {
        if server == self.id {
            return;
        }
        let mut known = self.known();
        let beats = known.beats;
        if known.heard.len() < MOST_SERVERS || known.heard.contains_key(&server) {
            known.heard.insert(server, beats);
        }
    }

    /// Counts a sign of life of this server, and removes the servers that are lost.
    fn beat(&self, lost_after: u32) {
        let lost = {
            let mut known = self.known();
            known.beats += 1;
            let oldest = known.beats.saturating_sub(lost_after.max(2).into());
            let before = known.heard.len();
            known.heard.retain(|_, beat| *beat >= oldest);
            before - known.heard.len()
        };
        if lost > 0 {
            tracing::warn!(lost, "other servers are lost: nothing is heard from them any more");
            self.lost.send_modify(|count| *count += lost as u64);
        }
    }
}

/// Sends this server's signs of life, and hears those of all servers.
struct Heart {
    shared: Arc<Shared>,
    options: ServersOptions,
    connects: u64,
    /// When it last said that it is alive, until it has heard itself.
    asked: Option<Instant>,
    worked: Instant,
}

impl Heart {
    async fn run(mut self, mut beats: Subscriber) {
        let mut ticks = interval(self.options.interval.max(SHORTEST));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.say().await,
                beat = beats.next() => match beat {
                    Some(beat) => self.hear(&beat.payload),
                    None => return,
                },
            }
        }
    }

    async fn say(&mut self) {
        let connects = self.shared.connects();
        if connects != self.connects {
            self.connects = connects;
            self.asked = None;
            let worked = self.worked;
            self.shared.reconnects.send_modify(|reconnects| {
                reconnects.count += 1;
                reconnects.worked = worked;
            });
        }
        // One at a time: otherwise several would come back at once after a pause of NATS, before
        // those of the other servers, and these would seem lost.
        if self.asked.is_none_or(|asked| asked.elapsed() > GIVEN_UP) {
            self.asked = Some(Instant::now());
            let id = self.shared.id.to_le_bytes().to_vec();
            let subject = self.options.subject.clone();
            let _ = self.shared.client.publish(subject, id.into()).await;
        }
    }

    fn hear(&mut self, payload: &[u8]) {
        let Ok(server) = payload.try_into().map(u64::from_le_bytes) else {
            return;
        };
        if server != self.shared.id {
            return self.shared.heard_of(server);
        }
        if self.asked.take().is_some() {
            self.worked = Instant::now();
            self.shared.beat(self.options.lost_after);
        }
    }
}

/// Returns a random number, which is not 0.
fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    u64::from_le_bytes(bytes).max(1)
}

/// Most servers that are remembered. More are likely to be strangers that use the same subject.
const MOST_SERVERS: usize = 10_000;

const SHORTEST: Duration = Duration::from_millis(10);

/// After this time a sign of life that has not come back counts as lost, and the next one is sent.
const GIVEN_UP: Duration = Duration::from_secs(5);
