//! A store of durable sessions on NATS JetStream.

mod content;
mod expiry;
mod known;
mod label;
mod reading;
mod stream;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use bytes::Bytes;
use stillhere::SessionId;
use stillhere::durable::{Commit, Record, Store, StoreError, StoreFuture};

use crate::store::expiry::{Expiry, Scan};
use crate::store::known::{Known, KnownRecords, Plan, Verdict};
use crate::store::label::{CommitId, Kind, Label, Unreadable};
use crate::store::reading::{Place, read};
use crate::store::stream::{PublishError, Stream};

/// Keeps the records of durable sessions in a stream of NATS JetStream, so that any server of a
/// cluster can open them.
///
/// The stream has one subject for each session. A commit publishes a message that names the last
/// message of its subject, so NATS refuses the commits of a server that no longer owns the session.
/// A record of up to 64 KiB is one message. A larger one is a message and its changes since, and
/// commits above the server's `max_payload` go in parts, which count once all are stored.
///
/// Each request to NATS ends within [`NatsStoreOptions::timeout`]. A commit whose answer is lost is
/// looked up; if that fails too the hub commits again, and nothing is stored twice.
///
/// # What survives
///
/// A commit has returned once NATS has acknowledged it: it survives the end of any process, that of
/// `nats-server` too. By default a server of NATS flushes its files every two minutes, so a power
/// failure of one server loses what it acknowledged since. Use 3 replicas, or set `sync_interval:
/// always` in its configuration.
///
/// # Example
///
/// ```no_run
/// use stillhere::Hub;
/// use stillhere_nats::{NatsStore, NatsStoreOptions};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = async_nats::connect("nats://127.0.0.1:4222").await?;
/// let mut options = NatsStoreOptions::default();
/// options.replicas = 3;
/// let store = NatsStore::new(client, options).await?;
/// let hub = Hub::builder().store(store).build();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NatsStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stream: Stream,
    options: NatsStoreOptions,
    opened: Instant,
    writer: u64,
    commits: AtomicU64,
    known: KnownRecords,
    expiry: Mutex<Expiry>,
}

/// How a [`NatsStore`] uses NATS.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NatsStoreOptions {
    /// The name of the stream. Default `stillhere_sessions`.
    pub stream: String,
    /// The beginning of the subjects. The record of a session is at `<subject_prefix>.<id>`, and a
    /// damaged one is moved to `<subject_prefix>.aside.<id>`. Default `stillhere.sessions`.
    pub subject_prefix: String,
    /// How many servers of NATS store each message, from 1 to 5, if the stream is created. Default
    /// 1; use 3 where NATS is a cluster.
    pub replicas: usize,
    /// The longest time to wait for an answer of NATS. Default 5 s.
    pub timeout: Duration,
    /// How long each record is kept at least after the store was opened, so that the time while
    /// nothing ran does not count against a session. Default 30 s.
    pub least_keep: Duration,
    /// The shortest time between two scans for records that have expired. Default 60 s.
    pub scan_interval: Duration,
    /// How much longer a record is kept that another process wrote, so that it can renew those of
    /// its live sessions first. Must be longer than `scan_interval` of all processes. Default
    /// 3 min.
    pub grace: Duration,
}

impl Default for NatsStoreOptions {
    fn default() -> Self {
        Self {
            stream: "stillhere_sessions".to_owned(),
            subject_prefix: "stillhere.sessions".to_owned(),
            replicas: 1,
            timeout: Duration::from_secs(5),
            least_keep: Duration::from_secs(30),
            scan_interval: Duration::from_secs(60),
            grace: Duration::from_secs(180),
        }
    }
}

/// Why a [`NatsStore`] could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenNatsStoreError {
    /// There is a stream with this name that would lose sessions.
    #[error("the stream {stream} cannot hold durable sessions: {reason}; change it, or name another one")]
    Unfit {
        /// The name of the stream.
        stream: String,
        /// What is wrong with it.
        reason: String,
    },
    /// NATS did not answer, or has refused to create the stream.
    #[error("cannot open the stream {stream}: {reason}; JetStream must be on (`nats-server -js`)")]
    Failed {
        /// The name of the stream.
        stream: String,
        /// What went wrong.
        reason: String,
    },
}

impl NatsStore {
    /// Opens the stream, or creates it if there is none.
    ///
    /// # Errors
    /// Returns an [`OpenNatsStoreError`] if NATS does not answer in time, or if the stream is not
    /// made for sessions.
    pub async fn new(client: Client, options: NatsStoreOptions) -> Result<Self, OpenNatsStoreError> {
        let failed = |reason: String| OpenNatsStoreError::Failed {
            stream: options.stream.clone(),
            reason,
        };
        let opened = tokio::time::timeout(3 * options.timeout, Stream::open(client, &options));
        let stream = opened
            .await
            .map_err(|_| failed(format!("NATS did not answer within {:?}", options.timeout)))??;
        let writer = getrandom::u64().map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                stream,
                options,
                opened: Instant::now(),
                writer,
                commits: AtomicU64::new(1),
                known: KnownRecords::default(),
                expiry: Mutex::default(),
            }),
        })
    }
}

