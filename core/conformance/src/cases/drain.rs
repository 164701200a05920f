//! A server that shuts down tells every browser (PROTOCOL.md, section 10.4).

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{EndReason, Lane, SessionState};
use stillhere_client::TicketError;

use crate::application::{echo, never_reads};
use crate::browser::Browser;
use crate::credentials::Credentials;
use crate::load::numbered;
use crate::patience::within;
use crate::server::{Server, credentials, end_of};

/// R39: a thousand browsers are told that the server is shutting down, each with a different time
/// to reconnect.
pub async fn a_thousand_browsers_are_told_to_come_back_spread_over_time(server: &Server) {
    const COUNT: usize = 1000;
    let deadline = Duration::from_secs(20);
    let browsers = stream::iter(0..COUNT)
        .map(|_| async {
            let browser = server.browse(&server.hub.open(echo));
            browser.wait_for_outcome(Outcome::Opened).await;
            browser
        })
        .buffer_unordered(32)
        .collect::<Vec<_>>()
        .await;
    let report = within("the drain", server.hub.shutdown(deadline)).await;
    assert_eq!(
        (report.sessions, report.aborted, report.connections_left),
        (COUNT, 0, 0)
    );
    assert!(report.unacknowledged.is_empty());
    let mut hints = Vec::new();
    for browser in &browsers {
        let end = browser.session_end().await;
        assert_eq!(
            (end.code, end.reason),
            (Code::Draining as u64, EndReason::Draining.number())
        );
        assert_eq!(browser.wait_for_close_codes(1).await, [Code::Draining as u64]);
        hints.push(end.retry_after);
    }
    hints.sort();
    assert!(hints[0] >= Duration::from_secs(1) && hints[COUNT - 1] <= Duration::from_secs(1) + deadline);
    // The times are evenly distributed, without crowds or gaps.
    for (tenth, hint) in (0u32..).zip(hints.iter().step_by(COUNT / 10)) {
        let even = Duration::from_secs(1) + deadline * tenth / 10;
        assert!(
            hint.abs_diff(even) < deadline / 50,
            "hint number {} is {hint:?}",
            tenth * 100
        );
    }
}

/// R39, R34: messages sent before the shutdown are delivered first, even to a browser that has to
/// reconnect for them.
pub async fn queued_messages_are_delivered_before_the_drain_ends(server: &Server) {
    let session = server.hub.open(never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let connection = server.newest_connection(&session).await;
    connection.silence();
    for number in 0..100u64 {
        session
            .send_bulk(numbered(number, 10_000))
            .await
            .expect("the session is open");
    }
    let drain = server.hub.shutdown(Duration::from_secs(30));
    let come_back = async {
        while session.state() == SessionState::Open {
            tokio::task::yield_now().await;
        }
        browser.lose_connection();
        browser.wait_for_outcome(Outcome::Resumed).await;
        connection.reset();
        for number in 0..100u64 {
            assert_eq!(browser.recv_on(Lane::Bulk).await, numbered(number, 10_000));
        }
        browser.session_end().await
    };
    let (report, end) = within("the drain", async { tokio::join!(drain, come_back) }).await;
    assert_eq!(
        (report.sessions, report.aborted, report.unacknowledged.len()),
        (1, 0, 0)
    );
    assert_eq!(end.code, Code::Draining as u64);
    assert!(end.retry_after >= Duration::from_secs(1));
}

/// R39: a browser that does not read its last messages is disconnected at the deadline, and the
/// report says how many it missed.
pub async fn a_browser_that_reads_nothing_is_cut_off_at_the_deadline(server: &Server) {
    let session = server.hub.open(never_reads);
    let browser = server.browse_through_proxy(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    let connection = server.newest_connection(&session).await;
    connection.silence();
    for _ in 0..3 {
        session.send("never arrives").await.expect("the session is open");
    }
    let deadline = Duration::from_millis(300);
    let since = std::time::Instant::now();
    let report = within("the drain", server.hub.shutdown(deadline)).await;
    assert!(since.elapsed() >= deadline);
    assert_eq!((report.sessions, report.unacknowledged), (1, vec![(*session.id(), 3)]));
    assert_eq!(end_of(&session).await, EndReason::Draining);
    assert_eq!(server.hub.stats().sessions, 0);
}

/// PROTOCOL 10.4: a connection without a hello, and a page that waits for the session, are told
/// that the server is shutting down and when to reconnect.
pub async fn connections_that_wait_are_told_that_the_server_shuts_down(server: &Server) {
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    let mut current = server.raw_welcomed(&session).await;
    let mut newcomer = server.raw(&credentials).await;
    newcomer.say_hello(&credentials, 2, 0, 1).await;
    assert!(
        matches!(current.frame().await, Frame::Ping { .. }),
        "the newcomer waits"
    );
    let mut silent = server.raw(&credentials).await;
    let shutdown = server.hub.shutdown(Duration::from_secs(60));
    let told = async {
        for (raw, reason) in [(&mut newcomer, EndReason::Draining.number()), (&mut silent, 0)] {
            let end = raw.end().await;
            assert_eq!((end.code, end.reason), (Code::Draining as u64, reason));
            assert!(end.retry_after >= 1000, "{end:?}");
        }
        drop((current, newcomer, silent));
    };
    let (report, ()) = within("the drain", async { tokio::join!(shutdown, told) }).await;
    assert_eq!((report.aborted, report.connections_left), (0, 0));
}

/// R38, R39: while the server drains, new pages get a ticket that says so, and pages of ended
/// sessions are told the same.
pub async fn a_draining_server_opens_no_new_sessions(server: &Server) {
    let session = server.hub.open(echo);
    let ticket = session.ticket_json();
    server.hub.shutdown(Duration::from_secs(1)).await;
    let refused = server.hub.open(echo);
    let refusal = Credentials::parse(&refused.ticket_json()).expect_err("the hub drains");
    let TicketError::Refused { code, retry_after, .. } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!(code, Code::Draining as u64);
    assert!(retry_after > Duration::ZERO);
    let late = Browser::connect(server.address, &ticket);
    let end = late.session_end().await;
    assert_eq!(
        (end.code, end.reason),
        (Code::Draining as u64, EndReason::Draining.number())
    );
}

/// R39: a single session can be drained, as the demo does, while the others continue.
pub async fn one_session_can_be_drained_alone(server: &Server) {
    let neighbour = crate::neighbour::Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    session.drain(Duration::from_secs(7));
    let end = browser.session_end().await;
    assert_eq!(
        (end.code, end.retry_after),
        (Code::Draining as u64, Duration::from_secs(7))
    );
    assert_eq!(end_of(&session).await, EndReason::Draining);
    neighbour.assert_untouched().await;
}
