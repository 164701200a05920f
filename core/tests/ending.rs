//! How sessions end.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillhere::machine::DocumentEvent;
use stillhere::wire::{Counts, Frame};
use stillhere::{EndReason, Hub, Lane, PerLane, Session, SessionState};
use tokio::sync::Notify;
use tokio::time::Instant;

use support::browser::Browser;
use support::wire::{RawDocument, Wire};
use support::{assert_waits, milliseconds, seconds, settled, soon};

const FINISHED: u64 = 1;

/// Opens a session that sends "one", waits for a notification, sends "last words" on both lanes and
/// returns.
fn says_last_words(hub: &Hub) -> (stillhere::SessionHandle, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let session = hub.open(move |session| async move {
        session.send("one").await.expect("the session lives");
        told.notified().await;
        session.send("last words").await.expect("the session lives");
        session.send_bulk(vec![0; 300_000]).await.expect("the session lives");
    });
    (session, go)
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_functions_return_delivers_its_last_messages_and_then_the_end() {
    let hub = Hub::new();
    let (session, go) = says_last_words(&hub);
    let browser = Browser::connected(&hub, &session).await;
    assert_eq!(browser.text().await, "one");
    go.notify_one();
    assert_eq!(browser.text().await, "last words");
    assert_eq!(browser.next().await.len(), 300_000);
    assert_eq!(browser.ended().await, (FINISHED, EndReason::Finished.to_string()));
    assert_eq!(soon("the end", session.ended()).await, EndReason::Finished);
    assert_eq!(session.unacknowledged(), 0);
    settled().await;
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_returns_while_nobody_is_connected_waits_for_its_browser() {
    let hub = Hub::new();
    let (session, go) = says_last_words(&hub);
    let browser = Browser::connected(&hub, &session).await;
    assert_eq!(browser.text().await, "one");
    browser.set_online(false);
    settled().await;
    go.notify_one();
    settled().await;
    assert_eq!(session.state(), SessionState::EndingSoftClosed);
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(
        session.state(),
        SessionState::EndingSoftClosed,
        "longer than for a connected session"
    );
    browser.set_online(true);
    assert_eq!(browser.text().await, "last words");
    assert_eq!(browser.next().await.len(), 300_000);
    assert_eq!(browser.ended().await.0, FINISHED);
    let again = RawDocument::new(&session).connect(&hub);
    let end = again.end().await;
    assert_eq!((end.code, end.reason), (4102, FINISHED));
}

#[tokio::test(start_paused = true)]
async fn an_ending_session_that_loses_its_connection_is_still_cleaned_up() {
    let hub = Hub::new();
    let (session, go) = says_last_words(&hub);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    wire.data().await;
    // By now the deadline for its first browser has passed, so no earlier timer will check it.
    tokio::time::sleep(seconds(10)).await;
    wire.ack(1, 0);
    tokio::time::sleep(seconds(25)).await;
    assert_eq!(session.state(), SessionState::Open);
    go.notify_one();
    settled().await;
    assert_eq!(session.state(), SessionState::Ending);
    let start = Instant::now();
    drop(wire);
    settled().await;
    assert_eq!(session.state(), SessionState::EndingSoftClosed);
    assert_eq!(soon("the end", session.ended()).await, EndReason::Finished);
    assert!(
        (seconds(120)..milliseconds(120_002)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(session.unacknowledged(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_attached_browser_that_never_acknowledges_is_waited_for_ten_seconds() {
    let hub = Hub::new();
    let (session, go) = says_last_words(&hub);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    settled().await;
    let start = Instant::now();
    go.notify_one();
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), (4102, FINISHED));
    assert!(
        (seconds(10)..milliseconds(10_002)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(session.unacknowledged(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_session_closed_before_any_browser_delivers_to_the_first() {
    let hub = Hub::new();
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    let session = hub.open(move |session| {
        counted.fetch_add(1, Ordering::SeqCst);
        echo(session)
    });
    session.send("read this").await.expect("there is room");
    session.close("nothing more");
    let browser = Browser::connected(&hub, &session).await;
    assert_eq!(browser.text().await, "read this");
    assert_eq!(browser.ended().await, (2, "nothing more".to_owned()));
    assert_eq!(started.load(Ordering::SeqCst), 0, "its function never starts");
    assert_eq!((hub.stats().sessions, hub.stats().unconnected), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn close_and_abort_tell_the_browser_their_text() {
    for gently in [true, false] {
        let hub = Hub::new();
        let session = hub.open(echo);
        let browser = Browser::connected(&hub, &session).await;
        let reason = if gently {
            session.close("logged out, ✓");
            EndReason::Closed("logged out, ✓".into())
        } else {
            session.abort("logged out, ✓");
            EndReason::Aborted("logged out, ✓".into())
        };
        assert_eq!(browser.ended().await, (reason.number(), "logged out, ✓".to_owned()));
        assert_eq!(soon("the end", session.ended()).await, reason);
        // Only the first end counts.
        session.close("again");
        session.abort("and again");
        assert_eq!(session.ended().await, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_during_an_ending_ends_it_at_once() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    session.send("unacknowledged").await.expect("there is room");
    session.close("slowly");
    settled().await;
    assert_eq!(session.state(), SessionState::Ending);
    session.abort("now");
    let end = wire.end().await;
    assert_eq!((end.reason, end.text.as_str()), (3, "now"));
    assert_eq!(session.ended().await, EndReason::Aborted("now".into()));
}

#[tokio::test(start_paused = true)]
async fn an_overlong_text_is_cut_at_a_character() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    session.abort(&"é".repeat(1000));
    assert_eq!(wire.end().await.text, "é".repeat(256));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_function_ends_the_session_and_nothing_else() {
    let hub = Hub::new();
    let session = hub.open(|mut session| async move {
        session.recv().await;
        panic!("a test's panic");
    });
    let other = hub.open(echo);
    let browser = Browser::connected(&hub, &session).await;
    let bystander = Browser::connected(&hub, &other).await;
    browser.send("boo");
    assert_eq!(browser.ended().await.0, EndReason::Panicked.number());
    assert_eq!(soon("the end", session.ended()).await, EndReason::Panicked);
    bystander.send("unharmed");
    assert_eq!(bystander.text().await, "unharmed");
    settled().await;
    assert_eq!(hub.stats().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_before_it_returns_a_future_ends_the_session_too() {
    let hub = Hub::new();
    let session = hub.open(|_| {
        if true {
            panic!("a test's panic");
        }
        std::future::ready(())
    });
    let browser = Browser::open(&hub, &session);
    assert_eq!(browser.ended().await.0, EndReason::Panicked.number());
}

/// Records when it is dropped.
struct Guard(Arc<Mutex<Option<Instant>>>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.lock().expect("no test panics while it holds this") = Some(Instant::now());
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_does_not_return_is_aborted_ten_seconds_after_the_end() {
    let hub = Hub::new();
    let dropped = Arc::new(Mutex::new(None));
    let guard = Guard(Arc::clone(&dropped));
    let session = hub.open(move |_session| async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
    let tasks = alive_tasks();
    drop(Browser::connected(&hub, &session).await);
    let start = Instant::now();
    session.abort("");
    tokio::time::sleep(seconds(9)).await;
    assert!(dropped.lock().expect("unpoisoned").is_none());
    tokio::time::sleep(seconds(2)).await;
    let when = dropped.lock().expect("unpoisoned").expect("the guard ran");
    assert!(
        (seconds(10)..milliseconds(10_002)).contains(&(when - start)),
        "{:?}",
        when - start
    );
    assert_eq!(alive_tasks(), tasks);
}

#[tokio::test(start_paused = true)]
async fn the_functions_grace_can_be_chosen_and_may_be_endless() {
    for (grace, aborted_after) in [
        (Duration::ZERO, Some(0)),
        (seconds(60), Some(60)),
        (Duration::MAX, None),
    ] {
        let hub = Hub::builder().function_grace(grace).build();
        let dropped = Arc::new(Mutex::new(None));
        let guard = Guard(Arc::clone(&dropped));
        let session = hub.open(move |_session| async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        drop(Browser::connected(&hub, &session).await);
        settled().await;
        let start = Instant::now();
        session.abort("");
        tokio::time::sleep(seconds(3600)).await;
        let when = *dropped.lock().expect("unpoisoned");
        assert_eq!(when.map(|when| (when - start).as_secs()), aborted_after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_continues_for_a_while_may_finish() {
    let hub = Hub::new();
    let finished = Arc::new(Notify::new());
    let finishes = Arc::clone(&finished);
    let session = hub.open(move |mut session| async move {
        while session.recv().await.is_some() {}
        tokio::time::sleep(seconds(9)).await;
        finishes.notify_one();
    });
    drop(Browser::connected(&hub, &session).await);
    session.abort("");
    soon("it finishes", finished.notified()).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_hub_still_gives_functions_their_grace_period_and_no_more() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ends);
    let tasks = alive_tasks();
    let hub = Hub::builder()
        .on_end(move |id, reason| noted.lock().expect("unpoisoned").push((*id, reason.clone())))
        .build();
    let dropped = Arc::new(Mutex::new(None));
    let guard = Guard(Arc::clone(&dropped));
    let stuck = hub.open(move |_session| async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
    let waiting = hub.open(echo);
    let mut document = RawDocument::new(&stuck);
    let (wire, _) = document.welcomed(&hub).await;
    let start = Instant::now();
    drop(hub);
    assert_eq!(wire.end().await.reason, 3);
    drop(wire);
    tokio::time::sleep(seconds(11)).await;
    let when = dropped.lock().expect("unpoisoned").expect("the guard ran");
    assert!(
        (seconds(10)..milliseconds(10_002)).contains(&(when - start)),
        "{:?}",
        when - start
    );
    let gone = EndReason::Aborted("the hub was dropped".into());
    let mut ends = ends.lock().expect("unpoisoned").clone();
    ends.sort_by_key(|(id, _)| *id != *stuck.id());
    assert_eq!(ends, [(*stuck.id(), gone.clone()), (*waiting.id(), gone)]);
    assert_eq!(alive_tasks(), tasks, "the sweeper has stopped too");
}

#[tokio::test(start_paused = true)]
async fn an_ending_session_resumes_its_own_document_and_refuses_every_other() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut own = RawDocument::new(&session);
    let (wire, _) = own.welcomed(&hub).await;
    session.send("one").await.expect("there is room");
    let mut newcomer = RawDocument::new(&session);
    let waiting = newcomer.connect(&hub);
    settled().await;
    session.close("soon");
    let end = waiting.end().await;
    assert_eq!(
        (end.code, end.reason),
        (4102, 2),
        "a waiting newcomer is told that the session ended"
    );
    let end = RawDocument::new(&session).connect(&hub).end().await;
    assert_eq!((end.code, end.reason), (4102, 2));
    drop(wire);
    settled().await;
    let (wire, welcome) = own.welcomed(&hub).await;
    assert_eq!(welcome.incarnation, 1);
    assert_eq!(wire.data().await.payload, "one");
    wire.ack(1, 0);
    assert_eq!(wire.end().await.text, "soon");
}

#[tokio::test(start_paused = true)]
async fn a_browser_gets_a_last_acknowledgement_before_the_end() {
    let hub = Hub::new();
    let session = hub.open(|session| async move { session.ended().await.to_string().clear() });
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    for sequence in 1..=3 {
        wire.send_data(Lane::Interactive, sequence, "x");
    }
    settled().await;
    session.abort("");
    match wire.frame().await {
        Frame::Ack(Counts { received, .. }) => assert_eq!(received, PerLane::new(3, 0)),
        other => panic!("expected the counts first, got {other:?}"),
    }
    wire.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_browser_is_told_how_many_of_its_messages_were_not_received() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let browser = Browser::connected(&hub, &session).await;
    browser.send("received");
    assert_eq!(browser.text().await, "received");
    tokio::time::sleep(seconds(1)).await;
    browser.set_online(false);
    browser.send("not received");
    browser.send("nor this");
    session.abort("");
    browser.set_online(true);
    let unacknowledged = browser.event("the end", |event| match event {
        DocumentEvent::Ended { unacknowledged, .. } => Some(*unacknowledged),
        _ => None,
    });
    assert_eq!(unacknowledged.await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_arrives_even_if_the_connection_was_blocked_for_a_while() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    wire.end.block(true);
    wire.send_data(Lane::Interactive, 1, "x");
    settled().await;
    session.abort("told late");
    settled().await;
    assert_eq!(hub.stats().connections, 1);
    tokio::time::sleep(seconds(4)).await;
    wire.end.block(false);
    let Frame::Ack(counts) = wire.frame().await else {
        panic!("the counts arrive first")
    };
    assert_eq!(counts.received.interactive, 1);
    assert_eq!(wire.end().await.text, "told late");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_blocked_ends_soon_after_its_session() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    wire.end.block(true);
    // The connection finds that it cannot write this, and has no deadline before its heartbeat.
    session.send("x").await.expect("the session is open");
    settled().await;
    session.abort("never told");
    tokio::time::sleep(seconds(6)).await;
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn connections_that_read_nothing_do_not_accumulate() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let (wire, _) = document.welcomed(&hub).await;
        wire.end.block(true);
        stuck.push(wire);
    }
    tokio::time::sleep(seconds(7)).await;
    assert_eq!(hub.stats().connections, 1, "replaced connections have ended");
    let (wire, _) = document.welcomed(&hub).await;
    wire.send_data(Lane::Interactive, 1, "x");
    assert_eq!(wire.data().await.payload, "x");
}

#[tokio::test(start_paused = true)]
async fn the_server_reads_for_a_second_after_its_close() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    session.abort("");
    wire.end().await;
    let start = Instant::now();
    assert_waits(async { assert_eq!(wire.packet().await, None) }).await;
    wire.send_data(Lane::Interactive, 1, "too late");
    assert_eq!(wire.packet().await, None);
    assert!(
        (milliseconds(999)..milliseconds(1002)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_stays_answerable_and_an_unknown_one_is_unknown() {
    let hub = Hub::new();
    let session = hub.open(echo);
    drop(Browser::connected(&hub, &session).await);
    let mut document = RawDocument::new(&session);
    session.abort("the reason");
    let end = document.connect(&hub).end().await;
    assert_eq!((end.code, end.reason, end.text.as_str()), (4102, 3, "the reason"));
    let end = Wire::connect(&hub, "AAECAwQFBgcICQoLDA0ODw").end().await;
    assert_eq!((end.code, end.reason), (4100, 0));
    let end = Wire::connect(&hub, "no id at all").end().await;
    assert_eq!((end.code, end.reason), (4100, 0));
}

/// Calls its session and its hub when it is dropped, as captured values may.
struct CallsBack {
    hub: Hub,
    session: Arc<Mutex<Option<stillhere::SessionHandle>>>,
    called: Arc<AtomicUsize>,
}

impl Drop for CallsBack {
    fn drop(&mut self) {
        if let Some(session) = self.session.lock().expect("unpoisoned").take() {
            assert!(session.try_send("").is_err());
            assert_eq!(session.state(), SessionState::Closed);
            session.close("");
        }
        assert!(self.hub.sessions().len() < 1000 && self.hub.stats().opened > 0);
        self.called.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn no_value_of_the_application_is_dropped_under_a_lock() {
    let hub = Hub::new();
    let called = Arc::new(AtomicUsize::new(0));
    let place = Arc::new(Mutex::new(None));
    let captured = CallsBack {
        hub: hub.clone(),
        session: Arc::clone(&place),
        called: Arc::clone(&called),
    };
    let session = hub.open(move |session| async move {
        session.ended().await;
        drop(captured);
    });
    *place.lock().expect("unpoisoned") = Some(session.clone());
    session.abort("before any browser came");
    assert_eq!(called.load(Ordering::SeqCst), 1);

    // The same for what a restore function captured.
    let place = Arc::new(Mutex::new(None));
    let captured = CallsBack {
        hub: hub.clone(),
        session: Arc::clone(&place),
        called: Arc::clone(&called),
    };
    let session = hub.open(move |session| async move {
        session.on_restore(move |_| {
            assert!(captured.called.load(Ordering::SeqCst) < 9);
            std::future::ready(())
        });
        session.ended().await;
    });
    *place.lock().expect("unpoisoned") = Some(session.clone());
    drop(Browser::connected(&hub, &session).await);
    settled().await;
    session.abort("");
    settled().await;
    assert_eq!(called.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_end_hook_that_panics_affects_no_other_session() {
    let ends = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ends);
    let hub = Hub::builder()
        .on_end(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("a test's panic");
        })
        .build();
    // The end comes from the sweeper, from a connection, and from the application.
    for _ in 0..3 {
        hub.open(echo);
    }
    tokio::time::sleep(seconds(31)).await;
    assert_eq!(ends.load(Ordering::SeqCst), 3);
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    wire.end.send(stillhere::connection::Packet::Text(bytes::Bytes::new()));
    wire.end().await;
    hub.open(echo).abort("");
    assert_eq!(ends.load(Ordering::SeqCst), 5);
    hub.open(echo);
    tokio::time::sleep(seconds(31)).await;
    assert_eq!(
        (ends.load(Ordering::SeqCst), hub.stats().sessions),
        (6, 0),
        "the sweeper keeps running"
    );
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
