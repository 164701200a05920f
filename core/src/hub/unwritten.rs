//! Ends of durable sessions that the store could not write yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::durable::store::{Commit, Store, StoreError, guarded_store};
use crate::lock::Lock;
use crate::rate_limited_log::RateLimitedLog;
use stillhere_proto::SessionId;

/// Writes the ends of sessions later, so that a store that fails for long keeps neither a session
/// nor a task for each of them.
pub(super) struct Unwritten {
    store: Arc<dyn Store>,
    queue: Lock<Queue>,
    /// Notified when all are written.
    is_empty: Notify,
    failures: RateLimitedLog,
    dropped: RateLimitedLog,
}

#[derive(Default)]
struct Queue {
    ends: HashMap<SessionId, Commit>,
    /// The keys of `ends`, oldest first.
    order: VecDeque<SessionId>,
    /// True while a task writes.
    is_writing: bool,
}

impl Unwritten {
    pub(super) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            queue: Lock::default(),
            is_empty: Notify::new(),
            failures: RateLimitedLog::default(),
            dropped: RateLimitedLog::default(),
        })
    }

    /// Adds an end that could not be written. If there are too many, drops the oldest.
    pub(super) fn push(self: &Arc<Self>, runtime: &Handle, end: Commit) {
        let (is_full, starts) = {
            let mut queue = self.queue.lock();
            let is_full = queue.order.len() >= MOST;
            if is_full && let Some(oldest) = queue.order.pop_front() {
                queue.ends.remove(&oldest);
            }
            queue.order.push_back(end.id);
            queue.ends.insert(end.id, end);
            (is_full, !std::mem::replace(&mut queue.is_writing, true))
        };
        if is_full && let Some(count) = self.dropped.count(crate::clock::now()) {
            tracing::error!(
                count,
                "forgot the ends of durable sessions: the store fails, and more than {MOST} ends wait for it; such a session goes on if its page comes back"
            );
        }
        if starts {
            runtime.spawn(write_all(Arc::downgrade(self)));
        }
    }

    /// Waits until all are written.
    pub(super) async fn written(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.is_empty.notified());
            emptied.as_mut().enable();
            if !self.queue.lock().is_writing {
                return;
            }
            emptied.await;
        }
    }

    /// Tries to write the oldest. Returns false if the store still fails.
    async fn write_some(&self) -> bool {
        let oldest: Vec<_> = {
            let queue = self.queue.lock();
            let oldest = queue.order.iter().take(AT_ONCE);
            oldest.filter_map(|id| queue.ends.get(id).cloned()).collect()
        };
        let ids: Vec<_> = oldest.iter().map(|end| end.id).collect();
        let writing = oldest
            .into_iter()
            .map(|end| guarded_store(async { self.store.commit(end).await }));
        let results = join_all(writing).await;
        let mut failure = None;
        let mut queue = self.queue.lock();
        for (id, result) in ids.into_iter().zip(results) {
            match result {
                // If another process owns the session, it goes on there.
                Ok(_) | Err(StoreError::Fenced) => {
                    queue.ends.remove(&id);
                }
                Err(error) => failure = Some(error),
            }
        }
        let Queue { ends, order, .. } = &mut *queue;
        order.retain(|id| ends.contains_key(id));
        drop(queue);
        let Some(error) = failure else { return true };
        if let Some(count) = self.failures.count(crate::clock::now()) {
            tracing::error!(%error, count, "the store has failed: the ends of durable sessions wait for it");
        }
        false
    }
}

/// Writes until nothing is left, or the hub is gone.
async fn write_all(unwritten: Weak<Unwritten>) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(unwritten) = unwritten.upgrade() else { return };
        pause = if unwritten.write_some().await {
            Duration::ZERO
        } else {
            (2 * pause).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        };
        let mut queue = unwritten.queue.lock();
        if queue.order.is_empty() {
            *queue = Queue::default();
            drop(queue);
            unwritten.is_empty.notify_waiters();
            return;
        }
    }
}

/// Most ends that wait, with some 600 bytes each.
const MOST: usize = 10_000;

/// How many are written at once, so that one flush of the store serves them.
const AT_ONCE: usize = 256;

/// Pauses after a failure; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::durable::memory_store::MemoryStore;

    #[tokio::test(start_paused = true)]
    async fn the_newest_ends_are_written_once_the_store_works() {
        let store = MemoryStore::new();
        store.fail(Some(StoreError::Full));
        let unwritten = Unwritten::new(Arc::new(store.clone()));
        let ids: Vec<_> = std::iter::repeat_with(SessionId::random).take(MOST + 50).collect();
        for id in &ids {
            let end = Commit::new(*id, 0, Bytes::new(), Duration::from_secs(60));
            unwritten.push(&Handle::current(), end);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(unwritten.queue.lock().ends.len(), MOST);
        store.fail(None);
        unwritten.written().await;
        assert_eq!(store.len(), MOST);
        for (number, id) in ids.iter().enumerate() {
            let record = store.load(*id).await.expect("it works");
            assert_eq!(record.is_some(), number >= 50, "{number}");
        }
        // Another one starts another task.
        let end = Commit::new(SessionId::random(), 0, Bytes::new(), Duration::from_secs(60));
        unwritten.push(&Handle::current(), end);
        unwritten.written().await;
        assert_eq!(store.len(), MOST + 1);
    }
}
