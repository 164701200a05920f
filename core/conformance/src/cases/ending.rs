//! Promise 5: every session ends exactly once, with a reason. Some cases check how a session waits
//! after its browser has disconnected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stillhere::code::Code;
use stillhere::machine::Event;
use stillhere::machine::{Outcome, SendRefused};
use stillhere::wire::Frame;
use stillhere::{
    Cause, DefaultCleanupPolicy, EndReason, Hub, Lane, Secret, SendError, Session, SessionHandle, SessionState,
};

use crate::application::{echo, never_reads};
use crate::browser::Browser;
use crate::patience::within;
use crate::raw_connection::{RawConnection, fragment, whole};
use crate::server::{Server, credentials, end_of, wait_for_event, wait_for_state};
use crate::socket::Request;

async fn says_goodbye(session: Session) {
    let mut session = session;
    session.recv().await;
    session.send("a last word").await.expect("the session is open");
    session.send_bulk("and a long one").await.expect("the session is open");
}

/// R34: when the function returns, the last messages that it sent arrive, followed by the end with
/// its reason.
pub async fn the_last_messages_arrive_before_the_end(server: &Server) {
    let session = server.hub.open(says_goodbye);
    let browser = server.browse(&session);
    browser.send("go").expect("the session is open");
    let end = browser.session_end().await;
    assert_eq!(
        (end.code, end.reason),
        (Code::Ended as u64, EndReason::Finished.number())
    );
    assert_eq!(end.unacknowledged, 0);
    assert_eq!(browser.recv_on(Lane::Interactive).await, "a last word");
    assert_eq!(browser.recv_on(Lane::Bulk).await, "and a long one");
    assert_eq!(browser.recv_or_end().await, None);
    assert_eq!(end_of(&session).await, EndReason::Finished);
    assert_eq!(session.unacknowledged(), 0);
    assert_eq!(browser.send("too late"), Err(SendRefused::SessionOver));
    assert_eq!(
        session.send("too late").await,
        Err(SendError::Ended {
            reason: EndReason::Finished,
            message: "too late".into()
        })
    );
}