impl Store for NatsStore {
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64> {
        Box::pin(self.inner.commit(commit))
    }

    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>> {
        Box::pin(async move { Ok(read(&self.inner.stream, &id).await?.map(|read| read.record)) })
    }

    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()> {
        Box::pin(self.inner.remove(id, revision))
    }

    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>> {
        Box::pin(self.inner.expired(most))
    }
}

impl Inner {
    async fn commit(&self, commit: Commit) -> Result<u64, StoreError> {
        let (id, keep) = (commit.id, commit.keep);
        let mut known = match self.known.take(&id, commit.replaces) {
            Some(known) => known,
            None if commit.replaces == 0 => Known::default(),
            None => match read(&self.stream, &id).await? {
                Some(read) if read.record.revision == commit.replaces => read.into(),
                _ => return Err(StoreError::Fenced),
            },
        };
        let written = self.write(&mut known, commit).await;
        match written {
            Err(StoreError::Fenced) => {}
            _ => self.known.put(id, known, keep + self.options.grace),
        }
        written
    }

    /// Writes a commit, and applies it to what is known of its record.
    async fn write(&self, known: &mut Known, commit: Commit) -> Result<u64, StoreError> {
        let id = commit.id;
        let commit_id = self.next_commit();
        for attempt in 1..=ATTEMPTS {
            let plan = known.plan(&commit);
            let failure = match self.publish(&id, known, &plan, commit_id, commit.keep).await {
                Ok((base, revision)) => {
                    self.drop_replaced(&id, known, &plan, base, revision).await;
                    known.handle_stored(commit, &plan, base, revision);
                    return Ok(revision);
                }
                Err(PublishError::Refused(error)) => return Err(error),
                Err(PublishError::WrongLast) => None,
                Err(PublishError::Lost(error)) => {
                    known.handle_lost(commit_id);
                    Some(error)
                }
            };
            let place = match self.place(&id).await {
                Ok(place) => place,
                Err(error) => return Err(failure.unwrap_or(error)),
            };
            match (known.judge(&place, commit_id), failure) {
                (Verdict::Counts, _) => {
                    let base = place.last.map_or(place.tail, |last| last.base);
                    known.handle_stored(commit, &plan, base, place.tail);
                    return Ok(place.tail);
                }
                (Verdict::Foreign, _) => return Err(StoreError::Fenced),
                (Verdict::Unchanged, Some(error)) => return Err(error),
                // Parts of a commit that did not count lie behind the record.
                (Verdict::Unchanged, None) => self.give_way(&place, attempt).await,
            }
        }
        Err(StoreError::Failed(
            "other processes write the record at the same time".to_owned(),
        ))
    }

    /// Publishes all parts of a commit. Returns the sequences of the first and of the last one.
    async fn publish(
        &self,
        id: &SessionId,
        known: &Known,
        plan: &Plan,
        commit: CommitId,
        keep: Duration,
    ) -> Result<(u64, u64), PublishError> {
        let parts = parts_of(&plan.payload, self.stream.largest_payload());
        let count = u32::try_from(parts.len()).expect("a record has fewer parts than bytes");
        let (mut first, mut last) = (0, known.tail);
        for (part, payload) in (1..).zip(parts) {
            let label = Label {
                kind: plan.kind,
                commit,
                replaces: known.there,
                base: if plan.kind == Kind::Whole { first } else { plan.base },
                part: (part, count),
                keep,
                payload: crc32fast::hash(&payload),
            };
            let rolls_up = plan.kind == Kind::Whole && count == 1;
            let published = self.stream.publish(id, &label, payload, last, rolls_up).await;
            last = match published {
                Ok(sequence) => sequence,
                Err(PublishError::Lost(error)) if part < count => self
                    .sequence_of(id, commit, part)
                    .await
                    .ok_or(PublishError::Lost(error))?,
                Err(error) => return Err(error),
            };
            first = if first == 0 { last } else { first };
        }
        Ok((first, last))
    }

    /// Returns the sequence of a part, if it is the last message of its session.
    async fn sequence_of(&self, id: &SessionId, commit: CommitId, part: u32) -> Option<u64> {
        let place = self.place(id).await.ok()?;
        let last = place.last?;
        (last.commit == commit && last.part == part).then_some(place.tail)
    }

