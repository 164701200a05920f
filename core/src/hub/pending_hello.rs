//! The connections that wait for their hello.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Holds a place among the connections that wait for their hello.
#[derive(Debug)]
pub(crate) struct PendingHello(pub(super) Arc<AtomicUsize>);

impl Drop for PendingHello {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