/// R34, R35: the last messages also arrive if nobody is connected when the function returns. The
/// browser reconnects to get them.
pub async fn the_last_messages_wait_for_a_browser_that_is_gone(server: &Server) {
    let session = server.hub.open(never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    server.proxy.refuse_new(true);
    server.newest_connection(&session).await.reset();
    wait_for_state(&session, SessionState::SoftClosed).await;
    session.send("a last word").await.expect("an outbox has room");
    session.close("good night");
    assert_eq!(session.state(), SessionState::EndingSoftClosed);

    server.proxy.refuse_new(false);
    browser.wake();
    browser.wait_for_outcome(Outcome::Resumed).await;
    let end = browser.session_end().await;
    assert_eq!((end.code, end.reason), (Code::Ended as u64, 2));
    assert_eq!(end.text, "good night");
    assert_eq!(browser.recv().await.payload, "a last word");
    assert_eq!(end_of(&session).await, EndReason::Closed("good night".into()));
}

/// R34: a session that is closed before its first browser delivers its messages to the first
/// browser that connects. Its function never runs.
pub async fn a_session_closed_before_its_browser_came_delivers_to_it(server: &Server) {
    let session = server
        .hub
        .open(|_| async { panic!("the function of a closed session must not start") });
    session.send("sorry").await.expect("an outbox has room");
    session.close("no room in this lecture");
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    assert_eq!(browser.recv().await.payload, "sorry");
    assert_eq!(browser.session_end().await.text, "no room in this lecture");
}

/// R35: while a session is closing, a reload is told that it has ended, and why. Its own document
/// can still resume.
pub async fn a_reload_of_an_ending_session_is_told_its_reason(server: &Server) {
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    drop(server.raw_welcomed(&session).await);
    wait_for_state(&session, SessionState::SoftClosed).await;
    session.send("a last word").await.expect("an outbox has room");
    session.close("enough");
    let reloaded = server.browse(&session);
    let end = reloaded.session_end().await;
    assert_eq!((end.code, end.reason, &end.text[..]), (Code::Ended as u64, 2, "enough"));

    let mut own = server.raw(&credentials).await;
    own.say_hello(&credentials, 1, 1, 2).await;
    assert_eq!(own.welcome().await.incarnation, 1);
    assert_eq!(own.data().await.payload, "a last word");
    own.send(Frame::Ack(crate::raw_connection::received(1))).await;
    assert_eq!(own.end().await.code, Code::Ended as u64);
}

/// R36: the end says how many of the browser's messages were not received. The others are
/// acknowledged before it.
pub async fn the_end_reports_how_much_was_not_received(server: &Server) {
    let mut options = server.hub.session_options();
    options.limits.fragment = 1024;
    options.limits.window = 4 * (1024 + stillhere::FRAME_CHARGE);
    let session = server.hub.open_with(options, never_reads);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    for _ in 0..10 {
        browser.send(vec![7; 1024]).expect("an outbox has room");
    }
    // The window holds four messages, and nobody reads them.
    let buffered = 4 * (1024 + stillhere::FRAME_CHARGE);
    wait_until_buffered(&session, &browser, buffered).await;
    session.abort("enough");
    let end = browser.session_end().await;
    assert_eq!((end.code, end.reason, &end.text[..]), (Code::Ended as u64, 3, "enough"));
    assert_eq!(end.unacknowledged, 6);
}

async fn wait_until_buffered(session: &SessionHandle, browser: &Browser, charge: u64) {
    // Over HTTP, a POST counts too until its messages have been taken.
    while session.snapshot().buffered != charge {
        // The answer comes after everything sent before the ping.
        browser.ping().await;
    }
}

/// R34: an abort drops messages in transit and tells the browser at once.
pub async fn an_abort_ends_at_once(server: &Server) {
    let session = server.hub.open(never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    server.newest_connection(&session).await.silence();
    session.send("never arrives").await.expect("the session is open");
    session.abort("now");
    assert_eq!(session.state(), SessionState::Closed);
    assert_eq!(end_of(&session).await, EndReason::Aborted("now".into()));
    assert_eq!(session.unacknowledged(), 1);
    server.newest_connection(&session).await.resume();
    let end = browser.session_end().await;
    assert_eq!((end.reason, &end.text[..]), (3, "now"));
}

/// Promise 5: a function that panics ends its own session with a reason, and no other session.
pub async fn a_panic_ends_its_session_and_no_other(server: &Server) {
    let neighbour = crate::neighbour::Neighbour::move_in(server).await;
    let session = server.hub.open(|mut session| async move {
        session.recv().await;
        panic!("this panic is part of the case");
    });
    let browser = server.browse(&session);
    browser.send("boo").expect("the session is open");
    let end = browser.session_end().await;
    assert_eq!(
        (end.code, end.reason),
        (Code::Ended as u64, EndReason::Panicked.number())
    );
    assert_eq!(end_of(&session).await, EndReason::Panicked);
    neighbour.assert_untouched().await;
}

/// R37: an ended session answers with its reason for a while, even one that was aborted while
/// nobody was connected.
pub async fn an_ended_session_stays_answerable(server: &Server) {
    let session = server.hub.open(never_reads);
    let ticket = session.ticket_json();
    let credentials = credentials(&session);
    session.abort("aborted early");
    let browser = Browser::connect(server.address, &ticket);
    let end = browser.session_end().await;
    assert_eq!(
        (end.code, end.reason, &end.text[..]),
        (Code::Ended as u64, 3, "aborted early")
    );
    let mut raw = server.raw(&credentials).await;
    raw.say_hello(&credentials, 9, 4, 7).await;
    assert_eq!(raw.end().await.reason, 3, "whichever document asks");
}

/// PROTOCOL 5, 10.4: a client must pass the same checks for an ended session as for a live one
/// before it is told that the session has ended, and why.
pub async fn an_ended_session_checks_a_client_as_strictly_as_a_live_one(server: &Server) {
    let mut options = server.hub.session_options();
    // The hellos of this case must arrive within this time too.
    options.timing.hello = Duration::from_secs(1);
    let by_cookie = Hub::builder().principal(|request| request.cookie("user").map(str::to_owned));
    let server = server.with_hub(by_cookie.session_options(options)).await;
    for ended in [false, true] {
        let session = server.hub.open_for("ada", never_reads);
        let right = credentials(&session);
        if ended {
            session.abort("for ada alone");
        }
        let request = Request::new(server.address, right.path());
        let hers = request.clone().with_cookie("user=ada");
        for (request, code) in [
            (hers.clone().from_origin("http://evil.example"), Code::Forbidden),
            (hers.clone().offering("stillhere.v0"), Code::Version),
            (request.clone(), Code::Forbidden),
            (request.clone().with_cookie("user=eve"), Code::Forbidden),
            (hers.clone(), Code::HelloDeadline),
        ] {
            let mut raw = RawConnection::open(&request).await.expect("it is upgraded");
            assert_refused(&mut raw, code).await;
        }
        assert_eq!(
            RawConnection::open(&hers.clone().offering_nothing()).await.err(),
            Some(400)
        );
        let mut wrong = right.clone();
        wrong.secret = Secret::from_bytes([7; 32]);
        let mut raw = RawConnection::open(&hers).await.expect("it is upgraded");
        raw.say_hello(&wrong, 1, 0, 1).await;
        assert_refused(&mut raw, Code::WrongSecret).await;
        let mut raw = RawConnection::open(&hers).await.expect("it is upgraded");
        raw.send(Frame::Confirm).await;
        assert_refused(&mut raw, Code::Malformed).await;

        let mut raw = RawConnection::open(&hers).await.expect("it is upgraded");
        raw.say_hello(&right, 1, 0, 1).await;
        if ended {
            let end = raw.end().await;
            assert_eq!(
                (end.code, end.reason, &end.text[..]),
                (Code::Ended as u64, 3, "for ada alone")
            );
        } else {
            raw.welcome().await;
        }
    }
}

async fn assert_refused(raw: &mut RawConnection, code: Code) {
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (code as u64, 0), "{end:?}");
    assert!(!end.text.contains("ada"), "{end:?}");
}

/// PROTOCOL 6.1, 10.4: the connection on which a violation happens is told about the violation.
/// Later connections are told that the session has ended, and why.
pub async fn a_session_ended_by_a_violation_is_over_like_any_other(server: &Server) {
    let too_large = vec![0; server.hub.session_options().limits.fragment as usize + 1];
    for (bad, reason) in [
        (Frame::Offer, EndReason::Malformed),
        (whole(Lane::Interactive, 1, too_large), EndReason::TooLarge),
    ] {
        let session = server.hub.open(never_reads);
        let credentials = credentials(&session);
        let mut raw = server.raw_welcomed(&session).await;
        raw.send(bad).await;
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (reason.code() as u64, reason.number()));
        for (document, incarnation) in [(1, 1), (2, 0)] {
            let mut later = server.raw(&credentials).await;
            later.say_hello(&credentials, document, incarnation, 9).await;
            let end = later.end().await;
            assert_eq!((end.code, end.reason), (Code::Ended as u64, reason.number()));
        }
    }
}

