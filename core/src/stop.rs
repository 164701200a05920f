//! Signals that ask a program to stop.

/// Waits for Ctrl-C or SIGTERM, the signals by which people, service managers and containers stop a
/// program. Call [`Hub::shutdown`](crate::Hub::shutdown) afterwards.
///
/// # Panics
/// Panics if the program cannot listen for the signals.
#[cfg(unix)]
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).expect("the process can listen for SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("the process can listen for SIGINT");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits for Ctrl-C. Call [`Hub::shutdown`](crate::Hub::shutdown) afterwards.
///
/// # Panics
/// Panics if the program cannot listen for it.
#[cfg(not(unix))]
pub async fn stop_signal() {
    tokio::signal::ctrl_c()
        .await
        .expect("the process can listen for Ctrl-C");
}
