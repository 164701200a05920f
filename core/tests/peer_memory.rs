//! How much memory peers can make the server hold, in live bytes rather than in what the hub
//! counts.

#[path = "support/octets.rs"]
mod octets;
mod support;

use std::alloc::System;
use std::future::Future;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere::wire::{Data, Frame, Sender};
use stillhere::{Accepted, Hub, Lane, PlainOptions, Session, SessionRequest, run_connection_loop, websocket};
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use octets::octets;
use support::wire::{RawDocument, Wire, data, fresh_counts};
use support::{accept, seconds, settled, soon};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Runs one test at a time, because all of them measure the memory of the process.
fn alone(test: impl Future<Output = ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("the runtime starts");
    runtime.block_on(test);
}

async fn never_reads(session: Session) {
    session.ended().await;
}

/// The WebSocket of an accepted connection, the task that carries it, and what its peer writes to.
async fn web_socket(accepted: Accepted) -> (DuplexStream, JoinHandle<()>) {
    let (ours, peer) = duplex(4096);
    let connection = websocket::connection(ours, Vec::new(), accepted.packet_limit());
    let carrier = tokio::spawn(run_connection_loop(accepted, connection));
    (peer, carrier)
}

/// The first bytes of whole messages and of pings.
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;

fn binary(frame: &Frame) -> Vec<u8> {
    octets(BINARY, [0; 4], &frame.to_bytes())
}

/// Sends 4 MiB of pings, with another frame every 50 KiB, to a server whose answers nobody reads.
/// Returns by how much the memory grew.
async fn flood_with_pings(peer: &mut DuplexStream, between: &[u8]) -> usize {
    let mut flood = octets(PING, [0; 4], &[b'x'; 125]).repeat(400);
    flood.extend(between);
    let before = live_bytes();
    for _ in 0..80 {
        peer.write_all(&flood).await.expect("the server keeps reading");
    }
    settled().await;
    live_bytes().saturating_sub(before)
}

#[test]
fn pongs_for_a_peer_that_never_reads_are_bounded() {
    alone(async {
        let hub = Hub::new();
        let session = hub.open(never_reads);
        let id = session.id().to_string();

        let (mut peer, _carrier) = web_socket(accept(&hub, &id)).await;
        let grown = flood_with_pings(&mut peer, &[]).await;
        assert!(grown < BOUND, "{grown} bytes before the hello");
        drop(peer);

        let (mut peer, _carrier) = web_socket(accept(&hub, &id)).await;
        let hello = binary(&Frame::Hello(RawDocument::new(&session).hello()));
        peer.write_all(&hello).await.expect("the server reads");
        let grown = flood_with_pings(&mut peer, &binary(&Frame::Ack(fresh_counts()))).await;
        assert!(grown < BOUND, "{grown} bytes after the welcome");
        assert_eq!(hub.stats().connections, 1, "it is still connected");

        let plain = hub.open_plain(PlainOptions::default(), never_reads);
        let id = plain.id().to_string();
        let accepted = hub.accept(&SessionRequest::new(&id, [])).expect("the session is plain");
        let (mut peer, _carrier) = web_socket(accepted).await;
        let grown = flood_with_pings(&mut peer, &[]).await;
        let message = hub.session_options().limits.message as usize;
        assert!(grown < 2 * message + BOUND, "{grown} bytes in a plain session");
    });
}

/// Twice 16 KiB, and one data frame of 64 KiB in a vector that grows by doubling.
const BOUND: usize = 256 * 1024;

#[test]
fn a_flood_of_protocol_pings_that_cannot_be_answered_is_answered_once() {
    alone(async {
        let hub = Hub::new();
        let session = hub.open(never_reads);
        let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
        wire.end.block(true);
        let before = live_bytes();
        for nonce in 0..100_000 {
            let counts = fresh_counts();
            wire.send(Frame::Ping { nonce, counts });
            if nonce.is_multiple_of(1000) {
                settled().await;
            }
        }
        settled().await;
        let grown = live_bytes().saturating_sub(before);
        assert!(grown < BOUND, "{grown} bytes");
        wire.end.block(false);
        assert!(matches!(wire.frame().await, Frame::Pong { nonce: 99_999, .. }));
    });
}