/// R42: a browser that becomes silent is detected within two heartbeats, and told why if it can
/// still read.
pub async fn a_silent_browser_is_detected(server: &Server) {
    let mut options = server.hub.session_options();
    options.timing.heartbeat = Duration::from_millis(100);
    let session = server.hub.open_with(options, never_reads);
    let mut events = session.events();
    let since = std::time::Instant::now();
    let mut silent = server.raw_welcomed(&session).await;
    let event = wait_for_event(&mut events, "the soft close", |event| {
        matches!(event, Event::SoftClosed(_))
    })
    .await;
    assert_eq!(event, Event::SoftClosed(Cause::Silent));
    assert!(
        since.elapsed() >= Duration::from_millis(200),
        "not before two heartbeats"
    );
    let end = silent.end().await;
    assert_eq!((end.code, end.reason), (Code::Silent as u64, 0));
}

/// R42: a browser that answers pings is kept, however long it sends nothing else. A half-open
/// connection is detected behind a proxy too.
pub async fn a_quiet_browser_is_kept_and_a_half_open_one_is_not(server: &Server) {
    let mut options = server.hub.session_options();
    options.timing.heartbeat = Duration::from_secs(1);
    let quiet = server.hub.open_with(options.clone(), echo);
    let half_open = server.hub.open_with(options, echo);
    let [at_quiet, at_half_open] = [&quiet, &half_open].map(|session| server.browse_through_proxy(session));
    at_quiet.wait_for_outcome(Outcome::Opened).await;
    at_half_open.wait_for_outcome(Outcome::Opened).await;
    let mut events = half_open.events();
    server.newest_connection(&half_open).await.silence();
    let event = within("the soft close", events.next()).await;
    assert_eq!(event, Some(Event::SoftClosed(Cause::Silent)));

    at_half_open.lose_connection();
    at_half_open.wait_for_outcome(Outcome::Resumed).await;
    assert_eq!(quiet.snapshot().reconnects, 0);
    assert_eq!(at_quiet.events().len(), 1);
}

