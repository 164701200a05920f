//! Rooms over several servers.

mod batch;
mod follower;
mod link;
mod options;
mod order;
mod outbox;
mod snapshots;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use stillhere_app::{Replica, RoomEngine, RoomLink, ServerId};
use tokio::runtime::Handle;
use tokio::time::Instant;

pub use options::NatsRoomsOptions;
pub use order::OrderError;

use crate::servers::Servers;
use batch::{Mark, overhead};
use link::Link;
use order::Orderer;
use outbox::Limits;

/// Rooms whose members have their sessions on several servers.
///
/// What happens in a room goes through a JetStream stream of NATS, which puts it into one order, so
/// that all members see the same, in the same order, wherever they are. A server subscribes only to
/// the rooms that it uses.
///
/// While NATS is away, members stay, and what they send waits. Once too much waits, it is refused
/// with [`PublishError::Busy`](stillhere_app::PublishError::Busy). Once NATS is back, what was accepted
/// arrives, unless this server has died. If NATS itself has died, it has forgotten what it kept in
/// memory: members are put right, but some servers may miss events that it had not passed on to
/// them.
///
/// When a server dies, its members leave the room 2 seconds later with
/// [`Departure::Lost`](stillhere_app::Departure::Lost). A server that was only paused or cut off
/// finds that its members have left, and has them join again, as they are then.
///
/// ```no_run
/// use stillhere::Hub;
/// use stillhere_app::HubBuilderExt as _;
/// use stillhere_nats::{NatsRooms, NatsRoomsOptions, Servers, ServersOptions};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = async_nats::connect("nats://127.0.0.1").await?;
/// let servers = Servers::join(client, ServersOptions::default()).await?;
/// let engine = NatsRooms::start(&servers, NatsRoomsOptions::default()).await?;
/// let hub = Hub::builder().room_engine(engine).build();
/// # Ok(())
/// # }
/// ```
pub struct NatsRooms {
    shared: Arc<Shared>,
}

/// What all rooms of this server share.
struct Shared {
    servers: Servers,
    orderer: Orderer,
    options: NatsRoomsOptions,
    runtime: Handle,
    /// Bytes that wait for NATS.
    waiting: Arc<AtomicUsize>,
    /// The number of the last batch.
    batches: AtomicU64,
    /// When the log was last told that the order cannot be followed.
    complained: Mutex<Option<Instant>>,
}

impl fmt::Debug for NatsRooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsRooms")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl NatsRooms {
    /// Creates an engine for [`room_engine`](stillhere_app::HubBuilderExt::room_engine), and the stream if there
    /// is none.
    ///
    /// # Errors
    /// Returns an [`OrderError`] if NATS does not answer within a second, has no JetStream, or has
    /// another stream of this name.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub async fn start(servers: &Servers, options: NatsRoomsOptions) -> Result<Self, OrderError> {
        let orderer = Orderer::new(servers.client().clone(), &options);
        orderer.order(Instant::now()).await?;
        let shared = Shared {
            servers: servers.clone(),
            orderer,
            options,
            runtime: Handle::current(),
            waiting: Arc::default(),
            batches: AtomicU64::new(0),
            complained: Mutex::default(),
        };
        Ok(Self { shared: shared.into() })
    }
}

impl RoomEngine for NatsRooms {
    fn server(&self) -> ServerId {
        self.shared.server()
    }

    fn open(&self, room: &Weak<Replica>, name: &str) -> Box<dyn RoomLink> {
        Box::new(Link::open(&self.shared, room.clone(), name))
    }
}

impl Shared {
    fn server(&self) -> ServerId {
        ServerId(self.servers.id())
    }

    fn limits(&self) -> Limits {
        let NatsRoomsOptions {
            waiting,
            waiting_bytes,
            all_waiting_bytes,
            ..
        } = self.options;
        Limits {
            waiting: waiting.max(1),
            bytes: waiting_bytes,
            all_bytes: all_waiting_bytes,
            all: Arc::clone(&self.waiting),
            largest: self.largest(),
        }
    }

    /// Returns the most bytes of a batch: what NATS takes, less what republishing adds.
    fn largest(&self) -> usize {
        self.servers
            .client()
            .max_payload()
            .saturating_sub(HEADERS)
            .max(overhead())
    }

    /// Logs why rooms cannot be followed, at most once in 10 seconds.
    fn complain(&self, error: &OrderError) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAINTS) {
            *complained = Some(Instant::now());
            drop(complained);
            tracing::warn!(%error, "rooms wait for NATS");
        }
    }

    fn next_mark(&self) -> Mark {
        Mark {
            server: self.server(),
            number: self.batches.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

/// Returns the part of subjects that stands for a room: names may have any characters.
fn token(room: &str) -> String {
    let hash = Sha256::digest(room.as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that NATS adds to a message which it republishes, and then some.
const HEADERS: usize = 1024;

/// Time between two lines in the log.
const COMPLAINTS: Duration = Duration::from_secs(10);
