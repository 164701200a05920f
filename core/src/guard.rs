//! Calls the application's code, which may panic.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt as _;

use stillhere_proto::SessionId;

/// Calls `call` on behalf of a session. If it panics, logs that `what` panicked and returns `None`.
pub(crate) fn guarded<T>(session: &SessionId, what: &'static str, call: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(call));
    if result.is_err() {
        tracing::error!(%session, "{what} panicked");
    }
    result.ok()
}

/// For adapters: awaits the application's function that determines the user who made a request. If
/// the function panics, logs that and returns `None`.
pub async fn guarded_principal(principal: impl Future<Output = Option<String>>) -> Option<String> {
    let found = AssertUnwindSafe(principal).catch_unwind().await;
    if found.is_err() {
        tracing::error!("the function that determines the principal panicked; the visitor counts as not logged in");
    }
    found.ok().flatten()
}
