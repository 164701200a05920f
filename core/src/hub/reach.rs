//! Detects a hub that no page ever reaches.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Detects that no page reaches the hub, because its routes are not mounted, or something before
/// them refuses the requests.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    is_reached: AtomicBool,
    /// Sessions that ended without a page, before any page reached the hub.
    missed: AtomicU32,
}

impl Reach {
    /// Notes that a page has reached the hub.
    pub(crate) fn note_page(&self) {
        if !self.is_reached.load(Ordering::Relaxed) {
            self.is_reached.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that a session ended without a page. Returns true once, when a warning should be
    /// logged.
    pub(crate) fn note_missed(&self) -> bool {
        !self.is_reached.load(Ordering::Relaxed) && self.missed.fetch_add(1, Ordering::Relaxed) + 1 == TELLING
    }
}

/// How many sessions must end without a page before the warning: health checks and link previews
/// end a few as well.
const TELLING: u32 = 3;
