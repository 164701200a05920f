//! Promise 4: memory is bounded by construction. The cases send messages at the size limits, and
//! use browsers and applications that do not read.

use std::collections::VecDeque;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use stillhere::machine::{Outcome, SendRefused};
use stillhere::wire::{Data, Frame};
use stillhere::{EndReason, Hub, Lane, SendError, SessionOptions, SessionState, TrySendError};
use tokio::sync::oneshot;

use crate::application::{echo, handing_on, never_reads, next_message};
use crate::load::{Tally, numbered};
use crate::patience::within;
use crate::server::{Server, credentials, wait_for_state};

/// Messages of sizes around every boundary arrive unchanged, both ways and on both lanes. The
/// sender refuses a message that is one byte above the limit (PROTOCOL.md, 7.2).
pub async fn sizes_around_every_boundary_arrive(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let limits = credentials(&session).limits;
    let (fragment, limit) = (limits.fragment as usize, limits.message as usize);
    let sizes = [
        8,
        fragment - 1,
        fragment,
        fragment + 1,
        3 * fragment,
        3 * fragment + 1,
        limit - 1,
        limit,
    ];
    for lane in Lane::ALL {
        for (number, size) in (0u64..).zip(sizes) {
            let sent = browser.send_when_there_is_room(lane, numbered(number, size)).await;
            assert_eq!(sent, Ok(()), "{size} bytes");
            assert!(browser.recv_on(lane).await == numbered(number, size), "{size} bytes");
        }
        assert_eq!(browser.send_on(lane, vec![0; limit + 1]), Err(SendRefused::TooLarge));
    }
    let too_large = SendError::TooLarge {
        size: limit as u64 + 1,
        limit: limit as u64,
        message: vec![0; limit + 1].into(),
    };
    assert_eq!(session.send(vec![0; limit + 1]).await, Err(too_large.clone()));
    assert_eq!(session.send_bulk(vec![0; limit + 1]).await, Err(too_large));
    assert_eq!(session.state(), SessionState::Open);
}

/// R8, R10, PROTOCOL 8.3: messages larger than the window and larger than the outbox arrive.
pub async fn messages_larger_than_window_and_outbox_arrive(server: &Server) {
    let session = server.hub.open_with(small(server), echo);
    let limits = small(server).limits;
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let sizes = [limits.window, limits.window + 1, limits.outbox + 1, limits.message];
    for lane in Lane::ALL {
        for (number, size) in (0u64..).zip(sizes) {
            browser
                .send_on(lane, numbered(number, size as usize))
                .expect("an empty outbox takes any message");
            assert!(
                browser.recv_on(lane).await == numbered(number, size as usize),
                "{size} bytes"
            );
            browser.wait_until_acknowledged().await;
        }
    }
}

/// Returns options with windows of four fragments of 1 KiB, an outbox of 16 KiB and messages up to
/// 256 KiB.
fn small(server: &Server) -> SessionOptions {
    let mut options = server.hub.session_options();
    options.limits.fragment = 1024;
    options.limits.window = 4 * (1024 + stillhere::FRAME_CHARGE);
    options.limits.bulk_window = options.limits.window;
    options.limits.outbox = 16 * 1024;
    options.limits.message = 256 * 1024;
    options
}

/// R9, R11: an application that never reads fills its window and the browser's outbox, and no more.
/// What it sends still arrives. When it reads, every message is there.
pub async fn an_application_that_never_reads_costs_only_its_window(server: &Server) {
    let neighbour = crate::neighbour::Neighbour::move_in(server).await;
    let (read, to_read) = oneshot::channel();
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(|session| async move {
        to_read.await.expect("the case says when to read");
        application(session).await;
    });
    let limits = credentials(&session).limits;
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let mut sent = 0;
    let refused = loop {
        match browser.send(numbered(sent, 10_000)) {
            Ok(()) => sent += 1,
            Err(refused) => {
                // Messages that fit into the window leave the outbox once they are acknowledged.
                let charge = 10_000 + stillhere::FRAME_CHARGE;
                let in_window = limits.window / charge * charge;
                if session.snapshot().buffered == in_window
                    && browser.outgoing(Lane::Interactive) + charge > limits.outbox
                {
                    break refused;
                }
                browser.ping().await;
            }
        }
    };
    assert_eq!(refused, SendRefused::OutboxFull);
    assert!(session.snapshot().buffered <= limits.window + limits.message);
    session.send("hear this").await.expect("the session is open");
    assert_eq!(browser.recv().await.payload, "hear this");
    neighbour.assert_untouched().await;

    read.send(()).expect("the application waits");
    let mut tally = Tally::default();
    for _ in 0..sent {
        tally.count(&next_message(&mut incoming).await);
    }
    tally.assert_exact(sent);
}

/// Promise 4, R11: a browser whose handlers never return fills its window and the session's outbox,
/// and no more. `try_send` reports that, and `send` waits.
pub async fn a_browser_that_never_reads_costs_only_its_session(server: &Server) {
    let neighbour = crate::neighbour::Neighbour::move_in(server).await;
    let session = server.hub.open(never_reads);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let limits = server.hub.session_options().limits;
    let charge = 10_000 + stillhere::FRAME_CHARGE;
    let in_window = limits.window / charge;
    let mut sent = 0;
    loop {
        match session.try_send(numbered(sent, 10_000)) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full(_)) if sent == in_window + limits.outbox / charge => break,
            Err(TrySendError::Full(_)) => {
                browser.ping().await;
            }
            Err(other) => panic!("expected Full, got {other}"),
        }
    }
    assert!(session.snapshot().buffered <= limits.outbox);
    let waiting = session.send(numbered(sent, 10_000));
    let reading = async {
        neighbour.assert_untouched().await;
        let mut tally = Tally::default();
        for _ in 0..=sent {
            tally.count(&browser.recv().await.payload);
        }
        tally.assert_exact(sent + 1);
    };
    let (sent, ()) = tokio::join!(waiting, reading);
    sent.expect("there is room eventually");
}

