//! Who may open a durable session again, and who owns it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use stillhere::durable::{Commit, Durability, MemoryStore, Record, State, Store, StoreFuture};
use stillhere::{Hub, Secret, Session, SessionId, SessionRequest};

use crate::server::{Address, Count, Process, SlowStore, count, counting, full, on};
use crate::support::pipe::pipe;
use crate::support::{access, seconds, settled};

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_does_not_open_a_session() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    process.kill(&address).await;
    let process = counting(on(&store), Durability::Crash, &address);
    let mut wrong = access(&session);
    wrong.secret = Secret::from_bytes([1; 32]);
    assert_eq!(address.page(wrong.clone()).refused().await, 4101);
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    process.hub.session(session.id()).expect("it lives").abort("over");
    settled().await;
    process.kill(&address).await;
    let _process = counting(on(&store), Durability::Crash, &address);
    assert_eq!(
        address.page(wrong).refused().await,
        4101,
        "it does not learn of the end"
    );
}

/// Opens a page that is logged in as this user.
fn page_of(
    hub: &Hub,
    session: &stillhere::SessionHandle,
    user: Option<&'static str>,
) -> crate::support::browser::Browser {
    let (hub, id) = (hub.clone(), session.id().to_string());
    crate::support::browser::Browser::load_over(access(session), move || {
        let request = SessionRequest::new(&id, [("sec-websocket-protocol", &b"stillhere.v1"[..])]).principal(user);
        let (server, browser) = pipe();
        let accepted = hub.accept(&request).expect("our protocol was offered");
        tokio::spawn(stillhere::run_connection_loop(accepted, server));
        browser
    })
}