#[test]
fn nothing_is_lost_to_pongs_that_fill_the_buffer() {
    alone(async {
        let hub = Hub::new();
        let session = hub.open(never_reads);
        let (mut peer, _carrier) = web_socket(accept(&hub, &session.id().to_string())).await;
        let hello = binary(&Frame::Hello(RawDocument::new(&session).hello()));
        peer.write_all(&hello).await.expect("the server reads");
        flood_with_pings(&mut peer, &[]).await;
        for number in 0..10u8 {
            session.send(vec![number; 60_000]).await.expect("there is room");
            flood_with_pings(&mut peer, &[]).await;
        }
        session.close("that is all");

        let mut socket = WebSocketStream::from_raw_socket(peer, Role::Client, None).await;
        let mut arrived = 0;
        loop {
            let message = soon("a message", socket.next()).await;
            let Message::Binary(bytes) = message.expect("the connection is open").expect("the frame is valid") else {
                continue;
            };
            match Frame::decode(bytes, Sender::Server).expect("the server's frames are well-formed") {
                Frame::Data(data) => {
                    assert_eq!((data.sequence, data.payload[0]), (arrived + 1, arrived as u8));
                    arrived += 1;
                    let mut counts = fresh_counts();
                    counts.received.interactive = arrived;
                    let ack = Frame::Ack(counts).to_bytes();
                    socket.send(Message::Binary(ack)).await.expect("the server reads");
                }
                Frame::End(end) => break assert_eq!(end.text, "that is all"),
                _ => {}
            }
        }
        assert_eq!(arrived, 10);
        let close = soon("the close", socket.next()).await;
        assert!(matches!(close, Some(Ok(Message::Close(Some(_))))), "{close:?}");
    });
}

/// Sends messages of these sizes in turn, each after a frame that is dropped, until the window is
/// full.
async fn fill(wire: &Wire, lane: Lane, first: u64, window: u64, sizes: &[usize]) {
    let mut charged = 0;
    for (sequence, size) in (first..).zip(sizes.iter().cycle()) {
        charged += support::wire::charge(*size);
        if charged > window {
            return;
        }
        send_sliced(wire, &data(lane, sequence, vec![7; *size]));
        settle_now_and_then(sequence).await;
    }
}

/// Limits what the server has not read yet, because it counts as the memory of the test.
async fn settle_now_and_then(sequence: u64) {
    if sequence.is_multiple_of(32) {
        settled().await;
    }
}

/// Sends the frame as a slice of 128 KiB, like a transport that reads many frames into one block.
fn send_sliced(wire: &Wire, frame: &Data) {
    let mut block = vec![0; 128 * 1024];
    let frame = Frame::Data(frame.clone()).to_bytes();
    block[..frame.len()].copy_from_slice(&frame);
    let packet = Bytes::from(block).slice(..frame.len());
    wire.end.send(stillhere::connection::Packet::Binary(packet));
}

#[test]
fn unread_messages_of_any_size_hold_no_more_than_is_counted() {
    let mixes: [&[usize]; 8] = [
        &[1025],
        &[0],
        &[1],
        &[63, 1, 0],
        &[1024, 1025],
        &[16_385, 1],
        &[33_000, 1025],
        &[65_000],
    ];
    alone(async {
        for sizes in mixes {
            let hub = Hub::new();
            let session = hub.open(never_reads);
            let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
            settled().await;
            let before = live_bytes();
            let limits = hub.session_options().limits;
            fill(&wire, Lane::Interactive, 1, limits.window, sizes).await;
            fill(&wire, Lane::Bulk, 1, limits.bulk_window, sizes).await;
            settled().await;
            assert_accounted(&hub, before, sizes);
            assert!(hub.stats().buffered > 1_000_000, "{sizes:?}");
        }
    });
}

/// Asserts that the memory exceeds what is counted by at most a quarter plus 16 KiB.
fn assert_accounted(hub: &Hub, before: usize, what: impl std::fmt::Debug) {
    let (held, counted) = (live_bytes().saturating_sub(before), hub.stats().buffered as usize);
    assert!(
        held <= counted + counted / 4 + 16 * 1024,
        "{what:?}: {held} bytes for {counted}"
    );
}

#[test]
fn incomplete_messages_and_formerly_long_queues_hold_no_more_than_is_counted() {
    alone(async {
        let hub = Hub::new();
        let (take, mut to_take) = tokio::sync::mpsc::unbounded_channel::<()>();
        let session = hub.open(async move |mut session: Session| {
            while to_take.recv().await.is_some() {
                session.recv().await;
            }
            session.ended().await;
        });
        let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
        settled().await;
        let before = live_bytes();
        for sequence in 1..=9 {
            let fragment = data(Lane::Interactive, sequence, vec![7; 65_536]);
            send_sliced(&wire, &Data { more: true, ..fragment });
            settled().await;
            assert_accounted(&hub, before, format!("{sequence} fragments"));
        }
        send_sliced(&wire, &data(Lane::Interactive, 10, "x"));
        settled().await;
        assert_accounted(&hub, before, "the whole message");
        take.send(()).expect("the function runs");
        settled().await;
        assert_accounted(&hub, before, "nothing");

        for sequence in 11..8000 {
            wire.send(Frame::Data(data(Lane::Interactive, sequence, "")));
            settle_now_and_then(sequence).await;
        }
        settled().await;
        assert_accounted(&hub, before, "many empty messages");
        for taken in 13..8000 {
            take.send(()).expect("the function runs");
            settle_now_and_then(taken).await;
        }
        settled().await;
        assert_accounted(&hub, before, "the last of them");
    });
}

