//! Where durable sessions are kept: the interface to a store.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;

use stillhere_proto::machine::Row;
use stillhere_proto::{PerLane, SessionId};

/// Keeps the records of durable sessions.
///
/// A record has a *revision*, which each commit replaces with a greater one. A commit names the
/// revision that it replaces. So a process that no longer owns a session cannot write its record.
pub trait Store: Send + Sync + 'static {
    /// Changes a record in one step, or creates it, and returns its new revision. Once this has
    /// returned, the change survives a crash.
    ///
    /// # Errors
    /// Returns [`StoreError::Fenced`] if the record has another revision. After any other error the
    /// record is as before.
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64>;

    /// Returns the record of a session, or `None` if there is none. A record that cannot be read is
    /// set aside with a line in the log, and there is none from then on.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>>;

    /// Removes a record with this revision. Does nothing if there is none.
    ///
    /// # Errors
    /// Returns [`StoreError::Fenced`] if the record has another revision.
    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()>;

    /// Returns up to `most` sessions whose records have expired, with their revisions. A record
    /// expires when it has not been replaced for [`Commit::keep`], and no record does before the
    /// store has been open for as long.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>>;
}

/// Awaits what a store does. A panic of the store is a failure like others: whoever waits for the
/// answer would otherwise wait forever.
pub(crate) async fn guarded_store<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| Err(StoreError::Failed("it panicked".to_owned())))
}

/// What a method of a [`Store`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A change of one record.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Commit {
    /// The session.
    pub id: SessionId,
    /// The revision of the record to replace; 0 to create the record.
    pub replaces: u64,
    /// Everything about the session except its messages, in the format of this crate.
    pub head: Bytes,
    /// Whether the messages of the record are dropped, before `rows` are added.
    pub clears_rows: bool,
    /// Messages of the record whose last sequence is not above this one are dropped.
    pub acknowledged: PerLane<u64>,
    /// Messages to add. They come after those that the record has.
    pub rows: PerLane<Vec<Row>>,
    /// How long the record is kept if nothing replaces it.
    pub keep: Duration,
}

impl Commit {
    /// Creates a commit that changes the head only.
    pub fn new(id: SessionId, replaces: u64, head: Bytes, keep: Duration) -> Self {
        Self {
            id,
            replaces,
            head,
            clears_rows: false,
            acknowledged: PerLane::default(),
            rows: PerLane::default(),
            keep,
        }
    }
}

/// A record, as it was committed last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The number to name in the next commit.
    pub revision: u64,
    /// [`Commit::head`].
    pub head: Bytes,
    /// The messages, by their sequence.
    pub rows: PerLane<Vec<Row>>,
}

/// Why a store could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has written the record.
    #[error("another process owns this session")]
    Fenced,
    /// There is no room.
    #[error("the disk is full: durable sessions wait until there is room")]
    Full,
    /// The store cannot be written.
    #[error("the store is read-only: durable sessions wait until it can be written ({0})")]
    ReadOnly(String),
    /// Something else went wrong.
    #[error("the store failed: {0}")]
    Failed(String),
}
