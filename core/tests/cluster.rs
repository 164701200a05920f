//! Hubs that find each other's sessions, with a paused clock.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stillhere::cluster::{BoxConnection, Cluster, ClusterError, ClusterFuture, PostOutcome, Visitor, WeakHub};
use stillhere::durable::{Commit, Durability, MemoryStore, Record, State, Store, StoreFuture};
use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{Hub, Session, SessionHandle, SessionId, connection_pair, run_connection_loop};
use support::browser::Browser;
use support::wire::RawDocument;
use support::{seconds, settled, soon};

/// Connects hubs of one process.
#[derive(Clone, Default)]
struct Together(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    hubs: Vec<WeakHub>,
    /// What every question meets.
    failure: Option<ClusterError>,
}

impl Together {
    fn fail(&self, failure: Option<ClusterError>) {
        self.lock().failure = failure;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

impl Cluster for Together {
    fn start(&self, hub: WeakHub) {
        self.lock().hubs.push(hub);
    }

    fn entered(&self, _session: &SessionId) {}

    fn left(&self, _session: &SessionId, _is_ended: bool) {}

    fn connect(&self, visitor: Visitor) -> ClusterFuture<'_, Option<BoxConnection>> {
        let (hubs, failure) = {
            let shared = self.lock();
            (shared.hubs.clone(), shared.failure.clone())
        };
        Box::pin(async move {
            if let Some(failure) = failure {
                return Err(failure);
            }
            let hubs = hubs.iter().filter_map(WeakHub::upgrade);
            let Some(accepted) = hubs.into_iter().find_map(|hub| hub.accept_visitor(&visitor)) else {
                return Ok(None);
            };
            let (near, far) = connection_pair(4);
            tokio::spawn(run_connection_loop(accepted, far));
            let near: BoxConnection = Box::pin(near);
            Ok(Some(near))
        })
    }

    fn exchange_opened(&self, _session: &SessionId) {}

    fn exchange_closed(&self, _session: &SessionId) {}

    fn pass_post(&self, _session: SessionId, _body: Bytes) -> ClusterFuture<'_, Option<PostOutcome>> {
        Box::pin(async { Ok(None) })
    }

    fn stop(&self) {}
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

fn two_hubs() -> (Together, [Hub; 2]) {
    let together = Together::default();
    let hubs = [(); 2].map(|()| Hub::builder().cluster(together.clone()).build());
    (together, hubs)
}

#[tokio::test(start_paused = true)]
async fn a_page_reaches_its_session_through_another_hub() {
    let (_together, [own, other]) = two_hubs();
    let session = own.open(echo);
    let page = Browser::open(&other, &session);
    page.send("a");
    assert_eq!(soon("the echo", page.text()).await, "a");
    page.cut();
    page.send("b");
    assert_eq!(soon("the echo", page.text()).await, "b");
    assert_eq!((own.stats().sessions, other.stats().sessions), (1, 0));
    session.abort("over");
    assert_eq!(page.ended().await.1, "over");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_takes_nothing_is_let_go_by_the_hub_that_passes_its_packets_on() {
    let (_together, [own, other]) = two_hubs();
    let session = own.open(|session: Session| async move {
        loop {
            if session.send(vec![0; 1000]).await.is_err() {
                return;
            }
        }
    });
    let (wire, _welcome) = RawDocument::new(&session).welcomed(&other).await;
    wire.end.block(true);
    settled().await;
    assert_eq!(other.stats().connections, 1);
    let carried = tokio::time::timeout(seconds(120), wire.carrier).await;
    carried.expect("it is let go").expect("it does not panic");
    drop(wire.end);
}

/// Says hello, and returns the code with which the connection ends.
async fn refusal(hub: &Hub, session: &SessionHandle) -> u64 {
    match RawDocument::new(session).connect(hub).frame().await {
        Frame::End(end) => end.code,
        other => panic!("expected an end, got {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_not_unknown() {
    let (together, [own, other]) = two_hubs();
    let session = own.open(echo);
    for failure in [
        ClusterError::Silent,
        ClusterError::Away("it is being tested".to_owned()),
    ] {
        together.fail(Some(failure.clone()));
        assert_eq!(refusal(&other, &session).await, 4202, "{failure}");
    }
    together.fail(None);
    RawDocument::new(&session).welcomed(&other).await;
    let nobody = Hub::new();
    assert_eq!(refusal(&other, &nobody.open(echo)).await, 4100);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_shuts_down_tells_the_pages_whose_packets_it_passes_on() {
    let (_together, [own, other]) = two_hubs();
    let session = own.open(echo);
    let (wire, _welcome) = RawDocument::new(&session).welcomed(&other).await;
    let report = other.shutdown(seconds(5)).await;
    assert_eq!(report.connections_left, 0);
    assert!(matches!(wire.frame().await, Frame::End(end) if end.code == 4200));
    assert_eq!(own.stats().sessions, 1);
}

#[derive(Default, Serialize, Deserialize)]
struct Ticks {
    ticks: u64,
}

/// Ends a turn each millisecond.
async fn tick(mut session: Session, state: State<Ticks>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    loop {
        tokio::select! {
            message = session.recv() => if message.is_none() { return },
            _ = ticks.tick() => state.update(|state| state.ticks += 1),
        }
    }
}

/// A store whose commits take 20 ms.
#[derive(Debug, Clone)]
struct Slow(MemoryStore);

impl Store for Slow {
    fn commit(&self, commit: Commit) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.0.commit(commit).await
        })
    }

    fn load(&self, id: SessionId) -> StoreFuture<'_, Option<Record>> {
        self.0.load(id)
    }

    fn remove(&self, id: SessionId, revision: u64) -> StoreFuture<'_, ()> {
        self.0.remove(id, revision)
    }

    fn expired(&self, most: usize) -> StoreFuture<'_, Vec<(SessionId, u64)>> {
        self.0.expired(most)
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_always_busy_with_turns_can_prove_that_it_is_owned() {
    let store = Slow(MemoryStore::new());
    let hub = Hub::builder().store(store).cluster(Together::default()).build();
    let session = hub.durable("ticks", Durability::Crash, tick).open(Ticks::default());
    let page = Browser::connected(&hub, &session).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = tokio::time::Instant::now();
        page.cut();
        assert_eq!(soon("a welcome", page.outcome()).await, Outcome::Resumed);
        assert!(began.elapsed() < seconds(1), "{:?}", began.elapsed());
    }
}
