//! Compression with zlib in both directions.

mod support;

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use stillhere::wire::{Data, Frame};
use stillhere::{EndReason, Hub, Lane, Message, SendError, Session, SessionHandle, SessionOptions, SessionState};
use tokio::sync::{Notify, mpsc};

use support::browser::Browser;
use support::wire::{RawDocument, Wire, charge};
use support::{settled, soon};

async fn idle(session: Session) {
    session.ended().await;
}

/// Returns a hub whose application accepts compression but compresses nothing itself.
fn taking_compressed() -> Hub {
    Hub::builder().compress_from(usize::MAX).build()
}

/// Opens a session whose messages are sent to the returned channel.
fn reported(hub: &Hub) -> (SessionHandle, mpsc::UnboundedReceiver<Bytes>) {
    let (report, reported) = mpsc::unbounded_channel();
    let session = hub.open(move |mut session| async move {
        while let Some(message) = session.recv().await {
            report.send(message.into_bytes()).expect("the test listens");
        }
    });
    (session, reported)
}

fn deflated(message: &[u8]) -> Bytes {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(message).expect("writing to memory succeeds");
    encoder.finish().expect("writing to memory succeeds").into()
}

fn send_compressed(wire: &Wire, sequence: u64, payload: Bytes) {
    wire.send(Frame::Data(Data {
        lane: Lane::Interactive,
        sequence,
        more: false,
        compressed: true,
        payload,
    }));
}

#[tokio::test(start_paused = true)]
async fn only_messages_from_the_threshold_on_that_shrink_are_compressed() {
    let hub = Hub::builder().compress_from(1000).build();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    let mut noise = vec![0; 5000];
    let mut random = 1u64;
    for byte in &mut noise {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (random >> 56) as u8;
    }
    for (message, compressed) in [
        (vec![7; 999], false),
        (vec![7; 1000], true),
        (noise, false),
        (Vec::new(), false),
    ] {
        session.send(message.clone()).await.expect("there is room");
        let data = wire.data().await;
        assert_eq!(data.compressed, compressed, "{} bytes", message.len());
        let whole = if compressed {
            deflated_back(&data.payload)
        } else {
            data.payload.to_vec()
        };
        assert_eq!(whole, message);
    }
}

fn deflated_back(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = flate2::write::ZlibDecoder::new(&mut out);
    decoder.write_all(bytes).expect("the server compresses well");
    decoder.finish().expect("the stream is whole");
    out
}

#[tokio::test(start_paused = true)]
async fn nothing_is_compressed_unless_the_application_chose_it() {
    let hub = Hub::new();
    let session = hub.open(idle);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    session.send(vec![7; 50_000]).await.expect("there is room");
    assert!(!wire.data().await.compressed);
}

