//! The hub's limit on what all sessions buffer together.

mod support;

use std::sync::{Arc, Mutex};

use stillhere::{EndReason, Hub, HubBuilder, Lane, Session, SessionHandle, SessionId, SessionState};

use support::wire::{RawDocument, Wire, charge};
use support::{seconds, settled, soon};

async fn idle(session: Session) {
    session.ended().await;
}

type Ends = Arc<Mutex<Vec<(SessionId, EndReason)>>>;

fn with_limit(bytes: u64) -> (HubBuilder, Ends) {
    let ends = Ends::default();
    let noted = Arc::clone(&ends);
    let builder = Hub::builder()
        .memory_limit(bytes)
        .on_end(move |id, reason| noted.lock().expect("unpoisoned").push((*id, reason.clone())));
    (builder, ends)
}

async fn attached(hub: &Hub) -> (SessionHandle, RawDocument, Wire) {
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(hub).await;
    (session, document, wire)
}

async fn soft_closed(hub: &Hub) -> SessionHandle {
    let (session, _, wire) = attached(hub).await;
    drop(wire);
    settled().await;
    assert_eq!(session.state(), SessionState::SoftClosed);
    session
}

fn ended(ends: &Ends) -> Vec<SessionId> {
    let ends = std::mem::take(&mut *ends.lock().expect("unpoisoned"));
    assert!(
        ends.iter().all(|(_, reason)| *reason == EndReason::MemoryPressure),
        "{ends:?}"
    );
    ends.into_iter().map(|(id, _)| id).collect()
}

/// Opens `count` connected sessions that buffer one message each.
async fn holders(hub: &Hub, count: usize) -> Vec<(SessionHandle, RawDocument, Wire)> {
    let mut pages = Vec::new();
    for _ in 0..count {
        let page = attached(hub).await;
        page.0.send([7; 1000]).await.expect("there is room");
        pages.push(page);
    }
    pages
}

