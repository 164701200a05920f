//! The current time, on a clock that tests can pause.

use std::time::Instant;
#[cfg(feature = "cluster")]
use std::{sync::OnceLock, time::SystemTime};

/// Returns the current time, on the clock that `tokio::time::pause` stops.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns a time as other processes know it. Later times stay later.
#[cfg(feature = "cluster")]
pub(crate) fn to_system_time(at: Instant) -> SystemTime {
    let (instant, system_time) = *start();
    let converted = match at.checked_duration_since(instant) {
        Some(later) => system_time.checked_add(later),
        None => system_time.checked_sub(instant - at),
    };
    converted.unwrap_or(system_time)
}

/// Returns the time that another process calls so.
#[cfg(feature = "cluster")]
pub(crate) fn to_instant(at: SystemTime) -> Instant {
    let (instant, system_time) = *start();
    let converted = match at.duration_since(system_time) {
        Ok(later) => instant.checked_add(later),
        Err(earlier) => instant.checked_sub(earlier.duration()),
    };
    converted.unwrap_or(instant)
}

/// The same moment on both clocks. It stays the same, so that the order of converted times does.
#[cfg(feature = "cluster")]
fn start() -> &'static (Instant, SystemTime) {
    static START: OnceLock<(Instant, SystemTime)> = OnceLock::new();
    START.get_or_init(|| (now(), SystemTime::now()))
}