    /// Removes what a whole record replaces, unless its message did that.
    async fn drop_replaced(&self, id: &SessionId, known: &Known, plan: &Plan, base: u64, revision: u64) {
        let has_rolled_up = base == revision && self.stream.can_roll_up();
        if plan.kind != Kind::Whole || known.tail == 0 || has_rolled_up {
            return;
        }
        let dropped = match known.lone_message() {
            Some(sequence) => self.stream.delete(sequence).await,
            None => self.stream.purge_before(id, base).await,
        };
        if let Err(error) = dropped {
            tracing::debug!(session = %id, %error, "an old record stays until the session is removed");
        }
    }

    /// Leaves time to another process that writes a record in parts. Both may: the first counts.
    async fn give_way(&self, place: &Place, attempt: u32) {
        if place.last.is_some_and(|last| last.commit.writer != self.writer) {
            let share = u32::try_from(self.writer % 16).unwrap_or_default() + 1;
            tokio::time::sleep(share * attempt * PAUSE).await;
        }
    }

    /// Returns what the last message says of the record. A damaged one is set aside first.
    async fn place(&self, id: &SessionId) -> Result<Place, StoreError> {
        loop {
            match Place::of(self.stream.last(id).await?.as_ref()) {
                Ok(place) => return Ok(place),
                Err(Unreadable::Damaged | Unreadable::Newer) => drop(read(&self.stream, id).await?),
            }
        }
    }

    async fn remove(&self, id: SessionId, revision: u64) -> Result<(), StoreError> {
        let known = self.known.take(&id, revision);
        let mut known = known.unwrap_or_else(|| Known::of_revision(revision));
        let commit = self.next_commit();
        for _ in 0..ATTEMPTS {
            let place = self.place(&id).await?;
            if place.is_vacant() {
                return Ok(());
            }
            if known.judge(&place, commit) != Verdict::Unchanged {
                return Err(StoreError::Fenced);
            }
            let label = Label {
                kind: Kind::Removal,
                commit,
                replaces: place.revision,
                base: 0,
                part: (1, 1),
                keep: Duration::ZERO,
                payload: crc32fast::hash(&[]),
            };
            match self.stream.publish(&id, &label, Bytes::new(), place.tail, true).await {
                Ok(sequence) => {
                    self.forget_removal(&id, sequence).await;
                    return Ok(());
                }
                Err(PublishError::WrongLast) => {}
                // Nobody can write the record either.
                Err(PublishError::Refused(StoreError::Full)) => {
                    return self.stream.purge_before(&id, place.tail + 1).await;
                }
                Err(PublishError::Refused(error)) => return Err(error),
                Err(PublishError::Lost(error)) => {
                    return if self.place(&id).await?.is_vacant() {
                        Ok(())
                    } else {
                        Err(error)
                    };
                }
            }
        }
        Err(StoreError::Failed(
            "other processes write the record at the same time".to_owned(),
        ))
    }

    /// Deletes the mark of a removal, which is of use only as long as others may publish.
    async fn forget_removal(&self, id: &SessionId, sequence: u64) {
        let before = if self.stream.can_roll_up() {
            Ok(())
        } else {
            self.stream.purge_before(id, sequence).await
        };
        let forgotten = match before {
            Ok(()) => self.stream.delete(sequence).await,
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::debug!(session = %id, %error, "the mark of a removal stays until a scan finds it");
        }
    }

    async fn expired(&self, most: usize) -> Result<Vec<(SessionId, u64)>, StoreError> {
        let begins = self.expiry().begin_scan(Instant::now(), &self.options);
        if begins {
            self.known.forget_old();
            let mut scan = Scan::new(&self.options, self.writer, self.opened.elapsed());
            if let Err(error) = self.stream.scan(|scanned| scan.visit(&scanned)).await {
                self.expiry().handle_failed_scan();
                return Err(error);
            }
            let removals = self.expiry().handle_scan(scan, Instant::now());
            for (id, sequence) in removals {
                self.forget_removal(&id, sequence).await;
            }
        }
        Ok(self.expiry().take(most))
    }

    fn next_commit(&self) -> CommitId {
        CommitId {
            writer: self.writer,
            number: self.commits.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn expiry(&self) -> MutexGuard<'_, Expiry> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts a payload into parts of at most `largest` bytes. There is always one.
fn parts_of(payload: &Bytes, largest: usize) -> Vec<Bytes> {
    let mut rest = payload.clone();
    let mut parts = Vec::new();
    while rest.len() > largest {
        parts.push(rest.split_to(largest));
    }
    parts.push(rest);
    parts
}

/// How often a record is written that others write at the same time.
const ATTEMPTS: u32 = 8;

/// The shortest pause before a record is written again.
const PAUSE: Duration = Duration::from_millis(5);
