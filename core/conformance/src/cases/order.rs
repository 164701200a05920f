//! Promise 1: messages arrive exactly once and in order, in both directions.

use std::time::Duration;

use stillhere::machine::Outcome;
use stillhere::{Lane, PerLane, SessionState};
use tokio::sync::{mpsc, oneshot};

use crate::application::{echo, handing_on, never_reads, next_message};
use crate::browser::Browser;
use crate::fault_proxy::Direction;
use crate::load::{Load, Tally, numbered};
use crate::patience::within;
use crate::random::Random;
use crate::raw_connection::{received, whole};
use crate::server::{Server, credentials, end_of, wait_for_state};

/// Promise 1: both directions, both lanes and all sizes at once, without faults.
pub async fn every_message_arrives_once_and_in_order(server: &Server) {
    let load = Load::new(PerLane::new(100_000, 400_000), Random::announced(1).number());
    let session = server.hub.open(load.application());
    let browser = std::sync::Arc::new(server.browse(&session));
    load.drive(&browser);
    load.at_browser
        .wait_for("messages from the server", PerLane::new(300, 50))
        .await;
    load.at_server
        .wait_for("messages from the browser", PerLane::new(300, 50))
        .await;
    load.finish().await;
    assert_eq!(session.snapshot().reconnects, 0);
}

/// Promise 1, PROTOCOL 7.2: an empty message is a message like any other. A hundred thousand of
/// them are bounded only by their charge.
pub async fn a_hundred_thousand_empty_messages_arrive(server: &Server) {
    const COUNT: usize = 100_000;
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(application);
    let browser = server.browse(&session);
    let to_browser = async {
        for _ in 0..COUNT {
            session.send("").await.expect("the session is open");
        }
    };
    let at_browser = async {
        for _ in 0..COUNT {
            assert_eq!(browser.recv().await.payload, "");
        }
    };
    let to_server = async {
        for _ in 0..COUNT {
            browser
                .send_when_there_is_room(Lane::Bulk, "")
                .await
                .expect("the session is open");
        }
    };
    let at_server = async {
        for _ in 0..COUNT {
            assert_eq!(next_message(&mut incoming).await, "");
        }
    };
    tokio::join!(to_browser, at_browser, to_server, at_server);
    browser.wait_until_acknowledged().await;
    assert!(browser.received().is_empty(), "no message arrives twice");
}

/// Promise 1: messages sent before the first browser connects wait for it.
pub async fn messages_sent_before_the_browser_connects_are_delivered_when_it_does(server: &Server) {
    let session = server.hub.open(never_reads);
    session.send("early").await.expect("an outbox has room");
    session.send_bulk("early and large").await.expect("an outbox has room");
    assert_eq!(session.state(), SessionState::Unconnected);

    let browser = server.browse(&session);
    assert_eq!(browser.recv_on(Lane::Interactive).await, "early");
    assert_eq!(browser.recv_on(Lane::Bulk).await, "early and large");
}

