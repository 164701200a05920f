//! Shutdown of a hub.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use stillhere::code::Class;
use stillhere::machine::DocumentEvent;
use stillhere::wire::Frame;
use stillhere::{Cause, EndReason, Hub, Session, SessionState};
use tokio::time::Instant;

use support::browser::Browser;
use support::wire::{RawDocument, Wire};
use support::{milliseconds, seconds, settled, soon};

const DRAINING: (u64, u64) = (4200, 8);

async fn idle(session: Session) {
    session.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_delivers_what_it_can_and_reports_the_rest() {
    let hub = Hub::new();
    // A page that reads, one that never acknowledges, one that is away, and one that never
    // connected.
    let reads = hub.open(idle);
    let reader = Browser::connected(&hub, &reads).await;
    let stuck = hub.open(idle);
    let (stuck_wire, _) = RawDocument::new(&stuck).welcomed(&hub).await;
    let away = hub.open(idle);
    let (wire, _) = RawDocument::new(&away).welcomed(&hub).await;
    drop(wire);
    let waiting = hub.open(idle);
    settled().await;
    for session in [&reads, &stuck, &away] {
        for _ in 0..3 {
            session.send("last").await.expect("there is room");
        }
    }
    let start = Instant::now();
    let report = hub.shutdown(seconds(5)).await;
    assert!(
        (seconds(5)..milliseconds(5600)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!((report.sessions, report.aborted), (4, 2));
    let mut unacknowledged = report.unacknowledged.clone();
    unacknowledged.sort_by_key(|(id, _)| id != stuck.id());
    assert_eq!(unacknowledged, [(*stuck.id(), 3), (*away.id(), 3)]);
    for session in [reads, stuck, away, waiting] {
        assert_eq!(soon("the end", session.ended()).await, EndReason::Draining);
    }
    for _ in 0..3 {
        assert_eq!(reader.text().await, "last");
    }
    assert_eq!(reader.ended().await.0, DRAINING.1);
    let end = stuck_wire.end().await;
    assert_eq!((end.code, end.reason), DRAINING);
    settled().await;
    assert_eq!(hub.stats().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_with_nothing_to_deliver_takes_no_time() {
    let hub = Hub::new();
    let mut pages = Vec::new();
    for _ in 0..100 {
        let session = hub.open(idle);
        pages.push(Browser::connected(&hub, &session).await);
    }
    let start = Instant::now();
    let report = hub.shutdown(seconds(30)).await;
    assert!(start.elapsed() < seconds(2), "{:?}", start.elapsed());
    assert_eq!((report.sessions, report.aborted, report.connections_left), (100, 0, 0));
    assert!(report.unacknowledged.is_empty());
    for page in &pages {
        assert_eq!(page.ended().await.0, DRAINING.1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_browsers_are_told_to_reconnect_at_different_times() {
    let hub = Hub::new();
    let mut pages = Vec::new();
    for _ in 0..1000 {
        let session = hub.open(idle);
        pages.push(Browser::connected(&hub, &session).await);
    }
    hub.shutdown(seconds(10)).await;
    let mut hints = Vec::new();
    for page in &pages {
        let hint = page.event("the end", |event| match event {
            DocumentEvent::Ended { code, retry_after, .. } => {
                assert_eq!((*code, Class::of(*code)), (4200, Class::Later));
                Some(*retry_after)
            }
            _ => None,
        });
        hints.push(hint.await);
    }
    hints.sort();
    assert_eq!(hints.iter().collect::<HashSet<_>>().len(), 1000, "all are different");
    assert!(
        hints[0] >= seconds(1) && hints[999] <= seconds(11),
        "{:?} to {:?}",
        hints[0],
        hints[999]
    );
    let widest = hints
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .expect("there are several hints");
    assert!(widest < milliseconds(20), "spread evenly: {widest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_new_documents_and_lets_the_own_document_reconnect() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    session.send("unacknowledged").await.expect("there is room");
    let draining = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(seconds(20)).await }
    });
    settled().await;
    assert_eq!(session.state(), SessionState::Ending);
    assert_eq!(
        session.send("more").await,
        Err(stillhere::SendError::Ended {
            reason: EndReason::Draining,
            message: "more".into()
        })
    );

    let refused = hub.open(idle);
    assert_eq!(soon("the end", refused.ended()).await, EndReason::Draining);
    let ticket: serde_json::Value = serde_json::from_str(&refused.ticket_json()).expect("the ticket is JSON");
    assert_eq!(ticket["refused"]["code"], 4200);
    assert!(
        ticket["refused"]["retryAfter"]
            .as_u64()
            .is_some_and(|hint| hint >= 1000)
    );

    let end = RawDocument::new(&session).connect(&hub).end().await;
    assert_eq!((end.code, end.reason), DRAINING);
    assert!(end.retry_after >= 1000, "{end:?}");

    drop(wire);
    tokio::time::sleep(seconds(3)).await;
    let (wire, welcome) = document.welcomed(&hub).await;
    assert_eq!(welcome.incarnation, 1);
    assert_eq!(wire.data().await.payload, "unacknowledged");
    wire.ack(1, 0);
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), DRAINING);
    wire.end.send(stillhere::connection::Packet::Close(4200));
    drop(wire);
    let report = soon("the report", draining).await.expect("the task does not panic");
    assert_eq!(
        (report.sessions, report.aborted, report.unacknowledged.len()),
        (1, 0, 0)
    );

    // Later connections are told the same, and when to reconnect.
    let end = document.connect(&hub).end().await;
    assert_eq!((end.code, end.reason), DRAINING);
    assert!(end.retry_after >= 1000, "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_wait_are_told_that_the_server_shuts_down() {
    let hub = Hub::new();
    let sessions: Vec<_> = (0..3).map(|_| hub.open(idle)).collect();
    let mut incumbent = RawDocument::new(&sessions[0]);
    let (wire, _) = incumbent.welcomed(&hub).await;
    let newcomer = RawDocument::new(&sessions[0]).connect(&hub);
    let mut late = RawDocument::new(&sessions[1]);
    let silent = sessions
        .iter()
        .map(|session| Wire::connect(&hub, &session.id().to_string()));
    let silent: Vec<_> = silent.collect();
    settled().await;
    let start = Instant::now();
    let shutdown = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(seconds(30)).await }
    });
    for wire in [&wire, &newcomer] {
        let end = wire.end().await;
        assert_eq!((end.code, end.reason), DRAINING);
        assert!(end.retry_after >= 1000, "{end:?}");
    }
    let mut hints = HashSet::new();
    for wire in &silent {
        let end = wire.end().await;
        assert_eq!(
            (end.code, end.reason),
            (4200, 0),
            "a client without proof learns nothing about the session"
        );
        assert!((1000..=31_000).contains(&end.retry_after), "{end:?}");
        hints.insert(end.retry_after);
    }
    assert_eq!(hints.len(), 3, "spread");
    drop((wire, newcomer, silent));
    let report = soon("the report", shutdown).await.expect("the task does not panic");
    assert_eq!(report.connections_left, 0);
    assert_eq!(start.elapsed(), seconds(0));

    // A later connection must prove its right as always, and is then told about its session.
    let end = late.connect(&hub).end().await;
    assert_eq!((end.code, end.reason), DRAINING);
    assert_eq!(start.elapsed(), seconds(0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_during_a_drain_may_still_fetch_the_last_messages() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    drop(document.welcomed(&hub).await);
    settled().await;
    session.send("unacknowledged").await.expect("there is room");
    let wire = Wire::connect(&hub, &document.access.id);
    settled().await;
    let shutdown = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(seconds(20)).await }
    });
    tokio::time::sleep(seconds(5)).await;
    wire.send(Frame::Hello(document.hello()));
    wire.welcome().await;
    assert_eq!(wire.data().await.payload, "unacknowledged");
    wire.ack(1, 0);
    assert_eq!(wire.end().await.reason, DRAINING.1);
    drop(wire);
    let report = soon("the report", shutdown).await.expect("the task does not panic");
    assert!(report.unacknowledged.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_page_that_left_and_is_shown_again_during_a_drain_gets_its_last_messages() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    wire.send(Frame::Leave);
    settled().await;
    assert_eq!(session.snapshot().cause, Some(Cause::Left));
    session.send("unacknowledged").await.expect("there is room");
    let draining = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(seconds(20)).await }
    });
    tokio::time::sleep(seconds(10)).await;
    let (wire, _) = document.welcomed(&hub).await;
    assert_eq!(wire.data().await.payload, "unacknowledged");
    wire.ack(1, 0);
    assert_eq!(wire.end().await.reason, DRAINING.1);
    let report = soon("the report", draining).await.expect("the task does not panic");
    assert_eq!((report.aborted, report.unacknowledged.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_already_ending_keeps_its_reason() {
    let hub = Hub::new();
    let session = hub.open(|session| async move {
        session.send("the result").await.expect("there is room");
    });
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    settled().await;
    assert_eq!(session.state(), SessionState::Ending);
    let report = hub.shutdown(seconds(2)).await;
    assert_eq!((report.sessions, report.aborted), (1, 1));
    assert_eq!(report.unacknowledged, [(*session.id(), 1)]);
    assert_eq!(wire.end().await.reason, EndReason::Finished.number());
}

#[tokio::test(start_paused = true)]
async fn connections_that_stay_are_counted_and_not_waited_for() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    wire.end.block(true);
    let start = Instant::now();
    let report = hub.shutdown(milliseconds(100)).await;
    assert!(start.elapsed() < seconds(1), "{:?}", start.elapsed());
    assert_eq!((report.sessions, report.aborted, report.connections_left), (1, 0, 1));
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_accepts_any_deadline_and_may_be_requested_twice() {
    for deadline in [Duration::ZERO, Duration::MAX] {
        let hub = Hub::builder().heartbeat(Duration::MAX).build();
        let sessions: Vec<_> = (0..3).map(|_| hub.open(idle)).collect();
        let (wire, _) = RawDocument::new(&sessions[0]).welcomed(&hub).await;
        sessions[0].send("x").await.expect("there is room");
        let draining = tokio::spawn({
            let hub = hub.clone();
            async move { hub.shutdown(deadline).await }
        });
        if deadline > Duration::ZERO {
            tokio::time::sleep(seconds(3000)).await;
            assert!(!draining.is_finished());
            wire.ack(1, 0);
        }
        let report = soon("the report", draining).await.expect("the task does not panic");
        assert_eq!(report.aborted, usize::from(deadline == Duration::ZERO));
        let again = hub.shutdown(seconds(1)).await;
        assert_eq!((again.sessions, again.aborted), (0, 0));
        drop(wire);
    }
}

#[tokio::test(start_paused = true)]
async fn one_session_can_be_drained_alone() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let other = hub.open(idle);
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    session.send("x").await.expect("there is room");
    session.drain(milliseconds(1234));
    assert!(matches!(wire.frame().await, Frame::Data(_)));
    wire.ack(1, 0);
    let end = wire.end().await;
    assert_eq!(((end.code, end.reason), end.retry_after), (DRAINING, 1234));
    let page = Browser::connected(&hub, &other).await;
    other.send("unharmed").await.expect("there is room");
    assert_eq!(page.text().await, "unharmed");
}

#[tokio::test(start_paused = true)]
async fn a_drain_delivers_messages_that_wait_for_a_restore() {
    let hub = Hub::new();
    let session = hub.open(|session| async move {
        session.on_restore(|_| std::future::pending());
        session.ended().await;
    });
    Browser::connected(&hub, &session).await;
    let page = Browser::connected(&hub, &session).await;
    settled().await;
    session.send("accepted").await.expect("there is room");
    let report = hub.shutdown(seconds(5)).await;
    assert_eq!(page.text().await, "accepted");
    assert_eq!((report.aborted, report.unacknowledged.len()), (0, 0));
}
