//! A store in memory, for tests and for one process after another within a program.

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::durable::store::{Commit, Record, Store, StoreError, StoreFuture};
use crate::lock::Lock;
use stillhere_proto::{Lane, SessionId};

/// Keeps records in memory. Clones share them, and they outlive a hub.
///
/// Commits take effect at once. To see what an application does when its disk is full, see
/// [`MemoryStore::fail`].
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Lock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    records: HashMap<SessionId, Kept>,
    failure: Option<StoreError>,
    commits: u64,
}

#[derive(Debug)]
struct Kept {
    record: Record,
    keep: Duration,
    since: Instant,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes everything fail with this error, until it is called with `None`.
    pub fn fail(&self, failure: Option<StoreError>) {
        self.inner.lock().failure = failure;
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.inner.lock().records.len()
    }

    /// Returns true if there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of commits so far.
    pub fn commits(&self) -> u64 {
        self.inner.lock().commits
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> Result<T, StoreError>) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
    {
        let mut inner = self.inner.lock();
        let result = match &inner.failure {
            Some(failure) => Err(failure.clone()),
            None => work(&mut inner),
        };
        Box::pin(ready(result))
    }
}

impl Store for MemoryStore {
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64> {
        self.with(|inner| inner.commit(commit))
    }

    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>> {
        self.with(|inner| Ok(inner.records.get(&id).map(|kept| kept.record.clone())))
    }

    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()> {
        self.with(|inner| {
            inner.check(&id, revision)?;
            inner.records.remove(&id);
            Ok(())
        })
    }

    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>> {
        let now = crate::clock::now();
        self.with(|inner| {
            let expired = inner.records.iter().filter(|(_, kept)| now >= kept.since + kept.keep);
            Ok(expired
                .map(|(id, kept)| (*id, kept.record.revision))
                .take(most)
                .collect())
        })
    }
}

impl Inner {
    /// Checks that the record has this revision. Nothing is wrong with a record that is gone.
    fn check(&self, id: &SessionId, revision: u64) -> Result<(), StoreError> {
        match self.records.get(id) {
            Some(kept) if kept.record.revision != revision => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }

    fn commit(&mut self, commit: Commit) -> Result<u64, StoreError> {
        self.check(&commit.id, commit.replaces)?;
        if commit.replaces != 0 && !self.records.contains_key(&commit.id) {
            return Err(StoreError::Fenced);
        }
        self.commits += 1;
        let mut record = self
            .records
            .remove(&commit.id)
            .map(|kept| kept.record)
            .unwrap_or_default();
        record.revision = commit.replaces + 1;
        record.head = commit.head;
        for (lane, rows) in Lane::ALL.into_iter().zip([commit.rows.interactive, commit.rows.bulk]) {
            let kept = &mut record.rows[lane];
            kept.retain(|row| !commit.clears_rows && row.last > commit.acknowledged[lane]);
            kept.extend(rows);
        }
        let revision = record.revision;
        self.records.insert(
            commit.id,
            Kept {
                record,
                keep: commit.keep,
                since: crate::clock::now(),
            },
        );
        Ok(revision)
    }
}
