//! Measures the memory of a session that waits for its browser.

mod support;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere::{Hub, Lane, Session};

use support::settled;
use support::wire::RawDocument;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Opens a session whose page sent a message, got its answer without acknowledging it, and
/// disconnected.
async fn soft_closed(hub: &Hub) {
    let session = hub.open(echo);
    let (wire, _) = RawDocument::new(&session).welcomed(hub).await;
    wire.send_data(Lane::Interactive, 1, [7; 64].to_vec());
    wire.data().await;
    drop(wire);
    settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_soft_closed_session_with_a_small_message_is_below_2100_bytes() {
    const SESSIONS: usize = 1000;
    let hub = Hub::new();
    soft_closed(&hub).await;
    let before = live_bytes();
    for _ in 0..SESSIONS {
        soft_closed(&hub).await;
    }
    let each = (live_bytes() - before) / SESSIONS;
    assert!(each < 2100, "{each} bytes");
}