/// R12: unread messages count with their compressed size. 128 messages of 8 MiB wait within the
/// window, and each is inflated when it is taken.
pub async fn compressed_messages_wait_compressed(server: &Server) {
    const SIZE: usize = 8 << 20;
    const COUNT: u64 = 128;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; SIZE]).expect("writing to memory succeeds");
    let payload = Bytes::from(encoder.finish().expect("writing to memory succeeds"));
    let mut options = server.hub.session_options();
    options.compress_from = Some(usize::MAX);
    options.limits.window = COUNT * (payload.len() as u64 + stillhere::FRAME_CHARGE);
    let window = options.limits.window;
    let (read, to_read) = oneshot::channel();
    let session = server.hub.open_with(options, |mut session| async move {
        to_read.await.expect("the case says when to read");
        for _ in 0..COUNT {
            assert_eq!(session.recv().await.expect("the session is open").len(), SIZE);
        }
        session.send("all read").await.expect("the session is open");
        session.ended().await;
    });
    let mut raw = server.raw_welcomed(&session).await;
    for sequence in 1..=COUNT {
        let payload = payload.clone();
        raw.send(Frame::Data(Data {
            lane: Lane::Interactive,
            sequence,
            more: false,
            compressed: true,
            payload,
        }))
        .await;
    }
    while raw.counts().await.received.interactive < COUNT {}
    let buffered = session.snapshot().buffered;
    assert!(
        (window..window + window / 64).contains(&buffered),
        "they wait as they arrived: {buffered}"
    );
    assert!(window < 2 << 20);
    read.send(()).expect("the application waits");
    assert_eq!(raw.data().await.payload, "all read");
}

/// Promise 4: a broadcast reaches subscribers that read, whatever the others do. The others get, in
/// order, the messages for which there was room.
pub async fn a_broadcast_is_not_delayed_by_a_stuck_subscriber(server: &Server) {
    const ROUNDS: u64 = 200;
    const SIZE: usize = 100_000;
    let subscriber = async || {
        let session = server.hub.open(never_reads);
        let browser = server.browse(&session);
        browser.wait_for_outcome(Outcome::Opened).await;
        (session, browser)
    };
    let healthy = [subscriber().await, subscriber().await, subscriber().await];
    let frozen = subscriber().await;
    frozen.1.freeze();
    let absent = subscriber().await;
    absent.1.leave().await;
    wait_for_state(&absent.0, SessionState::SoftClosed).await;
    let stuck = [frozen, absent];
    let mut accepted = [0, 0];
    for round in 0..ROUNDS {
        let message = server.hub.share(numbered(round, SIZE));
        for ((session, _), accepted) in stuck.iter().zip(&mut accepted) {
            match session.try_send(message.clone()) {
                Ok(()) => {
                    assert_eq!(*accepted, round, "once it is full it stays full");
                    *accepted += 1;
                }
                Err(error) => assert_eq!(error, TrySendError::Full(message.clone())),
            }
        }
        for (session, _) in &healthy {
            session
                .try_send(message.clone())
                .expect("a reader's connection has room");
        }
        for (_, browser) in &healthy {
            assert!(browser.recv().await.payload == numbered(round, SIZE), "round {round}");
        }
    }
    let limits = server.hub.session_options().limits;
    let buffered = server.hub.stats().buffered;
    // Subscribers that read have acknowledged all but part of a window.
    assert!(
        buffered <= limits.outbox + limits.window,
        "sessions share the message: {buffered} bytes"
    );
    stuck[0].1.thaw();
    stuck[1].1.wake();
    for ((_, browser), accepted) in stuck.iter().zip(accepted) {
        assert!(accepted >= limits.outbox / (SIZE as u64 + 10 * stillhere::FRAME_CHARGE) && accepted < ROUNDS);
        let mut tally = Tally::default();
        for _ in 0..accepted {
            tally.count(&browser.recv().await.payload);
        }
        tally.assert_exact(accepted);
    }
}

/// R13: above the hub's memory limit, the session that was soft-closed first ends first. Sessions
/// whose browsers read continue.
pub async fn memory_pressure_ends_the_longest_gone_first(server: &Server) {
    const SIZE: usize = 1 << 20;
    let server = server.with_hub(Hub::builder().memory_limit(5 * SIZE as u64 / 2)).await;
    let neighbour = crate::neighbour::Neighbour::move_in(&server).await;
    let mut gone = VecDeque::new();
    for _ in 0..2 {
        let session = server.hub.open(never_reads);
        drop(server.raw_welcomed(&session).await);
        wait_for_state(&session, SessionState::SoftClosed).await;
        session.send(vec![0; SIZE]).await.expect("an outbox has room");
        gone.push_back(session);
    }
    let newest = server.hub.open(never_reads);
    newest.send(vec![0; SIZE]).await.expect("an outbox has room");
    let first = gone.pop_front().expect("two sessions have lost their connections");
    assert_eq!(
        within("the end of the longest gone", first.ended()).await,
        EndReason::MemoryPressure
    );
    assert_eq!(gone[0].state(), SessionState::SoftClosed);
    assert_eq!(newest.state(), SessionState::Unconnected);
    neighbour.assert_untouched().await;
}
