//! Observables: the newest value wins on both sides, and only newest values are sent.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use stillhere::{EndReason, Hub};
use stillhere_app::{Observable, Session, SharedObservable, app};
use stillhere_client::{Lane, Status};
use support::{Page, call, set, soon, take_number};
use tokio::sync::{Notify, oneshot, watch};

/// Opens a session with the observable `count`, which begins at 0.
async fn open(hub: &Hub) -> (stillhere::SessionHandle, Page, Observable<u64>) {
    let (sender, observable) = oneshot::channel();
    let mut options = hub.session_options();
    options.restore = Some("page".into());
    let session = hub.open_with(
        options,
        app(async move |session: Session| {
            let count = session.observable("count", 0_u64);
            sender.send(count).expect("the test waits");
            session.ended().await;
        }),
    );
    let page = Page::open(hub, &session);
    let observable = soon("the function starts", observable).await;
    (session, page, observable.expect("the function runs"))
}

/// The page's half, as PROTOCOL.md describes it.
#[derive(Default)]
struct Model {
    value: u64,
    number: u64,
}

impl Model {
    fn receive(&mut self, unit: &[u8]) {
        let mut rest = unit.strip_prefix(b"\x08\x05count").expect("a set");
        if take_number(&mut rest) == self.number {
            let text = str::from_utf8(&rest[1..]).expect("JSON");
            self.value = text.parse().expect("a number");
        }
    }

