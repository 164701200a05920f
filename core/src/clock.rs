//! The time, which tests may pause.

use std::time::Instant;

/// Now, on the clock that `tokio::time::pause` stops.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