#[tokio::test(start_paused = true)]
async fn of_those_that_hold_about_the_same_the_longest_soft_closed_end_first() {
    let (builder, ends) = with_limit(10 * charge(1000));
    let hub = builder.build();
    let mut gone = Vec::new();
    for _ in 0..4 {
        let session = soft_closed(&hub).await;
        session.send([7; 1000]).await.expect("there is room");
        gone.push(session);
        tokio::time::sleep(seconds(1)).await;
    }
    let empty = soft_closed(&hub).await;
    let connected = holders(&hub, 6).await;
    settled().await;
    assert_eq!(hub.stats().buffered, 10 * charge(1000));
    assert!(ended(&ends).is_empty(), "nothing ends up to the limit");

    for expected in &gone {
        let more = hub.open(idle);
        more.send([7; 1000])
            .await
            .expect("a session never waits for another's memory");
        settled().await;
        assert_eq!(ended(&ends), [*expected.id()]);
        assert_eq!(hub.stats().buffered, 10 * charge(1000));
    }
    assert_eq!(
        empty.state(),
        SessionState::SoftClosed,
        "the end of an empty session would free nothing"
    );
    assert!(
        connected
            .iter()
            .all(|(session, ..)| session.state() == SessionState::Open)
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_below_its_fair_share_is_never_ended() {
    let (builder, ends) = with_limit(100_000);
    let hub = builder.build();
    let mut honest = Vec::new();
    for _ in 0..10 {
        let session = soft_closed(&hub).await;
        session.send("1").await.expect("there is room");
        honest.push(session);
    }
    // A connected page for which more data waits, though not much.
    let (reading, _document, _wire) = attached(&hub).await;
    reading.send([7; 3000]).await.expect("there is room");
    let mut greedy = Vec::new();
    for round in 1..=50 {
        let (session, document, wire) = attached(&hub).await;
        for sequence in 1..=20 {
            wire.send_data(Lane::Bulk, sequence, vec![1; 1000]);
        }
        settled().await;
        greedy.push((session, document, wire));
        assert!(hub.stats().buffered <= 100_000, "round {round}");
    }
    let ended = ended(&ends);
    assert_eq!(ended.len(), 46);
    assert!(
        greedy
            .iter()
            .filter(|(session, ..)| ended.contains(session.id()))
            .count()
            == 46
    );
    assert!(honest.iter().all(|session| session.state() == SessionState::SoftClosed));
    assert_eq!(reading.state(), SessionState::Open);
}

#[tokio::test(start_paused = true)]
async fn without_soft_closed_sessions_those_that_hold_most_end() {
    let (builder, ends) = with_limit(10 * charge(1000));
    let hub = builder.build();
    let mut pages = Vec::new();
    for count in [1, 5, 3] {
        let (session, document, wire) = attached(&hub).await;
        for _ in 0..count {
            session.send([7; 1000]).await.expect("there is room");
        }
        pages.push((session, document, wire));
    }
    let waiting = hub.open(idle);
    waiting.send([7; 1000]).await.expect("there is room");
    settled().await;
    assert!(ended(&ends).is_empty());
    pages[0].0.send([7; 1000]).await.expect("there is room");
    settled().await;
    assert_eq!(ended(&ends), [*pages[1].0.id()]);
    let end = pages[1].2.end().await;
    assert_eq!((end.code, end.reason), (4102, EndReason::MemoryPressure.number()));
}

#[tokio::test(start_paused = true)]
async fn unread_messages_from_browsers_count_too() {
    let (builder, ends) = with_limit(5 * charge(1000));
    let hub = builder.build();
    let (_small, _, small_wire) = attached(&hub).await;
    let (large, _, large_wire) = attached(&hub).await;
    small_wire.send_data(Lane::Interactive, 1, vec![1; 1000]);
    for sequence in 1..=4 {
        large_wire.send_data(Lane::Bulk, sequence, vec![1; 1000]);
    }
    settled().await;
    assert_eq!(hub.stats().buffered, 5 * charge(1000));
    assert!(ended(&ends).is_empty());
    // An incomplete message counts as well.
    large_wire.send(stillhere::wire::Frame::Data(stillhere::wire::Data {
        more: true,
        ..support::wire::data(Lane::Bulk, 5, vec![1; 65_536])
    }));
    settled().await;
    assert_eq!(ended(&ends), [*large.id()]);
    assert_eq!(hub.stats().buffered, charge(1000));
}

#[tokio::test(start_paused = true)]
async fn a_shared_payload_counts_once_for_as_long_as_anybody_holds_it() {
    let (builder, _ends) = with_limit(1 << 30);
    let hub = builder.build();
    let mut pages = Vec::new();
    for _ in 0..100 {
        pages.push(attached(&hub).await);
    }
    let message = hub.share(vec![7; 100_000]);
    assert_eq!(hub.stats().buffered, 100_000);
    for (session, ..) in &pages {
        session.try_send(message.clone()).expect("there is room");
    }
    drop(message);
    let overhead = 2 * 100 * 64;
    assert!(
        (100_000..=100_000 + overhead).contains(&hub.stats().buffered),
        "{}",
        hub.stats().buffered
    );
    assert_eq!(
        pages[0].0.snapshot().buffered,
        100_000 + 2 * 64,
        "a policy sees all that a session keeps"
    );
    for (_, _, wire) in &pages[1..] {
        wire.data().await;
        wire.data().await;
        wire.ack(2, 0);
    }
    settled().await;
    assert!(hub.stats().buffered >= 100_000, "the last handle keeps it alive");
    pages[0].0.abort("");
    settled().await;
    assert_eq!(hub.stats().buffered, 0);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_hold_nothing_but_shared_payloads_can_be_ended_too() {
    let (builder, ends) = with_limit(1_000_000);
    let hub = builder.build();
    let mut sessions = Vec::new();
    for _ in 0..10 {
        let session = soft_closed(&hub).await;
        session.try_send(hub.share(vec![7; 93_000])).expect("there is room");
        sessions.push(session);
        tokio::time::sleep(seconds(1)).await;
    }
    assert!(ended(&ends).is_empty());
    let last = soft_closed(&hub).await;
    // Sharing the message exceeds the limit on its own; nothing else grows.
    let message = hub.share(vec![7; 150_000]);
    settled().await;
    assert_eq!(ended(&ends), [*sessions[0].id()]);
    last.try_send(message).expect("there is room");
    assert!(hub.stats().buffered <= 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_application_keeps_causes_no_search_for_each_message() {
    let (builder, ends) = with_limit(1_000_000);
    let hub = builder.build();
    let kept = hub.share(vec![7; 2_000_000]);
    let (session, _document, wire) = attached(&hub).await;
    let before = hub.stats().policy_evaluations;
    session.send("x").await.expect("there is room");
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(
        session.state(),
        SessionState::Open,
        "the session's end would free nothing"
    );
    assert!(ended(&ends).is_empty());
    drop(kept);
    assert_eq!(hub.stats().buffered, charge(1));
    wire.data().await;
    assert!(hub.stats().policy_evaluations - before < 10);
}

#[tokio::test(start_paused = true)]
async fn the_count_returns_to_zero_whatever_happened() {
    let (builder, _ends) = with_limit(1 << 30);
    let hub = builder.compress_from(500).build();
    let mut handles = Vec::new();
    for round in 0..60usize {
        let (session, mut document, wire) = attached(&hub).await;
        session.send(vec![7; 100]).await.expect("there is room");
        session.send_bulk(vec![8; 200_000]).await.expect("there is room");
        session.try_send(hub.share(vec![9; 50_000])).expect("there is room");
        wire.send_data(Lane::Interactive, 1, vec![1; 3000]);
        wire.data().await;
        wire.ack(1, 0);
        settled().await;
        assert!(hub.stats().buffered > 0);
        match round % 6 {
            0 => session.abort(""),
            1 => {
                session.close("");
                drop(wire);
                tokio::time::sleep(seconds(121)).await;
            }
            2 => {
                drop(wire);
                settled().await;
                let mut other = RawDocument::new(&session);
                let (_wire, _) = other.welcomed(&hub).await;
                session.abort("");
            }
            3 => wire.end.send(stillhere::connection::Packet::Text(bytes::Bytes::new())),
            4 => {
                document.attempt += 1;
                drop(wire);
                tokio::time::sleep(seconds(121)).await;
            }
            _ => session.drain(seconds(1)),
        }
        if round % 6 == 5 {
            tokio::time::sleep(seconds(11)).await;
        }
        soon("the end", session.ended()).await;
        settled().await;
        assert_eq!(hub.stats().buffered, 0, "round {round}");
        // The handle is kept, which keeps none of the messages.
        handles.push(session);
    }
    assert_eq!(handles.len(), 60);
}

#[tokio::test(start_paused = true)]
async fn unread_messages_count_until_they_are_read_also_after_the_end() {
    let hub = Hub::new();
    let go = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&go);
    let session = hub.open(move |mut session| async move {
        told.notified().await;
        while session.recv().await.is_some() {}
    });
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    wire.send_data(Lane::Interactive, 1, vec![1; 3000]);
    settled().await;
    session.abort("");
    settled().await;
    assert_eq!(hub.stats().buffered, charge(3000));
    go.notify_one();
    settled().await;
    assert_eq!(hub.stats().buffered, 0);
}
