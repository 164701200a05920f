//! Promise 3: the newest connection takes over at once.

use stillhere::code::Code;
use stillhere::machine::Event;
use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{Lane, SessionState};

use crate::application::{echo, never_reads};
use crate::load::{Tally, numbered};
use crate::patience::within;
use crate::raw_connection::{fragment, hello, whole};
use crate::server::{Server, credentials, wait_for_event, wait_until_disconnected};

/// Promise 3, PROTOCOL 6.3: a reconnect while the old connection looks alive resumes at once, and
/// the old one is closed with Replaced.
pub async fn a_reconnect_takes_over_while_the_old_connection_looks_alive(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let mut events = session.events();
    browser.lose_connection();
    browser.wait_for_outcome(Outcome::Resumed).await;
    let event = within("an event", events.next()).await;
    assert!(
        matches!(event, Some(Event::Resumed { gap, .. }) if gap.is_zero()),
        "no gap, no soft close: {event:?}"
    );
    assert_eq!(browser.wait_for_close_codes(1).await, [Code::Replaced as u64]);
    browser.send("still here").expect("the session is open");
    assert_eq!(browser.recv().await.payload, "still here");
}

/// Promise 3: the late end of a replaced connection changes nothing.
pub async fn the_late_end_of_a_replaced_connection_changes_nothing(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    for fault in ["cut", "reset"] {
        let old = server.newest_connection(&session).await;
        old.silence();
        let mut events = session.events();
        browser.lose_connection();
        browser.wait_for_outcome(Outcome::Resumed).await;
        if fault == "cut" {
            old.cut();
        } else {
            old.reset();
        }
        within("the old connection's end", old.wait_until_closed()).await;
        browser.send(fault).expect("the session is open");
        assert_eq!(browser.recv().await.payload, fault);
        assert_eq!(session.state(), SessionState::Open);
        assert!(matches!(events.next().await, Some(Event::Resumed { .. })));
        session.soft_close();
        let next = within("an event", events.next()).await;
        assert_eq!(
            next,
            Some(Event::SoftClosed(stillhere::Cause::Asked)),
            "the old connection's end did not reach the session"
        );
        browser.wait_for_outcome(Outcome::Resumed).await;
    }
}

/// R19, PROTOCOL 6.3: a hello that arrives after a newer one of the same document is answered with
/// Stale and changes nothing.
pub async fn a_late_hello_after_a_newer_welcome_is_stale(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let mut newer = server.raw(&credentials).await;
    newer.say_hello(&credentials, 1, 0, 2).await;
    newer.welcome().await;
    for attempt in [1, 2] {
        let mut late = server.raw(&credentials).await;
        late.say_hello(&credentials, 1, 0, attempt).await;
        let end = late.end().await;
        assert_eq!((end.code, end.reason), (Code::Stale as u64, 0));
    }
    newer.send(whole(Lane::Interactive, 1, "mine")).await;
    assert_eq!(newer.data().await.payload, "mine");
    assert_eq!(session.snapshot().reconnects, 0);
}

