//! How durable sessions end, and what their pages are told after a restart.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use stillhere::durable::{Commit, Durability, MemoryStore, Record, State, Store, StoreFuture};
use stillhere::{EndReason, Hub, Session, SessionId};

use crate::server::{Address, Count, Process, counting, full, on};
use crate::support::browser::Browser;
use crate::support::{access, milliseconds, seconds, settled, soon};

/// Starts a process whose sessions close with the text of the first message, and say so before.
fn closing(store: &MemoryStore, address: &Address) -> Process<()> {
    let hub = Hub::builder().store(store.clone()).build();
    let kind = hub.durable(
        "closing",
        Durability::Crash,
        |mut session: Session, _: State<()>| async move {
            let Some(message) = session.recv().await else { return };
            let text = String::from_utf8(message.to_vec()).expect("it is text");
            session.send(format!("{text} is next")).await.expect("it is open");
            session.close(&text);
            session.ended().await;
        },
    );
    address.set(Some(&hub));
    Process { hub, kind }
}

/// Waits for what a page of an ended session is told.
async fn told(page: &Browser) -> (u64, String) {
    page.ended().await
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_after_a_crash_too() {
    for durability in [Durability::Crash, Durability::Restart] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let process = counting(on(&store), durability, &address);
        let session = process.kind.open(Count::default());
        let page = address.page(access(&session));
        page.outcome().await;
        session.close("bye");
        assert_eq!(told(&page).await, (2, "bye".to_owned()));
        settled().await;
        process.kill(&address).await;
        let process = counting(on(&store), durability, &address);
        let late = address.page(access(&session));
        assert_eq!(told(&late).await, (2, "bye".to_owned()), "{durability:?}");
        assert_eq!(process.hub.stats().sessions, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_closes_with_the_turn_that_closes_it() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = closing(&store, &address);
    let session = process.kind.open(());
    let page = address.page(access(&session));
    page.outcome().await;
    settled().await;
    store.fail(full());
    page.send("bye");
    settled().await;
    assert!(page.inbox().is_empty());
    assert_eq!(session.ended().now_or_never(), None, "the turn does not count");
    process.kill(&address).await;
    store.fail(None);
    // The turn runs again.
    let process = closing(&store, &address);
    assert_eq!(page.text().await, "bye is next");
    assert_eq!(told(&page).await, (2, "bye".to_owned()));
    settled().await;
    process.kill(&address).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_closing_delivers_its_last_messages_after_a_crash() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = closing(&store, &address);
    let session = process.kind.open(());
    let page = address.page(access(&session));
    page.outcome().await;
    page.send("bye");
    page.set_reading(false);
    tokio::time::sleep(milliseconds(5)).await;
    page.set_online(false);
    settled().await;
    process.kill(&address).await;
    let process = closing(&store, &address);
    page.set_online(true);
    page.set_reading(true);
    assert_eq!(page.text().await, "bye is next");
    assert_eq!(told(&page).await, (2, "bye".to_owned()));
    soon("its end", async {
        while process.hub.stats().sessions > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_ends_its_session_for_good() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let start = || {
        let hub = Hub::builder().store(store.clone()).build();
        let kind = hub.durable(
            "panicking",
            Durability::Crash,
            |mut session: Session, _: State<()>| async move {
                session.recv().await;
                panic!("on purpose");
            },
        );
        address.set(Some(&hub));
        Process { hub, kind }
    };
    let process = start();
    let session = process.kind.open(());
    let page = address.page(access(&session));
    page.send("go");
    assert_eq!(told(&page).await.0, EndReason::Panicked.number());
    settled().await;
    process.kill(&address).await;
    let _process = start();
    assert_eq!(
        told(&address.page(access(&session))).await.0,
        EndReason::Panicked.number()
    );
}

#[tokio::test(start_paused = true)]
async fn expired_records_are_removed_and_those_of_live_sessions_are_not() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let [gone, live] = [0, 1].map(|_| process.kind.open(Count::default()));
    let [gone_page, live_page] = [&gone, &live].map(|session| address.page(access(session)));
    for page in [&gone_page, &live_page] {
        page.send("a");
        assert_eq!(page.text().await, "1 a");
    }
    process.kill(&address).await;
    drop(gone_page);
    let process = counting(on(&store), Durability::Crash, &address);
    live_page.send("b");
    assert_eq!(live_page.text().await, "2 b");
    assert_eq!(store.len(), 2);
    // The page stays connected and says nothing.
    tokio::time::sleep(seconds(2000)).await;
    assert_eq!(store.len(), 1);
    assert_eq!(address.page(access(&gone)).refused().await, 4100);
    process.kill(&address).await;
    live_page.send("c");
    let _process = counting(on(&store), Durability::Crash, &address);
    assert_eq!(live_page.text().await, "3 c");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_or_handed_over_has_not_ended() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let ended: Arc<Mutex<Vec<EndReason>>> = Arc::default();
    let builder = || {
        let ended = Arc::clone(&ended);
        on(&store).on_end(move |_, reason| ended.lock().expect("unpoisoned").push(reason.clone()))
    };
    let process = counting(builder(), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    process.stop(&address).await;
    assert_eq!(session.ended().await, EndReason::Draining);
    let process = counting(builder(), Durability::Crash, &address);
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    process.kill(&address).await;
    assert!(ended.lock().expect("unpoisoned").is_empty());
    let process = counting(builder(), Durability::Crash, &address);
    page.send("b");
    assert_eq!(page.text().await, "2 b");
    process.hub.session(session.id()).expect("it lives").abort("now");
    settled().await;
    assert_eq!(*ended.lock().expect("unpoisoned"), [EndReason::Aborted("now".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_about_to_stop_removes_nothing_that_it_has_handed_over() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    // One that cannot come to the end of its turn, so that the shutdown takes all its time.
    let busy = process.hub.open(|session: Session| async move {
        session.ended().await;
    });
    let other = address.page(access(&busy));
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    other.send("stay");
    // The record expires in the middle of the shutdown.
    let keep = stillhere::DefaultCleanupPolicy::default().soft_closed + seconds(30);
    tokio::time::sleep(keep - seconds(5)).await;
    let draining = {
        let hub = process.hub.clone();
        tokio::spawn(async move { hub.shutdown(seconds(30)).await })
    };
    tokio::time::sleep(seconds(29)).await;
    assert_eq!(store.len(), 1, "the record is there for the next process");
    draining.await.expect("it does not panic");
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_end_while_the_store_fails_are_not_kept_for_it() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let mut pages = Vec::new();
    for _ in 0..50 {
        let session = process.kind.open(Count::default());
        let page = address.page(access(&session));
        page.outcome().await;
        pages.push((session, page));
    }
    settled().await;
    store.fail(full());
    let accesses: Vec<_> = pages.iter().map(|(session, _)| access(session)).collect();
    for (session, page) in pages {
        session.abort("over");
        assert_eq!(told(&page).await.0, 3);
    }
    tokio::time::sleep(seconds(60)).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks < 20, "{tasks} tasks");
    store.fail(None);
    tokio::time::sleep(seconds(10)).await;
    process.kill(&address).await;
    let process = counting(on(&store), Durability::Crash, &address);
    for access in accesses {
        assert_eq!(told(&address.page(access)).await, (3, "over".to_owned()));
    }
    assert_eq!(process.hub.stats().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_ends_that_are_not_written() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    settled().await;
    store.fail(full());
    session.abort("over");
    tokio::time::sleep(seconds(1)).await;
    let stopping = {
        let hub = process.hub.clone();
        tokio::spawn(async move { hub.shutdown(seconds(30)).await })
    };
    tokio::time::sleep(seconds(1)).await;
    store.fail(None);
    stopping.await.expect("it does not panic");
    process.kill(&address).await;
    let _process = counting(on(&store), Durability::Crash, &address);
    assert_eq!(told(&address.page(access(&session))).await, (3, "over".to_owned()));
}

/// A store that takes its time to remove a record.
struct SlowToRemove(MemoryStore);

impl Store for SlowToRemove {
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64> {
        self.0.commit(commit)
    }

    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>> {
        self.0.load(id)
    }

    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            tokio::time::sleep(milliseconds(20)).await;
            self.0.remove(id, revision).await
        })
    }

    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>> {
        self.0.expired(most)
    }
}

#[tokio::test(start_paused = true)]
async fn many_expired_records_are_removed_together() {
    let store = MemoryStore::new();
    for _ in 0..5000 {
        let commit = Commit::new(SessionId::random(), 0, Bytes::new(), seconds(1));
        store.commit(commit).await.expect("it commits");
    }
    let _hub = Hub::builder().store(SlowToRemove(store.clone())).build();
    tokio::time::sleep(seconds(12)).await;
    assert_eq!(store.len(), 0);
}
