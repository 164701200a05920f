//! The current time, on a clock that tests can pause.

use std::time::Instant;

/// Returns the current time, on the clock that `tokio::time::pause` stops.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
