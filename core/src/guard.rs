//! Calls into the application's code, which may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::id::SessionId;

/// Calls `call`; if it panics, that is reported and costs nobody else anything.
pub(crate) fn guarded<T>(session: &SessionId, what: &'static str, call: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(call));
    if result.is_err() {
        tracing::error!(%session, "{what} panicked");
    }
    result.ok()
}