#[tokio::test(start_paused = true)]
async fn compressed_messages_are_refused_unless_the_application_accepts_them() {
    let hub = Hub::new();
    let (session, mut reported) = reported(&hub);
    let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
    send_compressed(&wire, 1, deflated(&vec![0; 8 << 20]));
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), (4107, EndReason::Malformed.number()));
    assert!(end.text.contains("compression"), "{}", end.text);
    assert_eq!(soon("the end", session.ended()).await, EndReason::Malformed);
    assert_eq!(soon("none", reported.recv()).await, None);
    let mut options = SessionOptions::default();
    options.compress_from = Some(1000);
    let chosen = hub.open_with(options, idle);
    let (wire, _) = RawDocument::new(&chosen).welcomed(&hub).await;
    send_compressed(&wire, 1, deflated(b"taken here"));
    settled().await;
    assert_eq!(chosen.state(), SessionState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_compresses_below_the_limit_may_reach_the_inflated_limit() {
    let hub = Hub::builder().compress_from(1000).message_limit(100_000).build();
    let session = hub.open(idle);
    let browser = Browser::connected(&hub, &session).await;
    let message = vec![3; 8 << 20];
    session
        .send(message.clone())
        .await
        .expect("8 MiB of one byte deflate to far less than 100 kB");
    assert_eq!(browser.next().await, message);
    let too_large = session.send(vec![3; (8 << 20) + 1]).await;
    assert!(
        matches!(too_large, Err(SendError::TooLarge { limit: 100_000, .. })),
        "{too_large:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_queued_is_returned_unchanged() {
    let hub = Hub::builder().compress_from(1000).outbox_limit(1).build();
    let session = hub.open(|session: Session| async move { drop(session) });
    session.try_send("x").expect("the outbox is empty");
    let mut waits = Vec::new();
    for message in [Message::from([7; 5000]), hub.share([7; 5000])] {
        let full = session.try_send(message.clone()).expect_err("there is no room");
        assert_eq!(full.into_message(), message);
        let mut waiting = Box::pin(session.send(message.clone()));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        waits.push((waiting, message));
    }
    session.abort("");
    for (waiting, message) in waits {
        let ended = waiting.await.expect_err("the session is over");
        assert_eq!(ended.into_message(), message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_message_is_compressed_once_and_counted_once() {
    let hub = Hub::builder().compress_from(1000).build();
    let sessions: Vec<_> = (0..50).map(|_| hub.open(idle)).collect();
    let mut documents: Vec<_> = sessions.iter().map(RawDocument::new).collect();
    let message = hub.share(vec![9; 100_000]);
    for session in &sessions {
        session.try_send(message.clone()).expect("there is room");
    }
    assert_eq!(message.len(), 100_000, "the application's own bytes stay what they are");
    drop(message);
    let compressed = hub.stats().buffered - 100_000;
    assert!(compressed < 1000 + 50 * 64, "{compressed}");
    let mut payloads = Vec::new();
    for document in &mut documents {
        let (wire, _) = document.welcomed(&hub).await;
        let data = wire.data().await;
        assert!(data.compressed);
        payloads.push(data.payload);
        wire.ack(1, 0);
    }
    assert!(payloads.iter().all(|payload| *payload == payloads[0]));
    settled().await;
    assert_eq!(hub.stats().buffered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_message_reaches_the_application_whole_and_in_order_with_others() {
    let hub = taking_compressed();
    let (session, mut reported) = reported(&hub);
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    let large: Vec<u8> = (0..2_000_000u32).map(|n| (n / 1000) as u8).collect();
    wire.send_data(Lane::Interactive, 1, "first");
    send_compressed(&wire, 2, deflated(&large));
    wire.send_data(Lane::Interactive, 3, "third");
    send_compressed(&wire, 4, deflated(b""));
    for expected in [&b"first"[..], &large, b"third", b""] {
        assert_eq!(
            soon("a message", reported.recv()).await.expect("the function runs"),
            expected
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_zlib_bomb_ends_only_its_session_as_too_large() {
    let hub = taking_compressed();
    let (session, mut reported) = reported(&hub);
    let other = hub.open(idle);
    let bystander = Browser::connected(&hub, &other).await;
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    // 60 KB that inflate to 60 MB.
    let bomb = deflated(&vec![0; 60_000_000]);
    assert!(bomb.len() < 65_536);
    send_compressed(&wire, 1, bomb);
    wire.send_data(Lane::Interactive, 2, "after it");
    let end = wire.end().await;
    assert_eq!((end.code, end.reason), (4108, EndReason::TooLarge.number()));
    assert_eq!(soon("the end", session.ended()).await, EndReason::TooLarge);
    assert_eq!(
        soon("none", reported.recv()).await,
        None,
        "nothing that arrived after it is delivered"
    );
    other.send("unharmed").await.expect("the session lives");
    assert_eq!(bystander.text().await, "unharmed");
    assert_eq!(hub.stats().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn exactly_the_inflated_limit_passes_and_one_byte_more_does_not() {
    for (size, passes) in [(8 << 20, true), ((8 << 20) + 1, false)] {
        let hub = taking_compressed();
        let (session, mut reported) = reported(&hub);
        let mut document = RawDocument::new(&session);
        let (wire, _) = document.welcomed(&hub).await;
        send_compressed(&wire, 1, deflated(&vec![0; size]));
        let message = soon("a message, or none", reported.recv()).await;
        assert_eq!(message.map(|message| message.len()), passes.then_some(size));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_ends_the_session_as_malformed() {
    let good = deflated(b"something or other, something or other");
    let trailing = [&good[..], b"x"].concat().into();
    for broken in [
        good.slice(..good.len() - 1),
        trailing,
        Bytes::from("not zlib"),
        Bytes::new(),
    ] {
        let hub = taking_compressed();
        let (session, _reported) = reported(&hub);
        let mut document = RawDocument::new(&session);
        let (wire, _) = document.welcomed(&hub).await;
        send_compressed(&wire, 1, broken);
        let end = wire.end().await;
        assert_eq!((end.code, end.reason), (4107, EndReason::Malformed.number()));
        assert_eq!(soon("the end", session.ended()).await, EndReason::Malformed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gigabyte_of_inflated_messages_waits_as_one_window() {
    let hub = taking_compressed();
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let (report, mut reported) = mpsc::channel(1);
    let session = hub.open(move |mut session| async move {
        wait.notified().await;
        while let Some(message) = session.recv().await {
            report.send(message.into_bytes()).await.expect("the test listens");
        }
    });
    let mut document = RawDocument::new(&session);
    let (wire, _) = document.welcomed(&hub).await;
    // Just below 8 MiB, so that 128 of them fit into the window.
    let size = 8_300_000;
    let mut sent = 0;
    for number in 0..128u8 {
        let payload = deflated(&vec![number; size]);
        sent += charge(payload.len());
        send_compressed(&wire, u64::from(number) + 1, payload);
    }
    assert!(sent > 1_000_000 && sent <= 1 << 20, "within the window: {sent}");
    settled().await;
    assert_eq!(hub.stats().buffered, sent, "they wait as they arrived");
    go.notify_one();
    for number in 0..128u8 {
        let message = soon("a message", reported.recv()).await.expect("the function runs");
        assert_eq!(message.len(), size);
        assert!(message.first() == Some(&number) && message.last() == Some(&number));
    }
    assert_eq!(hub.stats().buffered, 0);
}
