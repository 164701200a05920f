//! The visibility of the page, and how often a hidden page tries to reconnect.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Presence {
    /// How long the server keeps the session without a connection; `None` before the first welcome.
    pub(super) keep: Option<Duration>,
    /// When the last welcomed connection was lost.
    pub(super) lost_at: Instant,
    hidden_at: Option<Instant>,
}

impl Presence {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            keep: None,
            lost_at: now,
            hidden_at: None,
        }
    }

    /// Returns true if the page was hidden and is visible again.
    pub(super) fn handle_hidden(&mut self, hidden: bool, now: Instant) -> bool {
        if hidden {
            self.hidden_at.get_or_insert(now);
            return false;
        }
        self.hidden_at.take().is_some()
    }

    /// Returns when a page that stays hidden and unconnected stops trying.
    pub(super) fn rest_at(&self) -> Option<Instant> {
        Some(self.hidden_at?.max(self.lost_at) + self.keep?)
    }

    /// Returns the longest wait between two attempts.
    pub(super) fn backoff_cap(&self) -> Duration {
        match (self.hidden_at, self.keep) {
            (None, _) => VISIBLE_CAP,
            (Some(_), None) => UNKNOWN_CAP,
            (Some(_), Some(keep)) => (keep / 4).min(HIDDEN_CAP),
        }
    }
}

/// Longest wait of a visible page.
const VISIBLE_CAP: Duration = Duration::from_secs(3);
/// Upper bound on a quarter of `keep`, which may be unlimited.
const HIDDEN_CAP: Duration = Duration::from_secs(300);
/// Longest wait of a hidden page that does not know `keep`.
const UNKNOWN_CAP: Duration = Duration::from_secs(10);
