//! How long tests wait for a condition.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

/// Far longer than anything here takes, so that only what never happens exceeds it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future` and returns its output.
///
/// # Panics
/// Panics with a message that `what` did not happen, if it takes longer than [`PATIENCE`].
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("this did not happen in time: {what}"),
    }
}
