//! Whether pages reach the hub.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Finds out that no page ever does, as when its routes are not mounted, or something before them refuses the requests.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    is_reached: AtomicBool,
    /// Sessions that ended without a page before any came.
    missed: AtomicU32,
}

impl Reach {
    /// A page is here.
    pub(crate) fn note_page(&self) {
        if !self.is_reached.load(Ordering::Relaxed) {
            self.is_reached.store(true, Ordering::Relaxed);
        }
    }

    /// Another session has ended without a page. Returns true once: when that is worth telling.
    pub(crate) fn note_missed(&self) -> bool {
        !self.is_reached.load(Ordering::Relaxed) && self.missed.fetch_add(1, Ordering::Relaxed) + 1 == TELLING
    }
}

/// A health check or a preview opens a page now and then; so many are somebody who wonders.
const TELLING: u32 = 3;
