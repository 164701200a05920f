//! The life of a session as its application sees it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use stillhere::machine::Event;
use stillhere::machine::Outcome;
use stillhere::{Cause, EndReason, Hub, Incoming, Lane, Session, SessionState};
use tokio::sync::{mpsc, oneshot};

use support::browser::Browser;
use support::wire::RawDocument;
use support::{assert_waits, seconds, settled, soon};

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

async fn counter(mut session: Session) {
    let mut count = 0;
    while session.recv().await.is_some() {
        count += 1;
        if session.send(count.to_string()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_function_starts_at_the_first_browser_and_only_once() {
    let hub = Hub::new();
    let starts = Arc::new(AtomicUsize::new(0));
    let started = Arc::clone(&starts);
    let session = hub.open(move |session| {
        started.fetch_add(1, Ordering::SeqCst);
        echo(session)
    });
    settled().await;
    assert_eq!(
        (starts.load(Ordering::SeqCst), session.state()),
        (0, SessionState::Unconnected)
    );

    let browser = Browser::connected(&hub, &session).await;
    settled().await;
    assert_eq!(
        (starts.load(Ordering::SeqCst), session.state()),
        (1, SessionState::Open)
    );

    browser.cut();
    assert_eq!(browser.outcome().await, Outcome::Resumed);
    let reloaded = Browser::open(&hub, &session);
    drop(browser);
    assert_eq!(reloaded.outcome().await, Outcome::Restored);
    assert_eq!(starts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn local_variables_are_the_state_and_survive_a_thousand_reconnects() {
    let hub = Hub::new();
    let session = hub.open(counter);
    let browser = Browser::connected(&hub, &session).await;
    for expected in 1..=1000 {
        browser.send("click");
        if expected % 3 == 0 {
            settled().await;
        }
        browser.cut();
        assert_eq!(browser.text().await, expected.to_string());
    }
    let reconnects = session.snapshot().reconnects;
    assert!(
        reconnects >= 600,
        "only {reconnects} reconnects: too many cuts before the hello"
    );
    assert_eq!(hub.stats().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn both_lanes_reach_the_application_with_their_names_and_in_order() {
    let hub = Hub::new();
    let (report, mut reported) = mpsc::unbounded_channel();
    let session = hub.open(move |mut session| async move {
        while let Some(message) = session.recv().await {
            report
                .send((message.lane(), message.to_vec()))
                .expect("the test listens");
        }
    });
    let browser = Browser::connected(&hub, &session).await;
    let large: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    for round in 0..10u8 {
        browser.send([round]);
        browser.send_bulk([&[round], &large[..]].concat());
    }
    let mut next = [0, 0];
    for _ in 0..20 {
        let (lane, message) = soon("a message", reported.recv()).await.expect("the function runs");
        assert_eq!(message[0], next[lane as usize], "{lane:?}");
        assert!(message.len() == 1 || message[1..] == large);
        next[lane as usize] += 1;
    }
    assert_eq!(next, [10, 10]);
}

#[tokio::test(start_paused = true)]
async fn messages_received_before_the_end_are_returned_before_none() {
    let hub = Hub::new();
    let (go, wait) = oneshot::channel::<()>();
    let (report, reported) = oneshot::channel();
    let session = hub.open(move |mut session| async move {
        wait.await.expect("the test says when");
        let mut read = Vec::new();
        while let Some(message) = session.recv().await {
            read.push(message.to_vec());
        }
        assert_eq!(session.recv().await, None, "it stays over");
        report.send(read).expect("the test listens");
    });
    let browser = Browser::connected(&hub, &session).await;
    browser.send("one");
    browser.send("two");
    settled().await;
    session.abort("enough");
    settled().await;
    go.send(()).expect("the function waits");
    assert_eq!(
        soon("the report", reported).await.expect("the function reports"),
        [b"one", b"two"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_application_that_never_reads_holds_one_window_and_learns_of_the_end() {
    let hub = Hub::new();
    let session = hub.open(|session| async move {
        session.ended().await;
    });
    let browser = Browser::connected(&hub, &session).await;
    let mut sent = 0;
    while browser.try_send(Lane::Interactive, vec![1; 10_000]).is_ok() {
        sent += 1;
        settled().await;
    }
    assert!(sent > 300, "the page's outbox takes 4 MiB beyond the window: {sent}");
    let held = session.snapshot().buffered;
    assert!((900_000..=1 << 20).contains(&held), "{held}");
    session.abort("");
    soon("the end", session.ended()).await;
    settled().await;
    assert_eq!(hub.stats().buffered, 0, "nobody reads it");
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_reader_still_sends_and_frees_its_inbox_at_the_end() {
    let hub = Hub::new();
    let session = hub.open(|session| async move {
        let handle = session.handle();
        drop(session);
        handle.send("only writing").await.expect("the session is open");
        handle.ended().await;
    });
    let browser = Browser::connected(&hub, &session).await;
    assert_eq!(browser.text().await, "only writing");
    browser.send(vec![0; 1000]);
    settled().await;
    session.close("");
    soon("the end", session.ended()).await;
    settled().await;
    assert_eq!(hub.stats().buffered, 0);
}

#[tokio::test(start_paused = true)]
async fn next_returns_messages_and_restores() {
    let hub = Hub::new();
    let (report, mut reported) = mpsc::unbounded_channel();
    let session = hub.open(move |mut session| async move {
        while let Some(incoming) = session.next().await {
            let news = match incoming {
                Incoming::Message(message) => String::from_utf8(message.to_vec()).expect("the message is text"),
                Incoming::Restored => "restored".to_owned(),
                other => panic!("{other:?}"),
            };
            report.send(news).expect("the test listens");
        }
    });
    let old = Browser::connected(&hub, &session).await;
    old.send("from the old page");
    settled().await;
    old.leave();
    let new = Browser::connected(&hub, &session).await;
    new.send("from the new page");
    for expected in ["from the old page", "restored", "from the new page"] {
        assert_eq!(
            soon("news", reported.recv()).await.expect("the function runs"),
            expected
        );
    }
}

#[tokio::test(start_paused = true)]
async fn events_come_in_order_and_exactly_once() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut events = session.events();
    let browser = Browser::connected(&hub, &session).await;
    browser.set_online(false);
    settled().await;
    session.send("kept").await.expect("the session lives");
    tokio::time::sleep(seconds(7)).await;
    browser.set_online(true);
    assert_eq!(browser.text().await, "kept");
    browser.leave();
    settled().await;
    let reloaded = Browser::connected(&hub, &session).await;
    session.soft_close();
    assert_eq!(reloaded.outcome().await, Outcome::Resumed);
    session.close("bye");
    reloaded.ended().await;

    let mut seen = Vec::new();
    while let Some(event) = soon("an event, or their end", events.next()).await {
        seen.push(event);
    }
    let Event::Resumed { gap, replayed } = seen[2] else {
        panic!("{seen:?}")
    };
    assert!(gap >= seconds(7) && gap < seconds(30), "{gap:?}");
    assert_eq!(replayed, 1);
    assert!(matches!(seen[6], Event::Resumed { replayed: 0, .. }), "{seen:?}");
    seen.remove(6);
    seen.remove(2);
    assert_eq!(
        seen,
        [
            Event::Opened,
            Event::SoftClosed(Cause::Lost),
            Event::SoftClosed(Cause::Left),
            Event::Restored { incarnation: 2 },
            Event::SoftClosed(Cause::Asked),
            Event::Ended(EndReason::Closed("bye".into())),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_has_no_further_events() {
    let hub = Hub::new();
    let session = hub.open(echo);
    session.abort("");
    soon("the end of the events", async {
        assert_eq!(session.events().next().await, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_keeps_the_last_events() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut events = session.events();
    let browser = Browser::connected(&hub, &session).await;
    for _ in 0..20 {
        browser.cut();
        browser.outcome().await;
    }
    session.abort("done");
    let mut seen = Vec::new();
    while let Some(event) = soon("an event, or their end", events.next()).await {
        seen.push(event);
    }
    assert_eq!(seen.len(), 16);
    assert_eq!(seen[15], Event::Ended(EndReason::Aborted("done".into())));
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_counts_messages_and_remembers_them_after_the_end() {
    let hub = Hub::new();
    let session = hub.open(echo);
    assert_eq!(session.unacknowledged(), 0);
    for _ in 0..3 {
        session.send(vec![7; 200_000]).await.expect("the outbox has room");
    }
    assert_eq!(session.unacknowledged(), 3, "messages, not fragments");
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    for _ in 0..4 {
        wire.data().await;
    }
    wire.ack(4, 0);
    settled().await;
    assert_eq!(session.unacknowledged(), 2, "the first message has four fragments");
    session.abort("");
    assert_eq!(session.unacknowledged(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reconnect_while_the_old_connection_looks_alive_takes_over_at_once() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    let (old, welcome) = document.welcomed(&hub).await;
    assert_eq!((welcome.incarnation, welcome.epoch), (1, 1));
    let late_hello = document.hello();
    let (new, welcome) = document.welcomed(&hub).await;
    assert_eq!((welcome.incarnation, welcome.epoch), (1, 2));
    assert_eq!(old.end().await.code, 4302);

    old.send_data(Lane::Interactive, 1, "late");
    drop(old);
    let stale = support::wire::Wire::connect(&hub, &document.access.id);
    stale.send(stillhere::wire::Frame::Hello(late_hello));
    assert_eq!(stale.end().await.code, 4400);
    settled().await;
    assert_eq!(
        session.state(),
        SessionState::Open,
        "the old connection changes nothing"
    );
    new.send_data(Lane::Interactive, 1, "on time");
    assert_eq!(new.data().await.payload, "on time");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_dropped_or_fails_or_closes_soft_closes() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let mut document = RawDocument::new(&session);
    for how in ["handler dropped", "cut", "failure", "close"] {
        let (wire, _) = document.welcomed(&hub).await;
        assert_eq!(session.state(), SessionState::Open);
        match how {
            "handler dropped" => wire.carrier.abort(),
            "failure" => wire.end.fail(stillhere::ConnectionError::Failed("reset".into())),
            "close" => wire.end.send(stillhere::connection::Packet::Close(1001)),
            _ => drop(wire),
        }
        settled().await;
        assert_eq!(session.state(), SessionState::SoftClosed, "{how}");
        assert_eq!(session.snapshot().cause, Some(Cause::Lost), "{how}");
        assert_eq!(hub.stats().connections, 0, "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_soft_closes_after_two_heartbeats_even_when_writes_find_no_room() {
    for blocked in [false, true] {
        let hub = Hub::new();
        let session = hub.open(echo);
        let mut document = RawDocument::new(&session);
        let (wire, _) = document.welcomed(&hub).await;
        let start = tokio::time::Instant::now();
        wire.end.block(blocked);
        // A message that was received but not acknowledged: an acknowledgement is due and cannot be
        // written.
        wire.send_data(Lane::Interactive, 1, "one");
        let mut events = session.events();
        let event = soon("the soft close", events.next()).await;
        assert_eq!(event, Some(Event::SoftClosed(Cause::Silent)));
        assert!(
            start.elapsed() >= seconds(30) && start.elapsed() < seconds(32),
            "{:?}",
            start.elapsed()
        );
        eprintln!("blocked {blocked}: {} polls", wire.end.polls());
        assert!(wire.end.polls() < 300, "the loop spins: {} polls", wire.end.polls());
        soon("the server drops the connection", async {
            while !wire.end.is_server_gone() {
                tokio::time::sleep(seconds(1)).await;
            }
        })
        .await;
        assert!(start.elapsed() < seconds(45), "{:?}", start.elapsed());
        assert_eq!(hub.stats().connections, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays_for_hours() {
    let hub = Hub::new();
    let session = hub.open(echo);
    let browser = Browser::connected(&hub, &session).await;
    tokio::time::sleep(seconds(3600)).await;
    assert_eq!(session.state(), SessionState::Open);
    assert_eq!(session.snapshot().reconnects, 0);
    drop(browser);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_hub_and_its_reader_learns_why() {
    let ended = Arc::new(AtomicBool::new(false));
    let reader_ended = Arc::clone(&ended);
    let hub = Hub::new();
    let session = hub.open(move |mut session| async move {
        while session.recv().await.is_some() {}
        reader_ended.store(true, Ordering::SeqCst);
    });
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    drop(hub);
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), (4102, EndReason::Aborted("".into()).number()));
    soon("the end", session.ended()).await;
    settled().await;
    assert!(ended.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn ended_waits_for_the_end_and_returns_at_once_afterwards() {
    let hub = Hub::new();
    let session = hub.open(echo);
    assert_waits(session.ended()).await;
    session.abort("now");
    assert_eq!(soon("the end", session.ended()).await, EndReason::Aborted("now".into()));
    assert_eq!(soon("the end", session.ended()).await, EndReason::Aborted("now".into()));
    assert!(hub.session(session.id()).is_none());
}