#[test]
fn unread_messages_of_a_plain_client_hold_no_more_than_is_counted() {
    alone(async {
        for size in [1, 100, 1025, 20_000, 700_000] {
            let hub = Hub::new();
            let session = hub.open_plain(PlainOptions::default(), never_reads);
            let accepted = hub.accept(&SessionRequest::new(&session.id().to_string(), []));
            let (server, client) = support::pipe::pipe();
            let carrier = tokio::spawn(run_connection_loop(accepted.expect("the session is plain"), server));
            settled().await;
            let before = live_bytes();
            // What the server does not read stays with the client: the last messages, and only one
            // of them.
            while client.unread() == 0 {
                for _ in 0..if size > 1000 { 1 } else { 32 } {
                    let block = Bytes::from(vec![7; 8 * 1024 + size]);
                    client.send(stillhere::connection::Packet::Binary(block.slice(..size)));
                }
                settled().await;
            }
            tokio::time::sleep(seconds(1)).await;
            let of_the_test = client.unread() * (8 * 1024 + size + 100);
            assert_accounted(&hub, before + of_the_test, size);
            session.abort("");
            drop((client, carrier));
            settled().await;
            assert_eq!(hub.stats().buffered, 0);
            assert_accounted(&hub, before, "after the end");
        }
    });
}

#[test]
fn incomplete_posts_without_a_session_hold_little_memory() {
    alone(async {
        let hub = Hub::new();
        let session = hub.open(never_reads);
        let id = session.id().to_string();
        settled().await;
        let before = live_bytes();
        let mut posts = Vec::new();
        for number in 0..1500u32 {
            let (hub, id) = (hub.clone(), id.clone());
            let mut head = vec![1];
            head.extend([number.to_le_bytes(); 5].concat());
            let rest = vec![0; if number % 2 == 0 { 4000 } else { 120_000 }];
            let body = stream::iter([head, rest])
                .map(|chunk| Ok::<_, std::convert::Infallible>(Bytes::from(chunk)))
                .chain(stream::pending());
            posts.push(tokio::spawn(async move {
                let request = SessionRequest::new(&id, [("content-type", &b"application/stillhere.v1"[..])]);
                hub.answer("POST", &request, body).await.status
            }));
            settle_now_and_then(number.into()).await;
        }
        settled().await;
        let held = live_bytes() - before;
        assert!(held < 1500 * 12 * 1024, "{held} bytes");
        let counted = hub.stats().buffered;
        assert!((750 * 4000..750 * 9000).contains(&counted), "{counted} counted");
        tokio::time::sleep(seconds(11)).await;
        let mut statuses = Vec::new();
        for post in posts {
            statuses.push(post.await.expect("it does not panic"));
        }
        assert_eq!(statuses.iter().filter(|status| **status == 408).count(), 750);
        assert_eq!(hub.stats().buffered, 0);
        assert!(live_bytes().saturating_sub(before) < 64 * 1024);
    });
}

#[test]
fn a_message_acknowledged_except_for_its_end_holds_no_more_than_is_counted() {
    alone(async {
        let hub = Hub::new();
        let session = hub.open(never_reads);
        let (wire, _) = RawDocument::new(&session).welcomed(&hub).await;
        settled().await;
        let before = live_bytes();
        for lane in Lane::ALL {
            let message = vec![7; 1_000_000];
            match lane {
                Lane::Interactive => session.send(message).await.expect("there is room"),
                Lane::Bulk => session.send_bulk(message).await.expect("there is room"),
            }
        }
        wire.ack(0, 0);
        for _ in 0..32 {
            wire.data().await;
        }
        for received in 1..16 {
            wire.ack(received, received);
            settled().await;
            assert_accounted(&hub, before, format!("{received} fragments acknowledged"));
        }
        assert!(hub.stats().buffered > 2_000_000);
        wire.ack(16, 16);
        settled().await;
        assert_eq!(hub.stats().buffered, 0);
    });
}
