//! Counts the bytes that all sessions of a hub buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stillhere_proto::{Message, SharedBytes};
use tokio::sync::Notify;

/// Counts the bytes that all sessions buffer, and holds the limit.
#[derive(Debug)]
pub(crate) struct Memory {
    held: Arc<AtomicU64>,
    limit: u64,
    /// Notified when the count exceeds the limit.
    pressure: Arc<Notify>,
}

impl Memory {
    pub(crate) fn new(limit: u64, pressure: Arc<Notify>) -> Self {
        Self {
            held: Arc::default(),
            limit,
            pressure,
        }
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Prepares a message for several sessions: its bytes count once.
    pub(crate) fn share(&self, message: Message) -> Message {
        let size = message.len() as u64;
        let shared = SharedBytes::new(Arc::clone(&self.held), size);
        let held = self.held();
        self.notice(held.saturating_sub(size), held);
        message.into_shared(shared)
    }

    /// Handles growth from `before` to `after` bytes. Wakes the sweep when the count passes the
    /// limit. While the count stays above the limit, the sweep checks it on its own.
    pub(crate) fn notice(&self, before: u64, after: u64) {
        if before <= self.limit && after > self.limit {
            self.pressure.notify_one();
        }
    }

    /// Returns true if sessions must end to free memory.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.held() > self.limit
    }
}

/// The part of the count that belongs to one session. Dropping it subtracts the part.
#[derive(Debug)]
pub(crate) struct Account {
    memory: Arc<Memory>,
    size: u64,
}

impl Account {
    pub(crate) fn new(memory: Arc<Memory>) -> Self {
        Self { memory, size: 0 }
    }

    pub(crate) fn set(&mut self, size: u64) {
        if size > self.size {
            let growth = size - self.size;
            let before = self.memory.held.fetch_add(growth, Ordering::Relaxed);
            self.memory.notice(before, before + growth);
        } else if size < self.size {
            self.memory.held.fetch_sub(self.size - size, Ordering::Relaxed);
        }
        self.size = size;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0);
    }
}
