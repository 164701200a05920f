//! The servers that are alive: each sends a heartbeat at an interval.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Options of [`Servers`]. They must be the same on all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServersOptions {
    /// The subject of the heartbeats. Default `stillhere.servers`.
    pub subject: String,
    /// Time between two heartbeats. At least 50 ms. Default 300 ms.
    pub interval: Duration,
    /// After how many heartbeats of its own, without one from another server, a server takes the
    /// other for lost. At least 4. Default 7, which is about 2 seconds.
    pub lost_after: u32,
}

impl Default for ServersOptions {
    fn default() -> Self {
        Self {
            subject: "stillhere.servers".into(),
            interval: Duration::from_millis(300),
            lost_after: 7,
        }
    }
}

/// The servers that are connected to the same NATS, this one among them. It is cheap to clone, and
/// this server says that it is alive until the last clone is dropped.
///
/// A server is lost when nothing is heard from it for 2 seconds, by default. The others measure
/// this time by their own heartbeats as they come back from NATS: while NATS itself is away, no
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
    options: ServersOptions,
    known: Mutex<Known>,
    /// How many servers were lost, and how many of them have returned.
    lost: watch::Sender<u64>,
    returned: watch::Sender<u64>,
    interruptions: watch::Sender<Interruptions>,
}

struct Known {
    /// How many of its own heartbeats this server has heard.
    beats: u64,
    /// When it has heard the last of them, or has joined.
    worked: Instant,
    /// How often the client has connected to NATS.
    connects: u64,
    /// When the last interruption ended.
    interrupted: Option<Instant>,
    /// When each other server was last heard from.
    heard: HashMap<u64, Heard>,
    /// Servers that are lost, of which some may only be cut off.
    lost: HashSet<u64>,
}

struct Heard {
    at: Instant,
    /// The value of [`Known::beats`].
    beat: u64,
}