/// Promise 1: messages sent while nobody is connected arrive after the resume, before newer
/// messages.
pub async fn messages_sent_while_disconnected_arrive_after_the_resume(server: &Server) {
    let session = server.hub.open(never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    server.proxy.refuse_new(true);
    server.newest_connection(&session).await.cut();
    wait_for_state(&session, SessionState::SoftClosed).await;
    for number in 0..100u64 {
        session.send(numbered(number, 100)).await.expect("an outbox has room");
    }

    server.proxy.refuse_new(false);
    browser.wake();
    browser.wait_for_outcome(Outcome::Resumed).await;
    session.send(numbered(100, 100)).await.expect("the session is open");
    let mut tally = Tally::default();
    for _ in 0..=100 {
        tally.count(&browser.recv().await.payload);
    }
    tally.assert_exact(101);
}

/// Promise 1, a case in which Socket.IO's recovery fails: a connection that is lost before any
/// message was received resumes.
pub async fn a_connection_lost_before_any_message_resumes(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    server.newest_connection(&session).await.reset();
    browser.wait_for_outcome(Outcome::Resumed).await;
    assert_eq!(browser.incarnation(), 1);
    browser.send("still here?").expect("the session is open");
    assert_eq!(browser.recv().await.payload, "still here?");
}

/// Promise 1, a case in which Socket.IO's recovery fails: a short disconnection after an idle time
/// much longer than a session is kept without a connection.
pub async fn a_blip_after_long_idling_resumes(server: &Server) {
    // A busy machine answers pings late; it has two heartbeats to do so.
    let kept = Duration::from_secs(3);
    let policy = stillhere::DefaultCleanupPolicy {
        soft_closed: kept,
        ..Default::default()
    };
    let server = server
        .with_hub(stillhere::Hub::builder().cleanup_policy(policy).heartbeat(kept / 2))
        .await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let mut raw = server.raw_welcomed(&session).await;
    raw.send(whole(Lane::Interactive, 1, "one")).await;
    assert_eq!(raw.data().await.payload, "one");
    // At least three quarters of a heartbeat pass between two pings, so three of them take longer
    // than `kept`.
    for _ in 0..3 {
        let nonce = loop {
            if let stillhere::wire::Frame::Ping { nonce, .. } = raw.frame().await {
                break nonce;
            }
        };
        raw.pong(nonce).await;
    }
    drop(raw);

    let mut raw = server.raw(&credentials).await;
    let mut hello = crate::raw_connection::hello(&credentials, 1, 1, 2);
    hello.counts = received(1);
    raw.send(stillhere::wire::Frame::Hello(hello)).await;
    let welcome = raw.welcome().await;
    assert_eq!(
        (welcome.incarnation, welcome.epoch, welcome.counts.received.interactive),
        (1, 2, 1)
    );
    raw.send(whole(Lane::Interactive, 2, "two")).await;
    let data = raw.data().await;
    assert_eq!((data.sequence, &data.payload[..]), (2, &b"two"[..]));
}

/// Promise 1, a case in which Socket.IO's recovery fails: the connection is lost again and again
/// during the replay.
pub async fn drops_during_the_replay_lose_nothing(server: &Server) {
    const COUNT: u64 = 500;
    let mut random = Random::announced(2);
    let mut options = server.hub.session_options();
    options.limits.fragment = 8 * 1024;
    options.limits.window = 64 * 1024;
    options.limits.outbox = 16 << 20;
    let session = server.hub.open_with(options, never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    server.proxy.refuse_new(true);
    server.newest_connection(&session).await.reset();
    wait_for_state(&session, SessionState::SoftClosed).await;
    for number in 0..COUNT {
        session
            .send(numbered(number, 10_000))
            .await
            .expect("an outbox has room");
    }
    server.proxy.refuse_new(false);
    browser.wake();
    let mut tally = Tally::default();
    for _ in 0..20 {
        let connection = server.newest_connection(&session).await;
        // This is more than the answers to the upgrade and to the hello, so that the machine does
        // not back off.
        connection.cut_after(Direction::ToClient, random.within(2_000..60_000));
        loop {
            tokio::select! {
                () = connection.wait_until_closed() => break,
                delivery = browser.recv() => tally.count(&delivery.payload),
            }
        }
    }
    assert!(tally.received < COUNT, "the last drop happened during the replay");
    while tally.received < COUNT {
        tally.count(&browser.recv().await.payload);
    }
    tally.assert_exact(COUNT);
    browser.send("done").expect("the session is open");
    browser.wait_until_acknowledged().await;
    assert!(browser.received().is_empty(), "no message arrives twice");
}

/// Promise 1, a case in which Socket.IO's recovery fails: a thousand disconnections in a row, with
/// one message in each direction between them.
pub async fn a_thousand_drops_in_a_row_lose_nothing(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let mut tally = Tally::default();
    for number in 0..1000u64 {
        browser.send(numbered(number, 8)).expect("an outbox has room");
        server.newest_connection(&session).await.reset();
        browser.wait_for_outcome(Outcome::Resumed).await;
        tally.count(&browser.recv().await.payload);
    }
    tally.assert_exact(1000);
    assert!(session.snapshot().reconnects >= 1000);
}

/// Promise 1, a case in which Socket.IO's recovery fails: a request is answered while the
/// connection is lost.
pub async fn a_request_outstanding_across_the_gap_is_answered_once(server: &Server) {
    let (asked, mut question) = mpsc::unbounded_channel();
    let (answer, to_answer) = oneshot::channel();
    let session = server.hub.open(move |mut session| async move {
        let request = session.recv().await.expect("a request arrives");
        asked.send(request.into_bytes()).expect("the case listens");
        let answer: &'static str = to_answer.await.expect("the case answers");
        session.send(answer).await.expect("the session is open");
        session.ended().await;
    });
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    browser.send("what?").expect("the session is open");
    assert_eq!(
        within("the request", question.recv())
            .await
            .expect("the application asks"),
        "what?"
    );
    server.proxy.refuse_new(true);
    server.newest_connection(&session).await.cut();
    wait_for_state(&session, SessionState::SoftClosed).await;
    answer.send("that").expect("the application waits");

    server.proxy.refuse_new(false);
    browser.wake();
    browser.wait_for_outcome(Outcome::Resumed).await;
    assert_eq!(browser.recv().await.payload, "that");
    browser.wait_until_acknowledged().await;
    assert!(
        browser.received().is_empty() && question.try_recv().is_err(),
        "asked and answered once"
    );
}

/// R3, PROTOCOL 7.5: a transfer that is interrupted continues at the fragment where it stopped, and
/// does not start again.
pub async fn a_large_transfer_continues_where_it_was_cut(server: &Server) {
    const SIZE: usize = 8 << 20;
    let server = server
        .with_hub(stillhere::Hub::builder().message_limit(SIZE as u64))
        .await;
    let session = server.hub.open(never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    // Each round trip carries one window, so the transfer takes long enough to be interrupted.
    server.proxy.set_delay(Duration::from_millis(5));
    session
        .send_bulk(numbered(7, SIZE))
        .await
        .expect("the limit was raised");
    let receiving = browser.recv();
    let mut connections = Vec::new();
    let cutting = async {
        loop {
            let connection = server.newest_connection(&session).await;
            connections.push(connection.clone());
            if connections.len() <= 8 {
                connection.cut_after(Direction::ToClient, SIZE as u64 / 16);
            }
            connection.wait_until_closed().await;
        }
    };
    let delivery = tokio::select! {
        delivery = receiving => delivery,
        () = cutting => unreachable!("the task runs forever"),
    };
    assert!(delivery.payload == numbered(7, SIZE), "the transfer is whole");
    assert!(connections.len() > 2, "it was cut");
    let passed: u64 = connections
        .iter()
        .map(|connection| connection.bytes_passed(Direction::ToClient))
        .sum();
    // Each cut costs at most what was in transit: the bulk window and the interrupted fragment.
    let limits = server.hub.session_options().limits;
    let most = SIZE as u64 + connections.len() as u64 * (limits.bulk_window + limits.fragment + 1024);
    assert!(passed <= most, "{passed} bytes for a transfer of {SIZE}");
}

/// R14, PROTOCOL 7.3: clicks do not wait for a transfer of 100 MB that started before them. Both
/// arrive whole and in order.
pub async fn clicks_pass_a_transfer_of_100_mb(server: &Server) {
    const SIZE: usize = 100_000_000;
    const CLICKS: u64 = 20;
    let server = server
        .with_hub(stillhere::Hub::builder().message_limit(SIZE as u64))
        .await;
    let session = server.hub.open(echo);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    session
        .send_bulk(numbered(1, SIZE))
        .await
        .expect("the limit was raised");
    assert_clicks_pass(&browser, CLICKS, || session.unacknowledged() > 0).await;
    assert!(
        browser.recv_on(Lane::Bulk).await == numbered(1, SIZE),
        "the transfer is whole"
    );
}

/// R14, PROTOCOL 8.4: the same in the other direction, while the browser uploads.
pub async fn clicks_pass_an_upload(server: &Server) {
    const SIZE: usize = 20_000_000;
    let server = server
        .with_hub(stillhere::Hub::builder().message_limit(SIZE as u64))
        .await;
    let (uploaded, mut upload) = mpsc::unbounded_channel();
    let session = server.hub.open(|mut session| async move {
        while let Some(message) = session.recv().await {
            match message.lane() {
                Lane::Interactive => session.send(message.into_bytes()).await.expect("the session is open"),
                Lane::Bulk => uploaded.send(message.into_bytes()).expect("the case listens"),
            }
        }
    });
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    browser.send_bulk(numbered(1, SIZE)).expect("the limit was raised");
    assert_clicks_pass(&browser, 20, || browser.outgoing(Lane::Bulk) > 0).await;
    let upload = within("the upload", upload.recv())
        .await
        .expect("the application listens");
    assert!(upload == numbered(1, SIZE), "the upload is whole");
}

async fn assert_clicks_pass(browser: &Browser, clicks: u64, under_way: impl Fn() -> bool) {
    let mut tally = Tally::default();
    for number in 0..clicks {
        browser.send(numbered(number, 8)).expect("an outbox has room");
        tally.count(&browser.recv_on(Lane::Interactive).await);
        assert!(
            number > 0 || under_way(),
            "the first click returned during the transfer"
        );
    }
    tally.assert_exact(clicks);
}

/// The server sets `TCP_NODELAY`. A small message does not wait until the browser's kernel has
/// acknowledged the previous one, which takes 40 ms on a connection that carries both directions.
pub async fn a_small_message_does_not_wait_for_the_one_before(server: &Server) {
    let (application, mut incoming) = handing_on();
    let session = server.hub.open(application);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let mut waits = Vec::new();
    for _ in 0..41 {
        browser.send("click").expect("the session is open");
        next_message(&mut incoming).await;
        session.send("one").await.expect("the session is open");
        browser.recv().await;
        let since = std::time::Instant::now();
        session.send("two").await.expect("the session is open");
        browser.recv().await;
        waits.push(since.elapsed());
    }
    waits.sort();
    // Not the median, because the machine may be busy. Without `TCP_NODELAY` the kernel would delay
    // nearly all messages.
    let quick = waits[waits.len() / 4];
    assert!(
        quick < Duration::from_millis(20),
        "three quarters of them waited {quick:?} or more: {waits:?}"
    );
}

/// Promise 1, PROTOCOL 7.4: compressed and uncompressed messages arrive unchanged and in order.
pub async fn compressed_messages_arrive_as_they_were_sent(server: &Server) {
    let server = server.with_hub(stillhere::Hub::builder().compress_from(1000)).await;
    let session = server.hub.open(echo);
    let browser = server.browse(&session);
    let sizes = [0, 999, 1000, 200_000, 8, 1 << 20, 70_000];
    for (number, size) in (0u64..).zip(sizes) {
        browser
            .send_when_there_is_room(Lane::Interactive, numbered(number, size))
            .await
            .expect("the session is open");
    }
    for (number, size) in (0u64..).zip(sizes) {
        assert_eq!(browser.recv().await.payload, numbered(number, size));
    }
    session.close("done");
    end_of(&session).await;
}
