//! What happens while a process hands its sessions over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stillhere::durable::{Durability, MemoryStore, State};
use stillhere::{DrainReport, HubBuilder, Session, SessionHandle, SessionOptions};
use tokio::task::JoinHandle;

use crate::server::{Address, Count, Process, SlowStore, counting, on};
use crate::support::{access, milliseconds, seconds, settled};

/// Begins to stop a process.
fn stopping<S>(process: &Process<S>) -> JoinHandle<DrainReport> {
    let hub = process.hub.clone();
    tokio::spawn(async move { hub.shutdown(seconds(5)).await })
}

#[tokio::test(start_paused = true)]
async fn a_function_that_waits_for_room_comes_to_the_end_of_its_turn() {
    for durability in [Durability::Restart, Durability::Crash] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let start = || {
            let hub = on(&store).outbox_limit(4000).build();
            let kind = hub.durable(
                "talking",
                durability,
                |mut session: Session, state: State<Count>| async move {
                    loop {
                        tokio::select! {
                            message = session.recv() => if message.is_none() { return },
                            () = tokio::time::sleep(milliseconds(10)) => {}
                        }
                        let number = state.update(|state| {
                            state.count += 1;
                            state.count
                        });
                        let mut message = number.to_le_bytes().to_vec();
                        message.resize(1000, 7);
                        session.send(message).await.expect("it is open");
                    }
                },
            );
            address.set(Some(&hub));
            Process { hub, kind }
        };
        let process = start();
        let session = process.kind.open(Count::default());
        let page = address.page(access(&session));
        page.outcome().await;
        page.set_online(false);
        tokio::time::sleep(seconds(3)).await;
        let started = tokio::time::Instant::now();
        let report = stopping(&process).await.expect("it does not panic");
        assert_eq!(
            (report.handed_over, report.aborted),
            (1, 0),
            "{durability:?}: {report:?}"
        );
        assert!(
            started.elapsed() < seconds(1),
            "{durability:?}: {:?}",
            started.elapsed()
        );
        process.kill(&address).await;
        let _process = start();
        page.set_online(true);
        for number in 1..20_u64 {
            assert_eq!(page.next().await[..8], number.to_le_bytes(), "{durability:?}");
        }
    }
}

/// Ends a session in the moment in which it is being written for the next process. Returns what its
/// page is told there.
async fn ended_while_it_is_written(
    durability: Durability,
    messages: &[&'static str],
    end: impl Fn(&SessionHandle),
) -> (Vec<String>, u64, String) {
    let (store, address) = (MemoryStore::new(), Address::default());
    let slow = SlowStore::new(store.clone(), 9, 60);
    let process = counting(on(&slow), durability, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    page.set_online(false);
    settled().await;
    for message in messages {
        session.send(*message).await.expect("it is open");
    }
    let before = store.commits();
    let stopping = stopping(&process);
    // The commit has taken effect, and the process does not know yet.
    while store.commits() == before {
        assert!(!stopping.is_finished());
        tokio::time::sleep(milliseconds(1)).await;
    }
    end(&session);
    let report = stopping.await.expect("it does not panic");
    assert_eq!(report.aborted, 0, "{report:?}");
    process.kill(&address).await;
    let process = counting(on(&store), durability, &address);
    page.set_online(true);
    let (code, text) = page.ended().await;
    assert_eq!(process.hub.stats().sessions, 0);
    let texts = page.inbox().into_iter();
    let texts = texts.map(|(_, text)| String::from_utf8(text).expect("text"));
    (texts.collect(), code, text)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_closed_while_it_is_handed_over_closes() {
    for messages in [&[][..], &["last"]] {
        let (texts, code, text) =
            ended_while_it_is_written(Durability::Restart, messages, |session| session.close("bye")).await;
        assert_eq!(
            (texts, code, text.as_str()),
            (messages.iter().map(ToString::to_string).collect(), 2, "bye")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_aborted_while_it_is_handed_over_ends() {
    let (texts, code, text) =
        ended_while_it_is_written(Durability::Restart, &["last"], |session| session.abort("enough")).await;
    assert_eq!((texts, code, text.as_str()), (vec![], 3, "enough"));
}

/// What a turn does that begins while the session is handed over.
#[derive(Debug, Clone, Copy)]
enum Late {
    Sends,
    Returns,
    Panics,
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_begins_while_the_session_is_handed_over_runs_in_the_next_process() {
    for late in [Late::Sends, Late::Returns, Late::Panics] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let is_late = Arc::new(AtomicBool::new(false));
        let (begun, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let start = |store: &SlowStore| {
            let hub = on(store).build();
            let (is_late, begun, refused) = (Arc::clone(&is_late), Arc::clone(&begun), Arc::clone(&refused));
            let ticking = move |mut session: Session, state: State<Count>| {
                let (is_late, begun, refused) = (Arc::clone(&is_late), Arc::clone(&begun), Arc::clone(&refused));
                async move {
                    loop {
                        tokio::select! {
                            message = session.recv() => if message.is_none() { return },
                            () = tokio::time::sleep(milliseconds(1)) => {}
                        }
                        let number = state.update(|state| {
                            state.count += 1;
                            state.count
                        });
                        if is_late.load(Ordering::SeqCst) {
                            begun.fetch_add(1, Ordering::SeqCst);
                            match late {
                                Late::Sends => {}
                                Late::Returns => return,
                                Late::Panics => panic!("on purpose"),
                            }
                        }
                        if session.send(number.to_string()).await.is_err() {
                            refused.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                    }
                }
            };
            let kind = hub.durable("ticking", Durability::Restart, ticking);
            address.set(Some(&hub));
            Process { hub, kind }
        };
        let process = start(&SlowStore::new(store.clone(), 9, 200));
        let session = process.kind.open(Count::default());
        let page = address.page(access(&session));
        for number in 1..5_u64 {
            assert_eq!(page.text().await, number.to_string());
        }
        let stopping = stopping(&process);
        settled().await;
        is_late.store(true, Ordering::SeqCst);
        let report = stopping.await.expect("it does not panic");
        assert_eq!((report.handed_over, report.aborted), (1, 0), "{late:?}: {report:?}");
        assert_eq!(begun.load(Ordering::SeqCst), 1, "{late:?}");
        process.kill(&address).await;
        assert_eq!(refused.load(Ordering::SeqCst), 0, "{late:?}");
        is_late.store(false, Ordering::SeqCst);
        let _process = start(&SlowStore::new(store, 1, 0));
        for number in 5..20_u64 {
            assert_eq!(page.text().await, number.to_string(), "{late:?}");
        }
    }
}

/// Returns a builder of hubs whose sessions have fragments of this size, in bytes.
fn with_fragments(store: &MemoryStore, size: u64) -> HubBuilder {
    let mut options = SessionOptions::default();
    options.limits.fragment = size;
    on(store).session_options(options)
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_fragments_are_larger_than_those_of_the_next_process_goes_on() {
    for durability in [Durability::Restart, Durability::Crash] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let process = counting(with_fragments(&store, 8192), durability, &address);
        let session = process.kind.open(Count::default());
        let page = address.page(access(&session));
        page.send("a");
        assert_eq!(page.text().await, "1 a");
        assert_eq!(process.stop(&address).await.handed_over, 1);
        let long = "x".repeat(20_000);
        page.send(long.clone());
        let _process = counting(with_fragments(&store, 1024), durability, &address);
        assert_eq!(page.text().await, format!("2 {long}"), "{durability:?}");
    }
}
