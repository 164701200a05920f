//! What of a turn survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use stillhere::durable::{Durability, MemoryStore, State};
use stillhere::machine::Outcome;
use stillhere::{Hub, Session};

use crate::server::{Address, Count, Process, SlowStore, counting, full, on};
use crate::support::{access, assert_waits, milliseconds, seconds, settled, soon};

#[tokio::test(start_paused = true)]
async fn a_session_survives_that_its_process_is_killed() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    assert_eq!(page.outcome().await, Outcome::Opened);
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    page.send("b");
    assert_eq!(page.text().await, "2 b");
    process.kill(&address).await;
    page.send("c");
    let process = counting(on(&store), Durability::Crash, &address);
    assert_eq!(page.text().await, "3 c");
    assert_eq!(page.outcome().await, Outcome::Resumed);
    assert_eq!(process.hub.stats().sessions, 1);
    assert!(page.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_in_the_next_process_after_a_shutdown() {
    for durability in [Durability::Restart, Durability::Crash] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let process = counting(on(&store), durability, &address);
        let session = process.kind.open(Count::default());
        let page = address.page(access(&session));
        page.send("a");
        assert_eq!(page.text().await, "1 a");
        let report = process.stop(&address).await;
        assert_eq!((report.handed_over, report.aborted), (1, 0), "{report:?}");
        page.send("b");
        for number in 2..5 {
            let process = counting(on(&store), durability, &address);
            assert_eq!(page.text().await, format!("{number} b"), "{durability:?}");
            assert_eq!(process.stop(&address).await.handed_over, 1, "{durability:?}");
            page.send("b");
        }
        assert!(page.inbox().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_for_restarts_is_unknown_after_a_crash() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let mut process = counting(on(&store), Durability::Restart, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    assert!(store.is_empty(), "nothing is written while the process runs");
    // Its record is lent to the next process, which does not write it back.
    assert_eq!(process.stop(&address).await.handed_over, 1);
    process = counting(on(&store), Durability::Restart, &address);
    page.send("b");
    assert_eq!(page.text().await, "2 b");
    page.events();
    process.kill(&address).await;
    let process = counting(on(&store), Durability::Restart, &address);
    assert_eq!(page.refused().await, 4100);
    assert_eq!(process.hub.stats().sessions, 0);
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_a_turn_that_does_not_count() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    let other = process.hub.open(|mut session: Session| async move {
        while let Some(message) = session.recv().await {
            if session.send(message.into_bytes()).await.is_err() {
                return;
            }
        }
    });
    let others_page = address.page(access(&other));
    store.fail(full());
    page.send("b");
    others_page.send("x");
    assert_eq!(others_page.text().await, "x", "sessions that are not durable go on");
    assert_waits(page.next()).await;
    assert!(
        page.outgoing(stillhere::Lane::Interactive) > 0,
        "it is not acknowledged"
    );
    store.fail(None);
    assert_eq!(page.text().await, "2 b");
    // The same over a crash: the turn runs again.
    store.fail(full());
    page.send("c");
    settled().await;
    process.kill(&address).await;
    store.fail(None);
    let _process = counting(on(&store), Durability::Crash, &address);
    assert_eq!(page.text().await, "3 c");
    assert!(page.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nobody_was_told_of_is_not_repeated() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let slow = SlowStore::new(store.clone(), 3, 40);
    let process = counting(on(&slow), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    let before = store.commits();
    page.send("b");
    while store.commits() == before {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(page.inbox().is_empty(), "the store has not answered");
    process.kill(&address).await;
    let _process = counting(on(&store), Durability::Crash, &address);
    assert_eq!(page.text().await, "2 b");
    page.send("c");
    assert_eq!(page.text().await, "3 c");
}

#[tokio::test(start_paused = true)]
async fn what_others_send_while_the_function_reads_counts_at_once() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    settled().await;
    page.set_online(false);
    session.send("news").await.expect("the session is open");
    session.commit().await.expect("the session is open");
    process.kill(&address).await;
    let _process = counting(on(&store), Durability::Crash, &address);
    page.set_online(true);
    assert_eq!(page.text().await, "news");
}

#[tokio::test(start_paused = true)]
async fn a_commit_waits_until_it_counts() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    settled().await;
    store.fail(full());
    session.send("news").await.expect("the session is open");
    let committing = tokio::spawn({
        let session = session.clone();
        async move { session.commit().await }
    });
    settled().await;
    assert!(!committing.is_finished(), "{:?}", committing.await);
    store.fail(None);
    soon("the commit", committing)
        .await
        .expect("no panic")
        .expect("the session is open");
    assert_eq!(page.text().await, "news");
    session.abort("over");
    assert!(session.commit().await.is_err());
}

#[derive(Serialize, Deserialize)]
struct Ticks {
    ticks: u64,
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_read_begins_a_turn() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let start = || {
        let hub = Hub::builder().store(store.clone()).build();
        let kind = hub.durable(
            "ticking",
            Durability::Crash,
            |mut session: Session, state: State<Ticks>| async move {
                let mut ticks = tokio::time::interval(seconds(1));
                loop {
                    tokio::select! {
                        biased;
                        message = session.recv() => if message.is_none() { return },
                        _ = ticks.tick() => {
                            let tick = state.update(|state| { state.ticks += 1; state.ticks });
                            // The turn is not over here: both messages count or neither.
                            session.send(format!("{tick}a")).await.expect("it is open");
                            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                            session.send(format!("{tick}b")).await.expect("it is open");
                        }
                    }
                }
            },
        );
        address.set(Some(&hub));
        Process { hub, kind }
    };
    let mut process = start();
    let session = process.kind.open(Ticks { ticks: 0 });
    let page = address.page(access(&session));
    let mut received = Vec::new();
    for number in 0..20 {
        // In the middle of a turn, and between two.
        tokio::time::sleep(std::time::Duration::from_millis(1000 + 50 * number)).await;
        received.extend(
            page.inbox()
                .into_iter()
                .map(|(_, text)| String::from_utf8(text).expect("text")),
        );
        process.kill(&address).await;
        process = start();
    }
    tokio::time::sleep(seconds(3)).await;
    received.extend(
        page.inbox()
            .into_iter()
            .map(|(_, text)| String::from_utf8(text).expect("text")),
    );
    let expected: Vec<_> = (1..=received.len() / 2)
        .flat_map(|tick| [format!("{tick}a"), format!("{tick}b")])
        .collect();
    assert_eq!(received, expected);
    assert!(received.len() > 20);
}

#[tokio::test(start_paused = true)]
async fn a_turn_may_send_more_than_the_outbox_holds() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let hub = Hub::builder().store(store.clone()).outbox_limit(10_000).build();
    let kind = hub.durable(
        "flooding",
        Durability::Crash,
        |mut session: Session, _: State<()>| async move {
            while session.recv().await.is_some() {
                for _ in 0..20 {
                    session.send([7; 1000]).await.expect("it is open");
                }
            }
        },
    );
    address.set(Some(&hub));
    let session = kind.open(());
    let page = address.page(access(&session));
    page.send("go");
    for _ in 0..20 {
        assert_eq!(page.next().await.len(), 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_runs_again_has_the_same_id() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let ids: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let start = || {
        let hub = Hub::builder().store(store.clone()).build();
        let ids = Arc::clone(&ids);
        let kind = hub.durable(
            "billing",
            Durability::Crash,
            move |mut session: Session, _: State<()>| {
                let ids = Arc::clone(&ids);
                async move {
                    assert!(session.turn().is_none() || !ids.lock().expect("unpoisoned").is_empty());
                    while session.recv().await.is_some() {
                        let turn = session.turn().expect("it has begun with a message");
                        ids.lock().expect("unpoisoned").push(turn.to_string());
                        session.send("done").await.expect("it is open");
                    }
                }
            },
        );
        address.set(Some(&hub));
        Process { hub, kind }
    };
    let process = start();
    let session = process.kind.open(());
    let page = address.page(access(&session));
    page.send("a");
    page.next().await;
    store.fail(full());
    page.send("b");
    settled().await;
    process.kill(&address).await;
    store.fail(None);
    let _process = start();
    page.next().await;
    assert_eq!(*ids.lock().expect("unpoisoned"), ["1-i-1", "1-i-2", "1-i-2"]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_message_of_a_key_survives() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    settled().await;
    page.set_online(false);
    for percent in 0..=100 {
        session
            .send_latest("progress", percent.to_string())
            .expect("it is open");
    }
    settled().await;
    process.kill(&address).await;
    let _process = counting(on(&store), Durability::Crash, &address);
    page.set_online(true);
    let mut last = page.text().await;
    settled().await;
    if let Some((_, text)) = page.inbox().pop() {
        last = String::from_utf8(text).expect("text");
    }
    assert_eq!(last, "100");
}

#[tokio::test(start_paused = true)]
async fn a_new_document_gets_its_state_once_although_the_process_is_killed() {
    for fails_first in [false, true] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let restored = Arc::new(AtomicU64::new(0));
        let start = || {
            let hub = Hub::builder().store(store.clone()).restore_on_reload("page").build();
            let restored = Arc::clone(&restored);
            let kind = hub.durable(
                "drawing",
                Durability::Crash,
                move |mut session: Session, _: State<()>| {
                    let restored = Arc::clone(&restored);
                    async move {
                        session.on_restore(move |restoring| {
                            let restored = Arc::clone(&restored);
                            async move {
                                restored.fetch_add(1, Ordering::SeqCst);
                                restoring.send("state 1").await.expect("it is open");
                                tokio::time::sleep(seconds(1)).await;
                                restoring.send("state 2").await.expect("it is open");
                            }
                        });
                        while session.recv().await.is_some() {}
                    }
                },
            );
            address.set(Some(&hub));
            Process { hub, kind }
        };
        let process = start();
        let session = process.kind.open(());
        let first = address.page(access(&session));
        first.outcome().await;
        first.leave();
        drop(first);
        settled().await;
        let second = address.page(access(&session));
        second.outcome().await;
        if fails_first {
            // In the middle of the restore function.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        } else {
            assert_eq!(second.text().await, "state 1");
            assert_eq!(second.text().await, "state 2");
        }
        process.kill(&address).await;
        let _process = start();
        tokio::time::sleep(seconds(10)).await;
        if fails_first {
            assert_eq!(second.text().await, "state 1");
            assert_eq!(second.text().await, "state 2");
        }
        assert!(second.inbox().is_empty());
        assert_eq!(restored.load(Ordering::SeqCst), 1 + u64::from(fails_first));
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_may_send_while_it_changes_its_state() {
    for durability in [Durability::Restart, Durability::Crash] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let hub = on(&store).build();
        let kind = hub.durable(
            "sends",
            durability,
            |mut session: Session, state: State<Count>| async move {
                while session.recv().await.is_some() {
                    let sent = state.update(|count| {
                        count.count += 1;
                        session.try_send(count.count.to_string())
                    });
                    if sent.is_err() {
                        return;
                    }
                }
            },
        );
        address.set(Some(&hub));
        let page = address.page(access(&kind.open(Count::default())));
        for number in 1..4 {
            page.send("more");
            assert_eq!(page.text().await, number.to_string(), "{durability:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_opened_again_even_if_its_policy_keeps_none_without_a_connection() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let policy = stillhere::DefaultCleanupPolicy {
        soft_closed: std::time::Duration::ZERO,
        ..Default::default()
    };
    let process = counting(on(&store).cleanup_policy(policy), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    process.kill(&address).await;
    page.send("b");
    let process = counting(on(&store).cleanup_policy(policy), Durability::Crash, &address);
    assert_eq!(page.text().await, "2 b");
    assert_eq!(process.hub.stats().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_newest_message_that_waits_for_room_leaves_when_there_is_room() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let builder = on(&store).outbox_limit(4000);
    let process = counting(builder, Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    page.set_online(false);
    settled().await;
    for _ in 0..3 {
        session.send([7; 1000]).await.expect("it is open");
    }
    for percent in 0..=100 {
        session
            .send_latest("progress", format!("{percent:01000}"))
            .expect("it is open");
    }
    settled().await;
    page.set_online(true);
    for _ in 0..3 {
        assert_eq!(page.next().await.len(), 1000);
    }
    assert_eq!(page.text().await, format!("{:01000}", 100));
    assert!(page.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_commit_waits_for_a_restore_function_that_runs() {
    for own in [true, false] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let hub = on(&store).restore_on_reload("page").build();
        let committed = Arc::new(AtomicU64::new(0));
        let kind = hub.durable("drawing", Durability::Crash, {
            let committed = Arc::clone(&committed);
            move |mut session: Session, _: State<()>| {
                let committed = Arc::clone(&committed);
                async move {
                    session.on_restore(|restoring| async move {
                        restoring.send("state").await.expect("it is open");
                        tokio::time::sleep(seconds(2)).await;
                    });
                    while session.recv().await.is_some() {
                        tokio::time::sleep(seconds(1)).await;
                        if own {
                            session.send("more").await.expect("it is open");
                            session.commit().await.expect("it is open");
                            committed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            }
        });
        address.set(Some(&hub));
        let session = kind.open(());
        let first = address.page(access(&session));
        first.outcome().await;
        first.send("go");
        settled().await;
        first.leave();
        drop(first);
        let second = address.page(access(&session));
        second.outcome().await;
        // The turn that began before goes on while the restore function runs.
        tokio::time::sleep(milliseconds(1500)).await;
        if !own {
            let (session, committed) = (session.clone(), Arc::clone(&committed));
            tokio::spawn(async move {
                session.send("more").await.expect("it is open");
                session.commit().await.expect("it is open");
                committed.fetch_add(1, Ordering::SeqCst);
            });
        }
        settled().await;
        assert_eq!(committed.load(Ordering::SeqCst), 0, "it does not count yet");
        assert!(second.inbox().is_empty());
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(committed.load(Ordering::SeqCst), 1);
        Process { hub, kind }.kill(&address).await;
        let process = counting(on(&store), Durability::Crash, &address);
        drop(process);
    }
}