/// The times at which this server could not hear others, nor others this one: its client has
/// connected anew, or its own heartbeats did not come back for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interruptions {
    pub(crate) count: u64,
    /// The last time before the latest interruption at which NATS is known to have worked.
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
        let worked = Instant::now();
        let shared = Arc::new(Shared {
            id: random(),
            options: ServersOptions {
                interval: options.interval.max(SHORTEST),
                lost_after: options.lost_after.max(SILENT_AFTER),
                ..options
            },
            known: Mutex::new(Known {
                beats: 0,
                worked,
                connects: connects(&client),
                interrupted: None,
                heard: HashMap::new(),
                lost: HashSet::new(),
            }),
            lost: watch::Sender::default(),
            returned: watch::Sender::default(),
            interruptions: watch::Sender::new(Interruptions { count: 0, worked }),
            client,
        });
        let heart = Heart {
            shared: Arc::clone(&shared),
            asked: None,
            saying: None,
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

    /// Returns how many servers are alive, this one included.
    pub fn count(&self) -> usize {
        self.inner.shared.known().heard.len() + 1
    }

    /// Returns true if this server reaches NATS: it has heard a heartbeat of its own within the
    /// time of four.
    pub fn reaches_nats(&self) -> bool {
        let shared = &self.inner.shared;
        shared.reaches_nats(&shared.known())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.shared.client
    }

    /// Returns the time between two heartbeats.
    pub(crate) fn interval(&self) -> Duration {
        self.inner.shared.options.interval
    }

    /// Returns true if the server is not lost, or is this one.
    pub(crate) fn is_alive(&self, server: u64) -> bool {
        server == self.id() || self.inner.shared.known().heard.contains_key(&server)
    }

    /// Returns the servers that are heard at present, this one included: none while NATS cannot be
    /// reached. A server that is not heard is not lost yet.
    pub(crate) fn audible(&self) -> HashSet<u64> {
        let shared = &self.inner.shared;
        let known = shared.known();
        if !shared.reaches_nats(&known) {
            return HashSet::new();
        }
        let oldest = known.beats.saturating_sub(SILENT_AFTER.into());
        let heard = known
            .heard
            .iter()
            .filter(|(_, heard)| heard.beat > oldest || oldest == 0);
        heard.map(|(server, _)| *server).chain([shared.id]).collect()
    }

    /// Returns true if all [audible](Self::audible) servers have been heard since then. What a
    /// server has subscribed to, NATS knows when that server is heard.
    pub(crate) fn have_been_heard_since(&self, since: Instant) -> bool {
        let known = self.inner.shared.known();
        let mut audible = known.heard.values().filter(|heard| known.is_audible(heard));
        audible.all(|heard| heard.at > since)
    }

    /// Returns false if servers may still be connecting to NATS again, because this one had to a
    /// moment ago.
    pub(crate) fn is_settled(&self) -> bool {
        let shared = &self.inner.shared;
        let known = shared.known();
        shared.reaches_nats(&known)
            && known.connects == connects(&shared.client)
            && known.interrupted.is_none_or(|at| at.elapsed() >= SETTLING)
    }

    /// Counts anything that a server has sent, or that is known of it, as a heartbeat.
    pub(crate) fn heard_of(&self, server: u64) {
        self.inner.shared.heard_of(server);
    }

    /// Watches how many servers have been lost.
    pub(crate) fn lost(&self) -> watch::Receiver<u64> {
        self.inner.shared.lost.subscribe()
    }

    /// Watches how many servers that were lost have been heard again.
    pub(crate) fn returned(&self) -> watch::Receiver<u64> {
        self.inner.shared.returned.subscribe()
    }

    pub(crate) fn interruptions(&self) -> watch::Receiver<Interruptions> {
        self.inner.shared.interruptions.subscribe()
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reaches_nats(&self, known: &Known) -> bool {
        known.beats > 0 && known.worked.elapsed() < self.patience()
    }

    /// How long this server's heartbeats may stay away.
    fn patience(&self) -> Duration {
        self.options.interval * SILENT_AFTER
    }

    fn heard_of(&self, server: u64) {
        if server == self.id {
            return;
        }
        let mut known = self.known();
        let beats = known.beats;
        if known.heard.len() < MOST_SERVERS || known.heard.contains_key(&server) {
            let at = Instant::now();
            known.heard.insert(server, Heard { at, beat: beats });
        }
        let has_returned = known.lost.remove(&server);
        drop(known);
        if has_returned {
            self.returned.send_modify(|count| *count += 1);
        }
    }

    /// Notes whether the client has connected to NATS again. Returns true if it has.
    fn check_connection(&self) -> bool {
        let connects = connects(&self.client);
        let mut known = self.known();
        if known.connects == connects {
            return false;
        }
        known.connects = connects;
        let worked = known.interrupt();
        drop(known);
        self.tell_interruption(worked);
        true
    }

    /// Counts a heartbeat of this server, and removes the servers that are lost.
    fn beat(&self) {
        let mut known = self.known();
        let is_late = known.beats > 0 && !self.reaches_nats(&known);
        // A new connection has told already of what was before it.
        let is_told = known.interrupted.is_some_and(|at| at > known.worked);
        let interrupted = (is_late && !is_told).then(|| known.interrupt());
        known.worked = Instant::now();
        known.beats += 1;
        let oldest = known.beats.saturating_sub(self.options.lost_after.into());
        let lost = known.heard.extract_if(|_, heard| heard.beat < oldest);
        let lost: Vec<_> = lost.map(|(server, _)| server).collect();
        if known.lost.len() + lost.len() > MOST_SERVERS {
            known.lost.clear();
        }
        known.lost.extend(&lost);
        let lost = lost.len();
        drop(known);
        if lost > 0 {
            tracing::warn!(lost, "other servers are lost: nothing is heard from them any more");
            self.lost.send_modify(|count| *count += lost as u64);
        }
        if let Some(worked) = interrupted {
            self.tell_interruption(worked);
        }
    }

    fn tell_interruption(&self, worked: Instant) {
        self.interruptions.send_modify(|interruptions| {
            interruptions.count += 1;
            interruptions.worked = worked;
        });
    }
}

impl Known {
    fn is_audible(&self, heard: &Heard) -> bool {
        self.beats - heard.beat < SILENT_AFTER.into()
    }

    /// Returns when NATS is known to have worked before.
    fn interrupt(&mut self) -> Instant {
        self.interrupted = Some(Instant::now());
        self.worked
    }
}

/// Sends this server's heartbeats, and hears those of all servers.
struct Heart {
    shared: Arc<Shared>,
    /// When it last sent a heartbeat, until it has heard it.
    asked: Option<Instant>,
    saying: Option<JoinHandle<()>>,
}

impl Heart {
    async fn run(mut self, mut beats: Subscriber) {
        let mut ticks = interval(self.shared.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                beat = beats.next() => match beat {
                    Some(beat) => self.hear(&beat.payload),
                    None => return,
                },
                _ = ticks.tick() => self.say(),
            }
        }
    }

    fn say(&mut self) {
        if self.shared.check_connection() {
            self.asked = None;
        }
        // One at a time: otherwise several would come back at once after a pause of NATS, before
        // those of the other servers, and these would seem lost.
        if self.asked.is_none_or(|asked| asked.elapsed() > GIVEN_UP)
            && self.saying.as_ref().is_none_or(JoinHandle::is_finished)
        {
            self.asked = Some(Instant::now());
            let shared = Arc::clone(&self.shared);
            // The client may have no room while NATS cannot be reached.
            self.saying = Some(tokio::spawn(async move {
                let id = shared.id.to_le_bytes().to_vec();
                let _ = shared.client.publish(shared.options.subject.clone(), id.into()).await;
            }));
        }
    }

    fn hear(&mut self, payload: &[u8]) {
        let Ok(server) = payload.try_into().map(u64::from_le_bytes) else {
            return;
        };
        if server != self.shared.id {
            self.shared.heard_of(server);
        } else if self.asked.take().is_some() {
            self.shared.beat();
        }
    }
}

fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

/// Returns a random number, which is not 0.
fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    u64::from_le_bytes(bytes).max(1)
}

/// Most servers that are remembered. More are likely to be strangers that use the same subject.
const MOST_SERVERS: usize = 10_000;

const SHORTEST: Duration = Duration::from_millis(50);

/// After how many heartbeats of its own a server takes for silent what it does not hear.
const SILENT_AFTER: u32 = 4;

/// How long servers may take to come back to NATS, about: a client waits up to 4 s between
/// attempts.
const SETTLING: Duration = Duration::from_secs(5);

/// After this time a heartbeat that has not come back counts as lost, and the next one is sent.
const GIVEN_UP: Duration = Duration::from_secs(5);
