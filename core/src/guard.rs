//! Calls into the application's code, which may panic.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt as _;

use stillhere_proto::SessionId;

/// Calls `call`; if it panics, that is reported and costs nobody else anything.
pub(crate) fn guarded<T>(session: &SessionId, what: &'static str, call: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(call));
    if result.is_err() {
        tracing::error!(%session, "{what} panicked");
    }
    result.ok()
}

/// For adapters: who makes a request, as the application finds out; nobody if it panics, which is reported.
pub async fn guarded_principal(principal: impl Future<Output = Option<String>>) -> Option<String> {
    let found = AssertUnwindSafe(principal).catch_unwind().await;
    if found.is_err() {
        tracing::error!("the function that tells the principal panicked");
    }
    found.ok().flatten()
}
