//! Another document takes over the session, and the restore function runs first.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{Hub, Incoming, Lane, Session, SessionHandle, SessionState, TrySendError};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use support::browser::Browser;
use support::wire::{RawDocument, charge};
use support::{milliseconds, seconds, settled, soon};

/// Opens an echo session that first sends "restored 1", "restored 2" and so on to each new
/// document, when `go` is notified.
fn echo_with_restore(hub: &Hub, go: &Arc<Notify>) -> SessionHandle {
    let go = Arc::clone(go);
    hub.open(move |mut session| async move {
        let count = Arc::new(AtomicUsize::new(0));
        session.on_restore(move |restoring| {
            let (go, count) = (Arc::clone(&go), Arc::clone(&count));
            async move {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let _ = restoring.send(format!("restored {number} begins")).await;
                go.notified().await;
                let _ = restoring.send(format!("restored {number}")).await;
            }
        });
        while let Some(message) = session.recv().await {
            if session.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn idle(session: Session) {
    session.ended().await;
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_restore_function_precede_those_of_other_senders() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let session = echo_with_restore(&hub, &go);
    Browser::connected(&hub, &session).await;
    let page = Browser::open(&hub, &session);
    assert_eq!(page.outcome().await, Outcome::Restored);
    settled().await;
    session.send("from elsewhere").await.expect("the session lives");
    session.try_send_bulk("bulk from elsewhere").expect("there is room");
    page.send("from the page");
    assert_eq!(page.text().await, "restored 1 begins");
    tokio::time::sleep(seconds(9)).await;
    assert!(page.inbox().is_empty(), "nothing may overtake the restore function");
    go.notify_one();
    assert_eq!(page.text().await, "restored 1");
    let mut rest = [page.text().await, page.text().await, page.text().await];
    rest.sort();
    assert_eq!(rest, ["bulk from elsewhere", "from elsewhere", "from the page"]);
}

#[tokio::test(start_paused = true)]
async fn no_message_of_the_new_document_is_read_before_the_restore_function_returned() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let (report, mut reported) = mpsc::unbounded_channel();
    let returned = Arc::clone(&go);
    let session = hub.open(move |mut session| async move {
        let restored = report.clone();
        session.on_restore(move |_| {
            let (restored, returned) = (restored.clone(), Arc::clone(&returned));
            async move {
                returned.notified().await;
                restored
                    .send("the restore function returns".to_owned())
                    .expect("the test listens");
            }
        });
        while let Some(incoming) = session.next().await {
            let news = match incoming {
                Incoming::Message(message) => String::from_utf8(message.to_vec()).expect("the message is text"),
                _ => "restored".to_owned(),
            };
            report.send(news).expect("the test listens");
            tokio::time::sleep(milliseconds(1)).await;
        }
    });
    let old = Browser::connected(&hub, &session).await;
    for number in 0..5 {
        old.send(format!("old {number}"));
    }
    settled().await;
    old.leave();
    let new = Browser::connected(&hub, &session).await;
    new.send("new");
    tokio::time::sleep(seconds(5)).await;
    go.notify_one();
    for expected in [
        "old 0",
        "old 1",
        "old 2",
        "old 3",
        "old 4",
        "the restore function returns",
        "restored",
        "new",
    ] {
        assert_eq!(
            soon("news", reported.recv()).await.expect("the function runs"),
            expected
        );
    }
}

#[tokio::test(start_paused = true)]
async fn messages_queued_for_the_old_document_never_reach_the_new_one() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let old = Browser::connected(&hub, &session).await;
    old.set_online(false);
    settled().await;
    for lane in Lane::ALL {
        match lane {
            Lane::Interactive => session.send("for the old page").await,
            Lane::Bulk => session.send_bulk(vec![0; 500_000]).await,
        }
        .expect("there is room");
    }
    let new = Browser::connected(&hub, &session).await;
    session.send("for the new page").await.expect("there is room");
    assert_eq!(new.text().await, "for the new page");
    settled().await;
    assert!(new.inbox().is_empty());
    old.set_online(true);
    assert_eq!(old.refused().await, 4103);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_restore_function_is_dropped_after_ten_seconds() {
    let hub = Hub::new();
    let session = hub.open(|mut session| async move {
        session.on_restore(|_| std::future::pending());
        while let Some(message) = session.recv().await {
            if session.send(message).await.is_err() {
                return;
            }
        }
    });
    Browser::connected(&hub, &session).await;
    let page = Browser::connected(&hub, &session).await;
    let start = Instant::now();
    session.send("queued").await.expect("there is room");
    page.send("hello?");
    assert_eq!(page.text().await, "queued");
    assert!(
        (seconds(10)..seconds(11)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(page.text().await, "hello?");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_restore_function_does_not_block_the_session() {
    for panics_late in [false, true] {
        let hub = Hub::new();
        let session = hub.open(move |mut session| async move {
            session.on_restore(move |restoring| {
                assert!(panics_late, "a test's panic, before there is a future");
                async move {
                    restoring.send("so far").await.expect("the session lives");
                    panic!("a test's panic");
                }
            });
            while let Some(message) = session.recv().await {
                session.send(message).await.expect("the session lives");
            }
        });
        Browser::connected(&hub, &session).await;
        let page = Browser::connected(&hub, &session).await;
        let start = Instant::now();
        page.send("still here?");
        if panics_late {
            assert_eq!(page.text().await, "so far");
        }
        assert_eq!(page.text().await, "still here?");
        assert!(start.elapsed() < seconds(1), "{:?}", start.elapsed());
    }
}

/// Panics when it is dropped, as careless code may.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a test's panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_function_that_panics_when_dropped_does_not_block_the_session() {
    let hub = Hub::new();
    let session = hub.open(|mut session| async move {
        session.on_restore(|_| async {
            let _guard = PanicsWhenDropped;
            std::future::pending::<()>().await;
        });
        while let Some(message) = session.recv().await {
            session.send(message).await.expect("the session lives");
        }
    });
    Browser::connected(&hub, &session).await;
    let page = Browser::connected(&hub, &session).await;
    page.send("still here?");
    assert_eq!(page.text().await, "still here?");
}

#[tokio::test(start_paused = true)]
async fn of_two_restores_in_a_row_only_the_second_reaches_its_document() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let session = echo_with_restore(&hub, &go);
    Browser::connected(&hub, &session).await;
    let second = Browser::connected(&hub, &session).await;
    assert_eq!(second.text().await, "restored 1 begins");
    session.send("for the second page").await.expect("there is room");
    drop(second);
    settled().await;
    let third = Browser::connected(&hub, &session).await;
    settled().await;
    session.send("for the third page").await.expect("there is room");
    // Both would continue now if the first had not been dropped.
    go.notify_waiters();
    for expected in ["restored 2 begins", "restored 2", "for the third page"] {
        assert_eq!(third.text().await, expected);
    }
    third.send("and back");
    assert_eq!(third.text().await, "and back");
    assert!(third.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_older_restore_function_does_not_open_a_newer_gate() {
    let hub = Hub::new();
    let session = hub.open(|session| async move {
        let count = AtomicUsize::new(0);
        session.on_restore(move |restoring| {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                // By now the first would have returned, in the middle of the second.
                tokio::time::sleep(seconds(5)).await;
                restoring
                    .send(format!("state {number}"))
                    .await
                    .expect("the session lives");
            }
        });
        session.ended().await;
    });
    Browser::connected(&hub, &session).await;
    let second = Browser::connected(&hub, &session).await;
    tokio::time::sleep(seconds(1)).await;
    second.leave();
    settled().await;
    let third = Browser::connected(&hub, &session).await;
    settled().await;
    let start = Instant::now();
    session.send("news").await.expect("there is room");
    assert_eq!(third.text().await, "state 2");
    assert_eq!(third.text().await, "news");
    assert!(start.elapsed() >= seconds(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn restores_again_and_again_leave_one_restore_function_running() {
    let hub = Hub::new();
    let running = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&running);
    let session = hub.open(move |session| async move {
        session.on_restore(move |_| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                let _guard = Leaves(counted);
                std::future::pending::<()>().await;
            }
        });
        session.ended().await;
    });
    Browser::connected(&hub, &session).await;
    settled().await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let start = Instant::now();
    for _ in 0..200 {
        let mut document = RawDocument::new(&session);
        document.welcomed(&hub).await;
        settled().await;
    }
    assert!(start.elapsed() < seconds(5));
    assert_eq!(running.load(Ordering::SeqCst), 1);
    let now = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(now <= tasks + 2, "{tasks} tasks became {now}");
    session.abort("");
    settled().await;
    assert_eq!(running.load(Ordering::SeqCst), 0, "the end of the session ends it");
}

struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_during_a_restore_delivers_accepted_messages() {
    let hub = Hub::new();
    let session = hub.open(|session| async move {
        session.on_restore(|restoring| async move {
            restoring.send("state").await.expect("the session lives");
            tokio::time::sleep(seconds(3)).await;
            restoring.send("too late").await.expect_err("the session is closing");
        });
        session.ended().await;
    });
    Browser::connected(&hub, &session).await;
    let page = Browser::connected(&hub, &session).await;
    settled().await;
    session.send("accepted").await.expect("there is room");
    session.send_bulk("accepted too").await.expect("there is room");
    assert_eq!(session.unacknowledged(), 3);
    session.close("bye");
    let mut messages = [page.text().await, page.text().await, page.text().await];
    messages[1..].sort();
    assert_eq!(messages, ["state", "accepted", "accepted too"]);
    assert_eq!(page.ended().await, (2, "bye".to_owned()));
    assert_eq!(session.unacknowledged(), 0);
}

#[tokio::test(start_paused = true)]
async fn messages_lost_by_an_abort_during_a_restore_are_counted() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let session = echo_with_restore(&hub, &go);
    Browser::connected(&hub, &session).await;
    let mut document = RawDocument::new(&session);
    let (_wire, _) = document.welcomed(&hub).await;
    settled().await;
    session.send("lost").await.expect("there is room");
    session.abort("");
    assert_eq!(
        session.unacknowledged(),
        2,
        "this one and what the restore function sent"
    );
    settled().await;
    assert_eq!(hub.stats().buffered, 0);
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_for_a_restore_are_bounded_and_counted_in_each_lane() {
    let hub = Hub::builder().outbox_limit(3 * charge(1000)).build();
    let go = Arc::new(Notify::new());
    let session = echo_with_restore(&hub, &go);
    Browser::connected(&hub, &session).await;
    let page = Browser::connected(&hub, &session).await;
    assert_eq!(page.text().await, "restored 1 begins");
    tokio::time::sleep(seconds(1)).await;
    for count in 0..3 {
        session.try_send_bulk([count; 1000]).expect("there is room");
    }
    assert_eq!(
        session.try_send_bulk([3; 1000]),
        Err(TrySendError::Full([3; 1000].into()))
    );
    session.try_send("the other lane").expect("the lane has its own room");
    assert_eq!(hub.stats().buffered, 3 * charge(1000) + charge(14));
    assert_eq!(session.snapshot().buffered, hub.stats().buffered);
    let sender = session.clone();
    let waiting = tokio::spawn(async move { sender.send_bulk([3; 1000]).await });
    settled().await;
    assert!(!waiting.is_finished());
    go.notify_one();
    assert_eq!(
        soon("the send", waiting).await.expect("the task does not panic"),
        Ok(())
    );
    let mut messages: Vec<_> = Vec::new();
    for _ in 0..6 {
        messages.push(page.next().await[0]);
    }
    messages.retain(|first| *first < 4);
    assert_eq!(messages, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_while_the_application_never_reads_grants_nothing_and_loses_nothing() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let reads = Arc::clone(&go);
    let (report, mut reported) = mpsc::unbounded_channel();
    let session = hub.open(move |mut session| async move {
        reads.notified().await;
        while let Some(incoming) = session.next().await {
            report.send(incoming).expect("the test listens");
        }
    });
    let mut first = RawDocument::new(&session);
    let (wire, welcome) = first.welcomed(&hub).await;
    let mut sequence = 0;
    let mut credit = welcome.counts.credit.interactive;
    while credit >= charge(60_000) {
        sequence += 1;
        credit -= charge(60_000);
        wire.send_data(Lane::Interactive, sequence, vec![1; 60_000]);
    }
    settled().await;
    let full = session.snapshot().buffered;
    assert_eq!(full, sequence * charge(60_000));
    wire.send(Frame::Leave);
    settled().await;

    let mut second = RawDocument::new(&session);
    let (wire, welcome) = second.welcomed(&hub).await;
    assert_eq!((welcome.incarnation, welcome.counts.received.interactive), (2, 0));
    assert!(
        welcome.counts.credit.interactive < charge(60_000),
        "{:?}",
        welcome.counts
    );
    wire.send_data(Lane::Bulk, 1, "from the second page");
    settled().await;
    go.notify_one();
    for _ in 0..sequence {
        let Some(Incoming::Message(message)) = soon("a message", reported.recv()).await else {
            panic!("none")
        };
        assert_eq!((message.len(), message[0]), (60_000, 1));
    }
    assert_eq!(soon("the news", reported.recv()).await, Some(Incoming::Restored));
    let Some(Incoming::Message(message)) = soon("a message", reported.recv()).await else {
        panic!("none")
    };
    assert_eq!(&message[..], b"from the second page");
    assert!(matches!(wire.frame().await, Frame::Ack(counts) if counts.credit.interactive >= 1 << 20));
}

/// Opens an echo session that registers its restore function when `go` is notified, and then sends
/// "ready".
fn echo_with_late_restore(hub: &Hub, go: &Arc<Notify>) -> SessionHandle {
    let go = Arc::clone(go);
    hub.open(move |mut session| async move {
        go.notified().await;
        session.on_restore(|restoring| async move {
            tokio::time::sleep(seconds(3)).await;
            let _ = restoring.send("state").await;
        });
        let _ = session.send("ready").await;
        while let Some(message) = session.recv().await {
            if session.send(message).await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_restore_before_its_function_was_registered_runs_at_registration() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let session = echo_with_late_restore(&hub, &go);
    for _ in 0..2 {
        Browser::connected(&hub, &session).await.leave();
    }
    let page = Browser::connected(&hub, &session).await;
    page.send("from the page");
    settled().await;
    go.notify_one();
    for expected in ["state", "ready", "from the page"] {
        assert_eq!(page.text().await, expected);
    }
    tokio::time::sleep(seconds(60)).await;
    assert!(page.inbox().is_empty(), "the state is sent only once");

    page.leave();
    settled().await;
    let next = Browser::connected(&hub, &session).await;
    assert_eq!(next.text().await, "state");
}

#[tokio::test(start_paused = true)]
async fn a_restore_function_registered_late_does_not_run_for_the_first_document() {
    let hub = Hub::new();
    let go = Arc::new(Notify::new());
    let session = echo_with_late_restore(&hub, &go);
    let page = Browser::connected(&hub, &session).await;
    page.set_online(false);
    settled().await;
    page.set_online(true);
    go.notify_one();
    assert_eq!(page.text().await, "ready");
    tokio::time::sleep(seconds(60)).await;
    assert!(page.inbox().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_document_that_was_restored_or_met_is_not_restored_by_another_function() {
    for meets in [Meets::Restoring, Meets::Reading, Meets::News] {
        let hub = Hub::new();
        let session = hub.open(move |mut session| async move {
            if meets == Meets::Restoring {
                session
                    .on_restore(|restoring| async move { restoring.send("first").await.expect("the session is live") });
            }
            tokio::time::sleep(seconds(1)).await;
            match meets {
                Meets::Restoring => {}
                Meets::Reading => assert_eq!(
                    &session.recv().await.expect("the session is live")[..],
                    b"from the page"
                ),
                Meets::News => assert_eq!(session.next().await, Some(Incoming::Restored)),
            }
            session.on_restore(|restoring| async move { restoring.send("second").await.expect("the session is live") });
            session.ended().await;
        });
        Browser::connected(&hub, &session).await;
        let page = Browser::connected(&hub, &session).await;
        page.send("from the page");
        tokio::time::sleep(seconds(60)).await;
        let first = (Lane::Interactive, b"first".to_vec());
        let expected = if meets == Meets::Restoring { vec![first] } else { vec![] };
        assert_eq!(page.inbox(), expected, "{meets:?}");
    }
}

/// How a function meets a document before it registers its restore function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meets {
    Restoring,
    Reading,
    News,
}

#[tokio::test(start_paused = true)]
async fn reading_messages_of_an_earlier_document_is_not_meeting_the_new_one() {
    let hub = Hub::new();
    let session = hub.open(|mut session| async move {
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(
            &session.recv().await.expect("the session is live")[..],
            b"from the first page"
        );
        tokio::time::timeout(seconds(1), session.recv())
            .await
            .expect_err("there is nothing to read");
        session.on_restore(|restoring| async move { restoring.send("state").await.expect("the session is live") });
        assert_eq!(session.next().await, Some(Incoming::Restored));
        session.send("news").await.expect("the session is live");
        session.ended().await;
    });
    let first = Browser::connected(&hub, &session).await;
    first.send("from the first page");
    settled().await;
    first.leave();
    let second = Browser::connected(&hub, &session).await;
    assert_eq!(second.text().await, "state");
    assert_eq!(second.text().await, "news");
}

#[tokio::test(start_paused = true)]
async fn a_restore_function_may_hold_the_session_it_belongs_to() {
    let hub = Hub::new();
    let dropped = Arc::new(AtomicUsize::new(1));
    let counted = Arc::clone(&dropped);
    let session = hub.open(move |session| async move {
        let captured = (session.handle(), Leaves(counted));
        session.on_restore(move |_| {
            assert!(!captured.0.ticket_json().is_empty());
            std::future::ready(())
        });
        session.ended().await;
        // Registered too late, so it is dropped at once.
        let late = (session.handle(), Leaves(Arc::new(AtomicUsize::new(1))));
        session.on_restore(move |_| {
            assert!(!late.0.ticket_json().is_empty());
            std::future::ready(())
        });
    });
    Browser::connected(&hub, &session).await;
    session.abort("");
    settled().await;
    assert_eq!(dropped.load(Ordering::SeqCst), 0, "the end of the session drops it");
}

#[tokio::test(start_paused = true)]
async fn an_incumbent_that_answers_keeps_its_session_and_one_that_does_not_is_replaced_within_two_seconds() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let page = Browser::connected(&hub, &session).await;
    let copy = Browser::open(&hub, &session);
    assert_eq!(copy.refused().await, 4104);
    assert_eq!(session.state(), SessionState::Open);

    page.set_frozen(true);
    let start = Instant::now();
    let reloaded = Browser::open(&hub, &session);
    assert_eq!(reloaded.outcome().await, Outcome::Restored);
    assert!(
        (seconds(2)..milliseconds(2100)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    page.set_frozen(false);
    assert_eq!(page.refused().await, 4103);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_never_confirms_is_dropped_after_ten_seconds() {
    let hub = Hub::new();
    let session = hub.open(idle);
    Browser::connected(&hub, &session).await;
    settled().await;
    let mut newcomer = RawDocument::new(&session);
    let wire = newcomer.connect(&hub);
    assert_eq!(wire.frame().await, Frame::Offer);
    let start = Instant::now();
    assert_eq!(wire.end().await.code, 4300);
    assert!(
        (seconds(10)..milliseconds(10_010)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );

    let busy = newcomer.connect(&hub);
    assert_eq!(busy.frame().await, Frame::Offer);
    let other = RawDocument::new(&session).connect(&hub);
    let end = other.end().await;
    assert_eq!(end.code, 4202);
    assert!(end.retry_after > 0);
}