/// Sessions without a browser end with the right reason: NeverConnected, Expired or Disconnected.
pub async fn abandoned_sessions_end_with_their_reasons(server: &Server) {
    let short = Duration::from_millis(100);
    let policy = DefaultCleanupPolicy {
        unconnected: short,
        ..DefaultCleanupPolicy::default()
    };
    let server = server.with_hub(Hub::builder().cleanup_policy(policy)).await;
    let never = server.hub.open(never_reads);
    assert_eq!(end_of(&never).await, EndReason::NeverConnected);

    let policy = DefaultCleanupPolicy {
        soft_closed: short,
        ..DefaultCleanupPolicy::default()
    };
    server.hub.set_cleanup_policy(policy);
    let expired = server.hub.open(never_reads);
    drop(server.raw_welcomed(&expired).await);
    assert_eq!(end_of(&expired).await, EndReason::Expired);

    let policy = DefaultCleanupPolicy {
        soft_closed: Duration::ZERO,
        ..DefaultCleanupPolicy::default()
    };
    server.hub.set_cleanup_policy(policy);
    let disconnected = server.hub.open(never_reads);
    drop(server.raw_welcomed(&disconnected).await);
    assert_eq!(end_of(&disconnected).await, EndReason::Disconnected);

    for (session, reason) in [(never, 4), (expired, 5), (disconnected, 6)] {
        let end = server.browse(&session).session_end().await;
        assert_eq!((end.code, end.reason), (Code::Ended as u64, reason));
    }
}

/// Promise 5: the end of a session is reported exactly once, with its reason, whatever ends it.
pub async fn every_end_is_reported_exactly_once(server: &Server) {
    let reported: Arc<Mutex<Vec<(String, EndReason)>>> = Arc::default();
    let reports = Arc::clone(&reported);
    let builder = Hub::builder().max_sessions(60).on_end(move |id, reason| {
        reports
            .lock()
            .expect("no reporter panics")
            .push((id.to_string(), reason.clone()));
    });
    let server = server.with_hub(builder).await;
    let mut expected = HashMap::new();
    for round in 0..60 {
        let session = server.hub.open(echo);
        let reason = match round % 6 {
            0 => {
                // Nothing is in transit, so the session ends at once.
                session.close("closed");
                session.abort("and aborted");
                EndReason::Closed("closed".into())
            }
            1 => {
                session.abort("aborted");
                session.close("and closed");
                EndReason::Aborted("aborted".into())
            }
            2 => {
                let browser = server.browse(&session);
                browser.wait_for_outcome(Outcome::Opened).await;
                session.close("closed");
                session.abort("and aborted");
                browser.session_end().await;
                EndReason::Closed("closed".into())
            }
            3 => {
                let mut raw = server.raw_welcomed(&session).await;
                raw.send(Frame::Offer).await;
                raw.end().await;
                EndReason::Malformed
            }
            4 => {
                let mut raw = server.raw_welcomed(&session).await;
                raw.send(whole(Lane::Bulk, 1, vec![0; 65 * 1024])).await;
                assert_eq!(raw.end().await.code, Code::TooLarge as u64);
                EndReason::TooLarge
            }
            _ => {
                let mut raw = server.raw_welcomed(&session).await;
                // Either of the two may come first, but there is only one end.
                raw.send(fragment(Lane::Interactive, 2, "a gap")).await;
                session.abort("meanwhile");
                raw.send(Frame::Offer).await;
                raw.close_code().await;
                end_of(&session).await
            }
        };
        expected.insert(session.id().to_string(), reason);
    }
    server.hub.shutdown(Duration::from_secs(1)).await;
    let reported = reported.lock().expect("no reporter panics").clone();
    assert_eq!(
        reported.len(),
        expected.len(),
        "each session is reported once: {reported:?}"
    );
    for (id, reason) in &reported {
        assert_eq!(expected.get(id), Some(reason), "session {id}");
    }
}

/// PROTOCOL 10.5: after its close the server keeps reading for a while, so that data from the
/// browser does not turn the close into a reset.
pub async fn frames_sent_after_the_end_do_not_reset_the_connection(server: &Server) {
    let session = server.hub.open(echo);
    let mut raw = server.raw_welcomed(&session).await;
    session.abort("enough");
    assert_eq!(raw.end().await.code, Code::Ended as u64);
    for _ in 0..100 {
        // FIN and binary, masked with zeros, five bytes: a data frame that was in transit.
        raw.send_octets(b"\x82\x85\x00\x00\x00\x00\x40\x01abc").await;
        tokio::task::yield_now().await;
    }
}
