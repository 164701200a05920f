//! Checks that only the records of how they ended remain of ended sessions.

mod support;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere::{Hub, Session};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use support::wire::RawDocument;
use support::{seconds, settled};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs one test at a time, because the allocator counts for all of them.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

async fn idle(session: Session) {
    session.ended().await;
}

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn growth(before: usize) -> isize {
    live_bytes() as isize - before as isize
}

fn hub() -> Hub {
    Hub::builder().max_sessions(200_000).max_unconnected(200_000).build()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_abandoned_sessions_leave_only_records_of_their_ends() {
    const SESSIONS: usize = 100_000;
    let _alone = alone().await;
    let hub = hub();
    settled().await;
    let (tasks, bytes) = (alive_tasks(), live_bytes());
    let mut after_first = 0;
    for round in 1..=3 {
        for _ in 0..SESSIONS {
            hub.open(idle);
        }
        assert_eq!(hub.stats().sessions, SESSIONS);
        let each = growth(bytes).cast_unsigned() / SESSIONS;
        println!("round {round}: {each} bytes for each waiting session");
        tokio::time::sleep(seconds(31)).await;
        settled().await;
        assert_eq!(
            (hub.stats().sessions, hub.stats().unconnected, hub.stats().buffered),
            (0, 0, 0)
        );
        assert_eq!(alive_tasks(), tasks);
        let left = growth(bytes);
        println!("round {round}: {left} bytes left");
        if round == 1 {
            after_first = left;
            assert!(
                left < 140 * SESSIONS as isize,
                "{left} bytes are left: more than an id, a secret, a reason and a principal"
            );
        } else {
            assert!(
                (left - after_first).abs() < 20_000,
                "{after_first} bytes grew to {left}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_thousand_expired_sessions_leave_only_records_of_their_ends() {
    const SESSIONS: usize = 2000;
    let _alone = alone().await;
    let hub = hub();
    settled().await;
    let (tasks, bytes) = (alive_tasks(), live_bytes());
    let mut after_first = 0;
    for round in 1..=4 {
        let sessions: Vec<_> = (0..SESSIONS).map(|_| hub.open(idle)).collect();
        let mut wires = Vec::new();
        for session in &sessions {
            let mut document = RawDocument::new(session);
            wires.push(document.welcomed(&hub).await);
            session.send(vec![7; 100]).await.expect("there is room");
        }
        drop(sessions);
        for (wire, _) in &wires {
            wire.data().await;
        }
        assert!(alive_tasks() >= tasks + 2 * SESSIONS);
        assert_eq!(hub.stats().connections, SESSIONS);
        drop(wires);
        settled().await;
        assert_eq!(hub.stats().connections, 0);
        tokio::time::sleep(seconds(121)).await;
        settled().await;
        assert_eq!((hub.stats().sessions, hub.stats().buffered), (0, 0));
        // The sweeper keeps sessions for ten more seconds, the grace period of their functions.
        tokio::time::sleep(seconds(11)).await;
        assert_eq!(alive_tasks(), tasks);
        let left = growth(bytes);
        println!("round {round}: {left} bytes left");
        if round == 1 {
            after_first = left;
        } else {
            // The records of how they ended are in tables that grow by doubling.
            let most = 200 * (round - 1) * SESSIONS as isize + 20_000;
            assert!(left - after_first < most, "{after_first} bytes grew to {left}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_says_hello_leaves_nothing() {
    let _alone = alone().await;
    let hub = hub();
    let mut before = 0;
    for round in 0..3 {
        let session = hub.open(idle);
        let document = RawDocument::new(&session);
        let silent: Vec<_> = (0..2000)
            .map(|_| support::wire::Wire::connect(&hub, &document.access.id))
            .collect();
        tokio::time::sleep(seconds(9)).await;
        assert_eq!(hub.stats().connections, 2000);
        tokio::time::sleep(seconds(3)).await;
        assert_eq!(hub.stats().connections, 0);
        drop(silent);
        session.close("");
        settled().await;
        if round == 0 {
            before = live_bytes();
        } else {
            assert!(growth(before) < 20_000, "{} bytes", growth(before));
        }
    }
}

/// Checks the budget of 1 KB for a session without a connection.
#[tokio::test(start_paused = true)]
async fn a_waiting_and_a_soft_closed_session_are_small() {
    const SESSIONS: usize = 5000;
    let _alone = alone().await;
    let hub = hub();
    settled().await;
    let bytes = live_bytes();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| hub.open(idle)).collect();
    let handles = SESSIONS * size_of::<stillhere::SessionHandle>();
    let waiting = (growth(bytes).cast_unsigned() - handles) / SESSIONS;
    for session in &sessions {
        let mut document = RawDocument::new(session);
        let (wire, _) = document.welcomed(&hub).await;
        session.send("x").await.expect("there is room");
        wire.data().await;
        wire.send_data(stillhere::Lane::Interactive, 1, "y");
        wire.ack(1, 0);
        settled().await;
    }
    tokio::time::sleep(seconds(2)).await;
    let soft_closed = (growth(bytes).cast_unsigned() - handles) / SESSIONS;
    println!("{waiting} bytes for a waiting session, {soft_closed} for a soft-closed one with its function's task");
    assert!(waiting < 1700, "{waiting}");
    assert!(soft_closed < 2700, "{soft_closed}");
}
