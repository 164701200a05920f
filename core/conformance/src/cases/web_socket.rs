//! What a browser may expect of any WebSocket (RFC 6455), and how a server must handle invalid
//! ones.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere::{EndReason, Hub, Lane, SessionState};

use crate::application::{echo, never_reads};
use crate::browser::Browser;
use crate::fallback_bridge;
use crate::http;
use crate::load::numbered;
use crate::neighbour::Neighbour;
use crate::raw_connection::whole;
use crate::server::{Server, credentials, end_of, wait_for_state};

/// RFC 6455, section 5.5.2: a ping, which proxies send too, is answered with its payload, before
/// and after the hello.
pub async fn a_ping_is_answered(server: &Server) {
    let session = server.hub.open(echo);
    let mut silent = server.raw(&credentials(&session)).await;
    assert_eq!(silent.ping("before").await, "before");
    let mut welcomed = server.raw_welcomed(&session).await;
    for payload in ["", "one", "two"] {
        assert_eq!(welcomed.ping(payload).await, payload);
    }
    assert_eq!(session.state(), SessionState::Open);
}

/// RFC 6455, section 5.5.1: a close from the browser is answered, so that it need not wait for a
/// timeout.
pub async fn a_close_is_answered_with_a_close(server: &Server) {
    let session = server.hub.open(echo);
    let welcomed = server.raw_welcomed(&session).await;
    assert_eq!(welcomed.close(1000).await, 1000);
    wait_for_state(&session, SessionState::SoftClosed).await;

    let silent = server.raw(&credentials(&session)).await;
    assert_eq!(silent.close(1001).await, 1001, "before the hello too");
    assert_eq!(session.state(), SessionState::SoftClosed);
}

/// RFC 6455, section 7.1.1: after the close handshake the server ends the TCP connection, for which
/// browsers wait.
pub async fn a_closed_connection_is_dropped_at_once(server: &Server) {
    let session = server.hub.open(echo);
    let mut quickest = Duration::MAX;
    // Takes the shortest of several times, because the machine may be busy.
    for _ in 0..5 {
        let silent = server.raw(&credentials(&session)).await;
        quickest = quickest.min(silent.outlives_close().await);
    }
    assert!(quickest < Duration::from_millis(250), "{quickest:?}");
}

/// RFC 6455, section 5.4: browsers send large messages in several frames, proxies may split any
/// message, and a ping may arrive between frames.
pub async fn a_message_in_many_frames_arrives(server: &Server) {
    let session = server.hub.open(echo);
    let mut raw = server.raw_welcomed(&session).await;
    let payload: Vec<_> = (0..60_000u32).map(|number| number.to_le_bytes()[0]).collect();
    for pieces in [2, 3, 1000] {
        let sequence = [2, 3, 1000]
            .iter()
            .position(|known| *known == pieces)
            .map_or(0, |at| at as u64)
            + 1;
        let frame = whole(Lane::Interactive, sequence, payload.clone()).to_bytes();
        raw.send_in_pieces(&frame, frame.len().div_ceil(pieces)).await;
        assert_eq!(raw.data().await.payload, payload);
    }
}

/// Promise 6: the limit applies to a message in many frames, however small they are.
pub async fn a_message_in_many_frames_above_the_limit_ends_the_session(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(never_reads);
    let mut raw = server.raw_welcomed(&session).await;
    let frame = whole(Lane::Interactive, 1, vec![0; 1 << 20]).to_bytes();
    raw.send_in_pieces(&frame, 10_000).await;
    let end = raw.end().await;
    assert_eq!(
        (end.code, end.reason),
        (Code::TooLarge as u64, EndReason::TooLarge.number())
    );
    assert_eq!(end_of(&session).await, EndReason::TooLarge);
    neighbour.assert_untouched().await;
}

/// Promise 6: a violation of the WebSocket protocol, before or after the hello, ends only the
/// connection. The session waits for the next one.
pub async fn bytes_that_are_not_a_web_socket_end_only_the_connection(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let broken: [&[u8]; 5] = [
        // An unmasked binary frame.
        b"\x82\x01\x00",
        // A reserved opcode, a reserved bit, a ping in two frames, and a continuation without a
        // first frame.
        b"\x83\x80\x00\x00\x00\x00",
        b"\xc2\x80\x00\x00\x00\x00",
        b"\x09\x80\x00\x00\x00\x00",
        b"\x80\x80\x00\x00\x00\x00",
    ];
    for octets in broken {
        let session = server.hub.open(echo);
        let mut silent = server.raw(&credentials(&session)).await;
        silent.send_octets(octets).await;
        silent.close_code().await;
        assert_eq!(session.state(), SessionState::Unconnected, "{octets:x?}");

        let mut raw = server.raw_welcomed(&session).await;
        raw.send_octets(octets).await;
        raw.close_code().await;
        wait_for_state(&session, SessionState::SoftClosed).await;
    }
    neighbour.assert_untouched().await;
}

/// RFC 6455, section 4.1: a WebSocket is opened by GET. Other methods at the address of a session
/// are answered over HTTP and open nothing.
pub async fn other_methods_are_not_upgraded(server: &Server) {
    let server = server.with_hub(Hub::builder().max_pending_hellos(1)).await;
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "stillhere.v1"),
    ];
    for method in ["POST", "PUT", "DELETE"] {
        let answer = http::request(server.address, method, &path, &upgrade).await;
        assert!((400..500).contains(&answer.status), "{method}: {}", answer.status);
    }
    let mut raw = server.raw_welcomed(&session).await;
    raw.send(whole(Lane::Interactive, 1, "still here")).await;
    assert_eq!(raw.data().await.payload, "still here");
}

/// Only the session's limits bound a fragment, not a default of the framework or of its WebSocket
/// crate.
pub async fn a_fragment_above_the_frameworks_defaults_arrives(server: &Server) {
    const FRAGMENT: usize = 20 << 20;
    let mut options = server.hub.session_options();
    options.limits.fragment = FRAGMENT as u64;
    options.limits.message = 2 * FRAGMENT as u64;
    options.limits.outbox = 4 * FRAGMENT as u64;
    let session = server.hub.open_with(options, echo);
    let browser = server.browse(&session);
    browser.wait_for_outcome(Outcome::Opened).await;
    browser
        .send(numbered(1, FRAGMENT))
        .expect("an outbox takes one message of any size");
    assert!(
        browser.recv().await.payload == numbered(1, FRAGMENT),
        "the message is whole"
    );
}

/// Promise 6: the server knows the address of each client, over a WebSocket and over the fallback,
/// because the limits for one address depend on it.
pub async fn the_address_of_the_client_is_known(server: &Server) {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&peers);
    let builder = Hub::builder().principal(move |request| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.peer());
        Some("ada".to_owned())
    });
    let server = server.with_hub(builder).await;
    for address in [server.address, fallback_bridge::start(server.address, None).await] {
        let session = server.hub.open_for("ada", echo);
        let browser = Browser::connect(address, &session.ticket_json());
        browser.wait_for_outcome(Outcome::Opened).await;
    }
    let peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(
        peers.len() == 2 && peers.iter().all(|peer| *peer == Some(server.address.ip())),
        "{peers:?}"
    );
}
