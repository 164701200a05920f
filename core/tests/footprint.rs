//! Measures the memory of a session that waits for its browser.

mod support;

use std::alloc::System;
use std::sync::atomic::{AtomicUsize, Ordering};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere::machine::SessionMachine;
use stillhere::{Hub, Lane, Session, SessionHandle};

use support::settled;
use support::wire::RawDocument;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SESSIONS: usize = 1000;

/// Bytes that the function of each session takes, which are the application's.
static FUNCTION: AtomicUsize = AtomicUsize::new(0);

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

fn open(hub: &Hub) -> SessionHandle {
    hub.open(|session| {
        let function = echo(session);
        FUNCTION.store(size_of_val(&function), Ordering::Relaxed);
        function
    })
}

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Opens a session whose page sent a message, got its answer, and disconnected.
async fn soft_closed(hub: &Hub, acknowledges: bool) {
    let session = open(hub);
    let (wire, _) = RawDocument::new(&session).welcomed(hub).await;
    wire.send_data(Lane::Interactive, 1, [7; 64].to_vec());
    wire.data().await;
    if acknowledges {
        wire.ack(1, 0);
        settled().await;
    }
    drop(wire);
    settled().await;
}

/// Returns the bytes that each of many sessions takes, not counting what the first one takes for
/// all.
async fn each(mut open: impl AsyncFnMut()) -> usize {
    open().await;
    let before = live_bytes();
    for _ in 0..SESSIONS {
        open().await;
    }
    (live_bytes() - before) / SESSIONS
}

#[tokio::test(start_paused = true)]
async fn a_soft_closed_session_costs_a_kilobyte() {
    let hub = Hub::new();
    let empty = each(async || soft_closed(&hub, true).await).await;
    let with_message = each(async || soft_closed(&hub, false).await).await;
    let unconnected = each(async || drop(open(&hub))).await;
    println!("soft-closed: {empty} bytes, of which");
    println!("  the function: {}", FUNCTION.load(Ordering::Relaxed));
    println!("  the machine: {}", size_of::<SessionMachine>());
    println!("soft-closed, with an answer of 64 bytes that was not acknowledged: {with_message} bytes");
    println!("waiting for its first browser: {unconnected} bytes");
    assert!(empty <= 1024 + DURABLE, "{empty} bytes");
    assert!(with_message <= 1250 + DURABLE, "{with_message} bytes");
    assert!(unconnected <= 850 + DURABLE, "{unconnected} bytes");
}

/// With the feature `durable`, each session has room for two pointers, also if it is not durable.
/// The averages vary by a byte, because the sessions share tables that grow in steps.
const DURABLE: usize = if cfg!(feature = "durable") { 16 + 4 } else { 4 };
