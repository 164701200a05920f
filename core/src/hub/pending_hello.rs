//! The connections that wait for their hello.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::hub::places::Place;

/// Holds a place among the connections that wait for their hello, of all and of those who make it.
#[derive(Debug)]
pub(crate) struct PendingHello {
    pub(super) all: Arc<AtomicUsize>,
    pub(super) _place: Place,
}

impl Drop for PendingHello {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}