#[tokio::test(start_paused = true)]
async fn a_session_opens_again_only_for_its_user() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open_for("ada", Count::default());
    let page = page_of(&process.hub, &session, Some("ada"));
    page.outcome().await;
    drop(page);
    process.kill(&address).await;
    let process = counting(on(&store), Durability::Crash, &address);
    for user in [None, Some("bob")] {
        assert_eq!(page_of(&process.hub, &session, user).refused().await, 4105, "{user:?}");
    }
    assert_eq!(process.hub.stats().sessions, 0, "nobody has opened it");
    page_of(&process.hub, &session, Some("ada")).outcome().await;
    assert_eq!(process.hub.sessions_of("ada").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_hellos_at_once_open_a_session_once() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let started = Arc::new(AtomicU64::new(0));
    let slow = SlowStore::new(store.clone(), 5, 50);
    let start = || {
        let hub = on(&slow).build();
        let started = Arc::clone(&started);
        let kind = hub.durable("counting", Durability::Crash, move |session, state| {
            started.fetch_add(1, Ordering::SeqCst);
            count(session, state)
        });
        address.set(Some(&hub));
        Process { hub, kind }
    };
    let process = start();
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    drop(page);
    process.kill(&address).await;
    let process = start();
    let pages: Vec<_> = (0..5).map(|_| address.page(access(&session))).collect();
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(process.hub.stats().sessions, 1);
    assert_eq!(started.load(Ordering::SeqCst), 2, "once in each process");
    drop(pages);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_no_longer_owns_a_session_drops_it() {
    let (store, address, elsewhere) = (MemoryStore::new(), Address::default(), Address::default());
    let old = counting(on(&store), Durability::Crash, &address);
    let session = old.kind.open(Count::default());
    let page = address.page(access(&session));
    page.send("a");
    assert_eq!(page.text().await, "1 a");
    // Another process opens the session, as if this one had seemed dead.
    let new = counting(on(&store), Durability::Crash, &elsewhere);
    address.set(Some(&new.hub));
    page.cut();
    page.send("b");
    assert_eq!(page.text().await, "2 b");
    assert_eq!(old.hub.stats().sessions, 1, "it does not know");
    let _ = session.send("from the old process").await;
    settled().await;
    assert_eq!(old.hub.stats().sessions, 0);
    assert!(session.send("too late").await.is_err());
    page.send("c");
    assert_eq!(page.text().await, "3 c");
    assert!(page.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_of_an_unknown_kind_is_unknown() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    process.kill(&address).await;
    let hub = on(&store).build();
    let _kind = hub.durable("another", Durability::Crash, count);
    address.set(Some(&hub));
    assert_eq!(page.refused().await, 4100);
    assert_eq!(store.len(), 1, "a later process may know it");
}

#[tokio::test(start_paused = true)]
async fn a_page_waits_while_the_store_cannot_be_read() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let process = counting(on(&store), Durability::Crash, &address);
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    page.outcome().await;
    process.kill(&address).await;
    store.fail(full());
    let _process = counting(on(&store), Durability::Crash, &address);
    assert_eq!(page.refused().await, 4202);
    store.fail(None);
    page.send("a");
    assert_eq!(page.text().await, "1 a");
}

#[derive(Serialize, Deserialize)]
struct Before {
    clicks: u32,
}

#[derive(Serialize, Deserialize)]
struct After {
    clicks: String,
    #[serde(default)]
    title: String,
}

async fn say_clicks(mut session: Session, state: State<After>) {
    while session.recv().await.is_some() {
        let answer = state.read(|state| format!("{} {}", state.clicks, state.title));
        session.send(answer).await.expect("it is open");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_of_an_earlier_version_is_migrated() {
    for migrates in [true, false] {
        let (store, address) = (MemoryStore::new(), Address::default());
        let hub = on(&store).build();
        let kind = hub.durable(
            "clicks",
            Durability::Crash,
            |mut session: Session, _: State<Before>| async move { while session.recv().await.is_some() {} },
        );
        address.set(Some(&hub));
        let process = Process { hub, kind };
        let session = process.kind.open(Before { clicks: 7 });
        let page = address.page(access(&session));
        page.outcome().await;
        process.kill(&address).await;

        let start = || {
            let hub = on(&store).build();
            let kind = hub.durable("clicks", Durability::Crash, say_clicks).state_version(1);
            let kind = if migrates {
                kind.migrate(|version, bytes| {
                    assert_eq!(version, 0);
                    let before: Before = rmp_serde::from_slice(bytes)?;
                    Ok::<_, rmp_serde::decode::Error>(After {
                        clicks: before.clicks.to_string(),
                        title: "migrated".to_owned(),
                    })
                })
            } else {
                kind
            };
            address.set(Some(&hub));
            Process { hub, kind }
        };
        for _ in 0..2 {
            let process = start();
            if migrates {
                // The second time nothing is to be migrated.
                page.send("how many?");
                assert_eq!(page.text().await, "7 migrated");
            } else {
                let (reason, text) = address.page(access(&session)).ended().await;
                assert_eq!(reason, 3);
                assert!(text.contains("state"), "{text}");
            }
            settled().await;
            process.kill(&address).await;
        }
    }
}

/// A store that panics now and then.
#[derive(Debug, Clone)]
struct Panicking {
    store: MemoryStore,
    calls: Arc<AtomicU64>,
}

impl Panicking {
    fn call(&self) -> &MemoryStore {
        assert!(
            !self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(3),
            "on purpose"
        );
        &self.store
    }
}

impl Store for Panicking {
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64> {
        self.call().commit(commit)
    }

    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>> {
        Box::pin(async move { self.call().load(id).await })
    }

    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.call().remove(id, revision).await })
    }

    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>> {
        self.call().expired(most)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_tried_again() {
    let (store, address) = (MemoryStore::new(), Address::default());
    let panicking = Panicking {
        store: store.clone(),
        calls: Arc::default(),
    };
    let start = || counting(Hub::builder().store(panicking.clone()), Durability::Crash, &address);
    let mut process = start();
    let session = process.kind.open(Count::default());
    let page = address.page(access(&session));
    for number in 1..10 {
        page.send("a");
        assert_eq!(page.text().await, format!("{number} a"));
        if number % 3 == 0 {
            process.kill(&address).await;
            process = start();
        }
    }
    drop(page);
    process.kill(&address).await;
    let _process = start();
    // Its record is removed in the end.
    tokio::time::sleep(seconds(4000)).await;
    assert!(store.is_empty());
}