    fn set(&mut self, value: u64) -> Vec<u8> {
        self.value = value;
        self.number += 1;
        set("count", self.number, &value.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn sets_during_a_gap_are_one_value_afterwards() {
    let hub = Hub::new();
    let (session, page, count) = open(&hub).await;
    assert_eq!(page.recv().await, set("count", 0, "0"));
    soon("the page acknowledges it", session.drained()).await;
    page.go_away();
    for value in 1..=6000 {
        count.set(value);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(
            session.unacknowledged() <= 1,
            "{} messages wait",
            session.unacknowledged()
        );
    }
    page.come_back();
    assert_eq!(page.recv().await, set("count", 0, "6000"));
    let more = tokio::time::timeout(Duration::from_secs(60), page.client.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(start_paused = true)]
async fn who_sets_gets_no_echo_and_the_other_side_sees_the_set() {
    let hub = Hub::new();
    let (_session, page, count) = open(&hub).await;
    assert_eq!(page.recv().await, set("count", 0, "0"));
    let mut watch = count.watch();
    page.send(set("count", 1, "41")).await;
    soon("the set arrives", watch.wait_for(|value| *value == 41))
        .await
        .expect("the session is open");
    let echo = tokio::time::timeout(Duration::from_secs(60), page.client.recv()).await;
    assert!(echo.is_err(), "{echo:?}");
    page.send(set("count", 2, "\"text\"")).await;
    count.update(|value| *value += 1);
    assert_eq!(page.recv().await, set("count", 1, "42"));
    assert_eq!(count.get(), 42);
}

#[tokio::test(start_paused = true)]
async fn a_new_document_gets_the_value_first() {
    let hub = Hub::new();
    let (session, page, count) = open(&hub).await;
    let mut watch = count.watch();
    page.send(set("count", 9, "7")).await;
    soon("the set arrives", watch.wait_for(|value| *value == 7))
        .await
        .expect("the session is open");
    drop(page);
    let reloaded = Page::open(&hub, &session);
    assert_eq!(reloaded.recv().await, set("count", 0, "7"));
    count.set(8);
    assert_eq!(reloaded.recv().await, set("count", 0, "8"));
}

#[tokio::test(start_paused = true)]
async fn both_sides_converge_after_sets_at_the_same_time_and_cuts() {
    for seed in 1..=20_u64 {
        println!("seed {seed}");
        let hub = Hub::new();
        let (session, mut page, count) = open(&hub).await;
        let (mut model, mut random) = (Model::default(), seed);
        for value in 1..=300 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            match random >> 33 & 15 {
                0..=4 => count.set(value),
                5..=9 => page.send(model.set(value)).await,
                10 => page.cut(),
                11 if random >> 40 & 3 == 0 => {
                    page = Page::open(&hub, &session);
                    model = Model::default();
                }
                _ => tokio::time::sleep(Duration::from_millis(random >> 40 & 31)).await,
            }
            while let Some(unit) = page.client.try_recv(Lane::Interactive) {
                model.receive(&unit);
            }
        }
        soon(
            "it is connected",
            page.client.watch_status().wait_for(Status::is_connected),
        )
        .await
        .expect("the client is there");
        while let Ok(Some(unit)) = tokio::time::timeout(Duration::from_secs(30), page.client.recv()).await {
            model.receive(&unit);
        }
        assert_eq!(model.value, count.get(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn sets_do_not_pile_up_on_a_connection_that_stalls() {
    let hub = Hub::new();
    let (session, page, count) = open(&hub).await;
    assert_eq!(page.recv().await, set("count", 0, "0"));
    page.stall();
    for value in 1..=500 {
        count.set(value);
        tokio::time::sleep(Duration::from_millis(10)).await;
        // Those that may be on their way, and the newest.
        assert!(session.unacknowledged() <= 17, "{}", session.unacknowledged());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_function_sets_before_it_returns_arrives() {
    let hub = Hub::new();
    let session = hub.open(app(async |session: Session| {
        let count = session.observable("count", 0);
        session.drained().await;
        count.set(1);
        count.set(2);
    }));
    let page = Page::open(&hub, &session);
    assert_eq!(page.recv().await, set("count", 0, "0"));
    assert_eq!(page.recv().await, set("count", 0, "2"));
    assert_eq!(soon("the session ends", session.ended()).await, EndReason::Finished);
}

#[tokio::test(start_paused = true)]
async fn many_sessions_follow_one_watch() {
    let hub = Hub::new();
    let (sender, receiver) = watch::channel(1_u32);
    let open = || {
        let receiver = receiver.clone();
        let session = hub.open(app(async move |session: Session| {
            session.follow("visitors", receiver);
            session.ended().await;
        }));
        Page::open(&hub, &session)
    };
    let pages = [open(), open(), open()];
    for page in &pages {
        assert_eq!(page.recv().await, set("visitors", 0, "1"));
    }
    pages[0].go_away();
    for value in 2..=100 {
        sender.send(value).expect("it is followed");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    drop(sender);
    pages[0].come_back();
    assert_eq!(pages[0].recv().await, set("visitors", 0, "100"));
    while pages[1].recv().await != set("visitors", 0, "100") {}
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_encoded_once_for_all_who_follow_it_and_waits_for_no_page() {
    let (hub, encoded) = (Hub::new(), Arc::default());
    let (sender, receiver) = watch::channel(Counted(0, Arc::clone(&encoded)));
    let follow = |hub: &Hub, receiver: &watch::Receiver<Counted>| {
        let receiver = receiver.clone();
        let session = hub.open(app(async move |session: Session| {
            session.follow("count", receiver);
            session.ended().await;
        }));
        (Page::open(hub, &session), session)
    };
    let mut pages: Vec<_> = (0..50).map(|_| follow(&hub, &receiver)).collect();
    // Another watch of the same name has nothing to do with it.
    let (_other_sender, other) = watch::channel(Counted(7, Arc::default()));
    assert_eq!(follow(&hub, &other).0.recv().await, set("count", 0, "7"));
    for (page, _) in &pages {
        assert_eq!(page.recv().await, set("count", 0, "0"));
    }
    pages[0].0.go_away();
    for value in 1..=20 {
        sender.send_replace(Counted(value, Arc::clone(&encoded)));
        for (page, _) in &pages[1..] {
            assert_eq!(page.recv().await, set("count", 0, &value.to_string()));
        }
    }
    pages[0].0.come_back();
    assert_eq!(pages[0].0.recv().await, set("count", 0, "20"), "the newest only");
    assert_eq!(encoded.load(Relaxed), 21);

    // A page cannot set it, and another hub encodes for itself.
    pages[1].0.send(set("count", 1, "7")).await;
    assert_eq!(pages[1].0.recv().await, set("count", 1, "20"));
    assert_eq!(sender.borrow().0, 20);
    let before = encoded.load(Relaxed);
    assert_eq!(follow(&Hub::new(), &receiver).0.recv().await, set("count", 0, "20"));
    assert_eq!(encoded.load(Relaxed), before + 1);

    // What was sent last arrives although the sender is gone, and nothing is kept for nobody.
    drop(receiver);
    let (page, _) = pages.pop().expect("many follow it");
    sender.send_replace(Counted(21, encoded));
    assert_eq!(page.recv().await, set("count", 0, "21"));
    for (_, session) in &pages {
        session.abort("enough");
    }
    drop(page);
    drop(pages);
    soon("nobody follows it any more", sender.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_waits_for_room_in_the_outbox() {
    let hub = Hub::new();
    let session = hub.open(app(async |session: Session| {
        while session.core().try_send(vec![1; 60_000]).is_ok() {}
        while session.core().try_send([1]).is_ok() {}
        session.observable("late", 1);
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    while page.recv().await != set("late", 0, "1") {}
}

#[tokio::test(start_paused = true)]
async fn a_set_of_the_document_before_reaches_the_document_that_was_restored_meanwhile() {
    let hub = Hub::new();
    let mut options = hub.session_options();
    options.restore = Some("page".into());
    let go = Arc::new(Notify::new());
    let reads = Arc::clone(&go);
    let session = hub.open_with(
        options,
        app(async move |session: Session| {
            session.observable("count", 0_u64);
            reads.notified().await;
            let handle = session.to_handle();
            drop(session);
            handle.ended().await;
        }),
    );
    let page = Page::open(&hub, &session);
    assert_eq!(page.recv().await, set("count", 0, "0"));
    // Nothing is read after these, because nobody reads them.
    for _ in 0..21 {
        page.send(vec![0; 50_000]).await;
    }
    page.send(set("count", 1, "7")).await;
    soon("the server has it", page.client.flush()).await;
    drop(page);
    let reloaded = Page::open(&hub, &session);
    assert_eq!(reloaded.recv().await, set("count", 0, "0"));
    go.notify_one();
    assert_eq!(reloaded.recv().await, set("count", 0, "7"));
}

#[tokio::test(start_paused = true)]
async fn a_second_observable_of_a_name_panics_and_the_first_stays() {
    let hub = Hub::new();
    let session = hub.open(app(async move |session: Session| {
        let count = session.observable("count", 1);
        let handle = session.to_handle();
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            handle.observable("count", String::new())
        }));
        assert!(again.is_err());
        count.set(2);
        session.ended().await;
    }));
    let page = Page::open(&hub, &session);
    assert_eq!(page.recv().await, set("count", 0, "2"));
    page.send(set("count", 1, "3")).await;
    page.send(call(1, "none", "0")).await;
    assert_eq!(
        page.recv().await[0],
        6,
        "nothing is sent back but the answer: 3 is a number"
    );
}

/// Counts how often it is encoded.
#[derive(Clone)]
struct Counted(u64, Arc<std::sync::atomic::AtomicU64>);

impl serde::Serialize for Counted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.1.fetch_add(1, Relaxed);
        serializer.serialize_u64(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_value_is_encoded_once_for_all_and_waits_for_no_page() {
    let (hub, encoded) = (Hub::new(), Arc::default());
    let count = SharedObservable::new("count", Counted(0, Arc::clone(&encoded)));
    let (mut pages, mut sessions) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let shared = count.clone();
        sessions.push(hub.open(app(async move |session: Session| {
            session.share(&shared);
            session.ended().await;
        })));
        pages.push(Page::open(&hub, sessions.last().expect("one")));
    }
    for page in &pages {
        assert_eq!(page.recv().await, set("count", 0, "0"));
    }
    pages[0].go_away();
    for value in 1..=50 {
        count.set(Counted(value, Arc::clone(&encoded)));
        for page in &pages[1..] {
            assert_eq!(page.recv().await, set("count", 0, &value.to_string()));
        }
    }
    pages[0].come_back();
    assert_eq!(pages[0].recv().await, set("count", 0, "50"), "the newest only");
    assert_eq!(encoded.load(Relaxed), 51);

    // A page cannot set it.
    pages[1].send(set("count", 1, "7")).await;
    assert_eq!(pages[1].recv().await, set("count", 1, "50"));
    assert_eq!(count.get().0, 50);

    // A session that has ended is forgotten.
    drop(pages.remove(1));
    sessions.remove(1).abort("enough");
    count.set(Counted(51, Arc::clone(&encoded)));
    assert_eq!(pages[1].recv().await, set("count", 0, "51"));
}
