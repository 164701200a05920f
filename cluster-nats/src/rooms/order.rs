//! The JetStream stream that puts what happens in rooms into one order.
//!
//! A server publishes to `<prefix>.<room>`. The stream stores it under a sequence and republishes
//! it, in the order of the sequences, to `<prefix>.ordered.<room>`, to which the servers that use
//! the room subscribe. That is a plain subscription and needs no consumer. Whatever is missed can
//! be read from the stream, as long as it is there.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    Config, DirectGetError, DirectGetErrorKind, DiscardPolicy, Republish, StorageType, Stream,
};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::batch::{Mark, mark};
use super::options::NatsRoomsOptions;

/// The stream, and what is known of it.
pub(super) struct Orderer {
    jetstream: Context,
    config: Config,
    newest: Mutex<Option<Arc<Order>>>,
}

/// The stream as it was at a time.
pub(super) struct Order {
    stream: Stream,
    /// When the stream was made: its sequences begin again if it is made again.
    pub(super) epoch: u64,
    /// Nothing has been removed from the stream yet.
    pub(super) is_whole: bool,
    seen: Instant,
}

/// Something in the stream.
pub(super) struct Ordered {
    pub(super) sequence: u64,
    pub(super) batch: Bytes,
}

/// Why the stream cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// NATS does not answer.
    #[error("NATS does not answer")]
    Silent,
    /// The stream cannot be made or read. Is JetStream enabled (`nats-server -js`)?
    #[error("the stream {name:?} cannot be used: {source}")]
    Stream {
        /// Name of the stream.
        name: String,
        /// What NATS says.
        source: async_nats::Error,
    },
    /// There is a stream of this name that does not republish as rooms need it.
    #[error("there is another stream {name:?}, made by something else or by another version: delete it")]
    Foreign {
        /// Name of the stream.
        name: String,
    },
}

impl Orderer {
    pub(super) fn new(client: async_nats::Client, options: &NatsRoomsOptions) -> Self {
        let prefix = &options.prefix;
        Self {
            jetstream: jetstream::new(client),
            config: Config {
                name: prefix.replace('.', "_"),
                subjects: vec![format!("{prefix}.*")],
                storage: StorageType::Memory,
                discard: DiscardPolicy::Old,
                max_age: options.kept_for,
                max_bytes: i64::try_from(options.kept_bytes).unwrap_or(i64::MAX),
                duplicate_window: options.kept_for.min(Duration::from_secs(1)),
                allow_direct: true,
                num_replicas: options.replicas.clamp(1, 5),
                republish: Some(Republish {
                    source: format!("{prefix}.*"),
                    destination: format!("{prefix}.ordered.{{{{wildcard(1)}}}}"),
                    headers_only: false,
                }),
                ..Config::default()
            },
            newest: Mutex::default(),
        }
    }

    /// Returns the stream as it was at `since` or later, and makes it if there is none.
    pub(super) async fn order(&self, since: Instant) -> Result<Arc<Order>, OrderError> {
        let mut newest = self.newest.lock().await;
        if let Some(order) = newest.as_ref().filter(|order| order.seen >= since) {
            return Ok(Arc::clone(order));
        }
        let seen = Instant::now();
        let name = self.config.name.clone();
        let stream = within(self.jetstream.get_or_create_stream(self.config.clone())).await?;
        let stream = stream.map_err(|source| OrderError::Stream {
            name: name.clone(),
            source: source.into(),
        })?;
        let info = stream.cached_info();
        if !info.config.allow_direct || info.config.republish != self.config.republish {
            return Err(OrderError::Foreign { name });
        }
        let order = Arc::new(Order {
            epoch: u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0),
            is_whole: info.state.first_sequence <= 1,
            stream,
            seen,
        });
        *newest = Some(Arc::clone(&order));
        Ok(order)
    }
}

impl Order {
    /// Returns the last of a room, if it is there.
    pub(super) async fn last(&self, subject: &str) -> Result<Option<Ordered>, OrderError> {
        self.ordered(within(self.stream.direct_get_last_for_subject(subject)).await?)
    }

    /// Returns the first of a room from this sequence on, if there is any.
    pub(super) async fn next(&self, subject: &str, sequence: u64) -> Result<Option<Ordered>, OrderError> {
        let next = self.stream.direct_get_next_for_subject(subject, Some(sequence));
        self.ordered(within(next).await?)
    }

    fn ordered(&self, got: Result<StreamMessage, DirectGetError>) -> Result<Option<Ordered>, OrderError> {
        match got {
            Ok(message) => Ok(Some(Ordered {
                sequence: message.sequence,
                batch: message.payload,
            })),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == DirectGetErrorKind::TimedOut => Err(OrderError::Silent),
            Err(source) => Err(OrderError::Stream {
                name: self.stream.cached_info().config.name.clone(),
                source: source.into(),
            }),
        }
    }
}

impl Ordered {
    pub(super) fn mark(&self) -> Option<Mark> {
        mark(&self.batch).ok()
    }
}

/// Returns the sequence of what was republished, and that of the one before it in its room, or 0 if
/// that is not in the stream any more.
pub(super) fn sequences(headers: Option<&HeaderMap>) -> Option<(u64, u64)> {
    let number = |name: &str| headers?.get(name)?.as_str().parse().ok();
    Some((number("Nats-Sequence")?, number("Nats-Last-Sequence").unwrap_or(0)))
}

async fn within<T>(request: impl IntoFuture<Output = T>) -> Result<T, OrderError> {
    timeout(PATIENCE, request).await.map_err(|_| OrderError::Silent)
}

/// How long NATS may take for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