/// R20: what an older connection sends after its successor was welcomed is dropped, even if it is
/// invalid.
pub async fn frames_of_a_replaced_connection_are_dropped(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let mut old = server.raw_welcomed(&session).await;
    old.send(fragment(Lane::Bulk, 1, vec![1; credentials.limits.fragment as usize]))
        .await;
    old.send(whole(Lane::Interactive, 1, "one")).await;
    assert_eq!(old.data().await.payload, "one");
    let mut new = server.raw(&credentials).await;
    new.say_hello(&credentials, 1, 1, 2).await;
    let welcome = new.welcome().await;
    assert_eq!(
        (
            welcome.epoch,
            welcome.counts.received.interactive,
            welcome.counts.received.bulk
        ),
        (2, 1, 1)
    );

    // The old connection has been told already, or is about to be.
    old.try_send(whole(Lane::Interactive, 2, "late")).await;
    old.try_send(whole(Lane::Bulk, 9, "a gap")).await;
    old.try_send(Frame::Offer).await;
    old.try_send(Frame::Leave).await;
    let replayed = new.data().await;
    assert_eq!(
        (replayed.sequence, &replayed.payload[..]),
        (1, &b"one"[..]),
        "the hello stated that nothing was received"
    );
    new.send(whole(Lane::Bulk, 2, "the rest")).await;
    new.send(whole(Lane::Interactive, 2, "two")).await;
    let (mut interactive, mut bulk) = (None, None);
    while interactive.is_none() || bulk.is_none() {
        let data = new.data().await;
        match data.lane {
            Lane::Interactive => interactive = Some(data.payload),
            Lane::Bulk if data.more => {}
            Lane::Bulk => bulk = Some(data.payload),
        }
    }
    assert_eq!(interactive.expect("the message arrives"), "two");
    assert_eq!(bulk.expect("the message arrives"), "the rest");
    assert_eq!(session.state(), SessionState::Open);
}

/// Promise 3: fifty takeovers, each while the previous connection is half-open, with messages in
/// transit.
pub async fn takeovers_of_half_open_connections_lose_nothing(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let mut half_open = Vec::new();
    for number in 0..50u64 {
        let connection = server.newest_connection(&session).await;
        browser.send(numbered(number, 5000)).expect("an outbox has room");
        connection.silence();
        browser.lose_connection();
        browser.wait_for_outcome(Outcome::Resumed).await;
        half_open.push(connection);
    }
    let mut tally = Tally::default();
    for _ in 0..50 {
        tally.count(&browser.recv().await.payload);
    }
    tally.assert_exact(50);
    assert_eq!(session.snapshot().reconnects, 50);
    drop(browser);
    half_open.iter().for_each(crate::fault_proxy::ConnectionHandle::reset);
    wait_until_disconnected(&server.hub).await;
}

/// Promises 4 and 6: a replaced connection that reads nothing is dropped after a few seconds.
pub async fn a_replaced_connection_that_reads_nothing_is_dropped(server: &Server) {
    let mut options = server.hub.session_options();
    options.limits.window = 64 << 20;
    options.limits.outbox = 64 << 20;
    let session = server.hub.open_with(options, never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let old = server.newest_connection(&session).await;
    old.silence();
    // More than the kernel buffers for a peer that does not read.
    for number in 0..40u64 {
        session
            .send(numbered(number, 1 << 20))
            .await
            .expect("the outbox was raised");
    }
    browser.lose_connection();
    browser.wait_for_outcome(Outcome::Resumed).await;
    let mut tally = Tally::default();
    for _ in 0..40 {
        tally.count(&browser.recv().await.payload);
    }
    tally.assert_exact(40);
    browser.leave().await;
    wait_until_disconnected(&server.hub).await;
    assert!(old.is_open(), "the server dropped the connection");
}

/// Promise 3: an application that asks for a new connection gets one and loses nothing.
pub async fn a_soft_close_by_the_application_makes_the_browser_come_back(server: &Server) {
    let session = server.hub.open(echo);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let mut events = session.events();
    browser.send("before").expect("the session is open");
    session.soft_close();
    browser.wait_for_outcome(Outcome::Resumed).await;
    assert_eq!(browser.recv().await.payload, "before");
    let event = wait_for_event(&mut events, "a resume", |event| matches!(event, Event::Resumed { .. })).await;
    assert!(matches!(event, Event::Resumed { .. }));
}

/// PROTOCOL 6.3 and 4: the attempt numbers in a document's hellos may skip values.
pub async fn attempts_may_skip_numbers(server: &Server) {
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    for (epoch, attempt) in (1..).zip([1, 5, 1000, (1 << 53) - 1]) {
        let mut raw = server.raw(&credentials).await;
        raw.send(Frame::Hello(hello(&credentials, 1, 0, attempt))).await;
        let welcome = raw.welcome().await;
        assert_eq!((welcome.incarnation, welcome.epoch), (1, epoch));
    }
}
