//! A rate limit for requests, like those that applications put around their routes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Admits `BURST` requests at once, and then one in each `PERIOD`. Others should be answered with
/// 429 and [`RETRY_AFTER`].
#[derive(Debug, Default)]
pub struct Rate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the budget is full again.
    paid_at: Option<Instant>,
    refused: u32,
}

impl Rate {
    /// Returns true if another request is admitted.
    pub fn admit(&self) -> bool {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let paid_at = state.paid_at.map_or(now, |at| at.max(now)) + PERIOD;
        let is_within = paid_at <= now + PERIOD * BURST;
        if is_within {
            state.paid_at = Some(paid_at);
        } else {
            state.refused += 1;
        }
        is_within
    }

    /// Returns how many requests were refused.
    pub fn refused(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused
    }
}

/// Value of the `Retry-After` header, in seconds.
pub const RETRY_AFTER: &str = "1";

/// Longer than the time between two POSTs of a page.
const PERIOD: Duration = Duration::from_millis(250);

/// Enough to connect and to send something.
const BURST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_no_more() {
        let rate = Rate::default();
        let admitted = (0..10).filter(|_| rate.admit()).count();
        assert_eq!((admitted, rate.refused()), (5, 5));
    }
}
