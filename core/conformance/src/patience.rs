//! How long a condition is waited for.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

/// Far beyond what anything here takes, so that only what never comes runs into it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What `future` gives.
///
/// # Panics
/// Saying that `what` did not happen, when it takes longer than [`PATIENCE`].
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for this: {what}"),
    }
}
