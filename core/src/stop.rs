//! What asks a program to stop.

/// Waits for Ctrl-C or SIGTERM, by which service managers and containers stop a program: then is the time for
/// [`Hub::shutdown`](crate::Hub::shutdown).
///
/// # Panics
/// If the signals cannot be listened to.
#[cfg(unix)]
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be listened to");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits for Ctrl-C: then is the time for [`Hub::shutdown`](crate::Hub::shutdown).
///
/// # Panics
/// If it cannot be listened to.
#[cfg(not(unix))]
pub async fn stop_signal() {
    tokio::signal::ctrl_c().await.expect("Ctrl-C can be listened to");
}
