//! Requests and first frames that are refused, and limits on connections and sessions that wait.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere::wire::Frame;
use stillhere::{EndReason, Hub, Lane, Secret, SessionState};
use stillhere_client::TicketError;

use crate::application::echo;
use crate::browser::Browser;
use crate::credentials::Credentials;
use crate::http;
use crate::neighbour::Neighbour;
use crate::raw_connection::{RawConnection, hello, whole};
use crate::server::{Server, credentials, end_of};
use crate::socket::Request;

/// PROTOCOL 2, 11: an id that belongs to no session, and text that is not an id, are answered with
/// Unknown.
pub async fn an_unknown_id_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let mount = server.hub.mount();
    for id in [
        "AAECAwQFBgcICQoLDA0ODw",
        "AAECAwQFBgcICQoLDA0OD",
        "no-id-at-all",
        "%00%ff",
        "client.js",
    ] {
        let mut raw = server.raw_to(&format!("{mount}/{id}")).await;
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Unknown as u64, 0), "{id}");
    }
    neighbour.assert_untouched().await;
}

/// PROTOCOL 5: a wrong secret is refused. The session continues, whether or not its page is
/// connected.
pub async fn a_wrong_secret_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let right = credentials(&session);
    let mut current = server.raw_welcomed(&session).await;
    let mut almost = *right.secret.expose();
    almost[31] ^= 1;
    for secret in [[0; 32], almost] {
        let mut wrong = right.clone();
        wrong.secret = Secret::from_bytes(secret);
        for document in [1, 2] {
            let mut raw = server.raw(&wrong).await;
            raw.say_hello(&wrong, document, 0, 9).await;
            let end = raw.end().await;
            assert_eq!((end.code, end.reason), (Code::WrongSecret as u64, 0));
        }
    }
    current.send(whole(Lane::Interactive, 1, "mine")).await;
    assert_eq!(current.data().await.payload, "mine");
    neighbour.assert_untouched().await;
}

/// R21: a connection that sends no hello is closed with HelloDeadline. The session keeps waiting
/// for its browser.
pub async fn a_connection_without_a_hello_is_closed(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let mut options = server.hub.session_options();
    options.timing.hello = Duration::from_millis(100);
    let session = server.hub.open_with(options, echo);
    let mut raw = server.raw(&credentials(&session)).await;
    let end = raw.end().await;
    assert_eq!((end.code, end.reason), (Code::HelloDeadline as u64, 0));
    assert_eq!(session.state(), SessionState::Unconnected);
    neighbour.assert_untouched().await;
}

/// PROTOCOL 2: a request for a host that is not allowed (DNS rebinding) is answered with Forbidden,
/// even if its origin matches the host.
pub async fn a_strange_host_is_refused(server: &Server) {
    let server = server.with_hub(Hub::builder().allow_host("localhost")).await;
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    for strange in ["rebound.example", "127.0.0.1.rebound.example"] {
        let host = format!("{strange}:{}", server.address.port());
        let request = Request::new(server.address, &path)
            .to_host(&host)
            .from_origin(&format!("http://{host}"));
        let mut raw = RawConnection::open(&request).await.expect("it is upgraded anyway");
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Forbidden as u64, 0), "{host}");
    }
    assert_eq!(session.state(), SessionState::Unconnected);
    server.browse(&session).wait_for_outcome(Outcome::Opened).await;
}

/// PROTOCOL 2: a page from another origin is answered with Forbidden, after the upgrade, so that
/// the browser can read it. An allowed origin is accepted.
pub async fn a_foreign_origin_is_refused(server: &Server) {
    let server = server
        .with_hub(Hub::builder().allow_origin("https://friend.example"))
        .await;
    let neighbour = Neighbour::move_in(&server).await;
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    let same_port_elsewhere = format!("http://example.com:{}", server.address.port());
    for origin in [
        "http://evil.example",
        "http://127.0.0.1",
        "null",
        &same_port_elsewhere,
        "https://friend.example.evil",
    ] {
        let request = Request::new(server.address, &path).from_origin(origin);
        let mut raw = RawConnection::open(&request).await.expect("it is upgraded anyway");
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Forbidden as u64, 0), "{origin}");
    }
    assert_eq!(session.state(), SessionState::Unconnected);

    for origin in [
        format!("http://{}", server.address),
        "https://friend.example".to_owned(),
    ] {
        let session = server.hub.open(echo);
        let browser = Browser::connect_from(&origin, server.address, &session.ticket_json());
        browser.wait_for_outcome(Outcome::Opened).await;
    }
    neighbour.assert_untouched().await;
}

/// R44, PROTOCOL 2: a WebSocket request without our subprotocol is answered with HTTP 400, and a
/// request that is not for a WebSocket with 404.
pub async fn a_request_without_our_subprotocol_is_not_upgraded(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    let request = Request::new(server.address, &path);
    for request in [
        request.clone().offering_nothing(),
        request.clone().offering("chat, graphql-ws"),
        request.offering("stillhere"),
    ] {
        assert_eq!(
            RawConnection::open(&request).await.err(),
            Some(400),
            "{:?}",
            request.protocols
        );
    }
    assert_eq!(http::get(server.address, &path, &[]).await.status, 404);
    assert_eq!(session.state(), SessionState::Unconnected);
    neighbour.assert_untouched().await;
}

/// R16: a client of another version is answered with Version. A client that offers our version
/// among others is accepted.
pub async fn another_version_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let request = Request::new(server.address, credentials.path());
    for offer in ["stillhere.v2", "chat, stillhere.v9, stillhere.v10"] {
        let mut raw = RawConnection::open(&request.clone().offering(offer))
            .await
            .expect("it is upgraded anyway");
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Version as u64, 0), "{offer}");
    }
    for offer in ["stillhere.v2, stillhere.v1", "chat,stillhere.v1"] {
        let mut raw = RawConnection::open(&request.clone().offering(offer))
            .await
            .expect("it is upgraded");
        raw.say_hello(&credentials, 1, 0, if offer.starts_with("chat") { 2 } else { 1 })
            .await;
        assert_eq!(raw.welcome().await.incarnation, 1);
    }
    neighbour.assert_untouched().await;
}

/// PROTOCOL 5: a first frame that is not a hello is Malformed, and ends only the connection.
pub async fn a_first_frame_that_is_not_a_hello_is_refused(server: &Server) {
    let neighbour = Neighbour::move_in(server).await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let hello = Frame::Hello(hello(&credentials, 1, 0, 1)).to_bytes();
    let mut with_more = BytesMut::from(&hello[..]);
    with_more.put_u8(0);
    let attempt_0 = Frame::Hello(crate::raw_connection::hello(&credentials, 1, 0, 0)).to_bytes();
    let first_frames: [Bytes; 9] = [
        Bytes::new(),
        Bytes::from_static(b"\x00"),
        Bytes::from_static(b"\xff\xff\xff"),
        hello.slice(..1),
        hello.slice(..hello.len() - 1),
        with_more.freeze(),
        attempt_0,
        Frame::Confirm.to_bytes(),
        whole(Lane::Interactive, 1, "too early").to_bytes(),
    ];
    for first in first_frames {
        let mut raw = server.raw(&credentials).await;
        raw.send_bytes(first.clone()).await;
        let end = raw.end().await;
        assert_eq!((end.code, end.reason), (Code::Malformed as u64, 0), "{first:?}");
    }
    let mut raw = server.raw(&credentials).await;
    raw.send_text("hello").await;
    assert_eq!(raw.end().await.code, Code::Malformed as u64);
    assert_eq!(session.state(), SessionState::Unconnected);
    neighbour.assert_untouched().await;
}

/// Promise 6: the number of connections without a hello is limited. The next one is answered with
/// Busy, and a connection that says hello or closes makes room.
pub async fn connections_without_a_hello_are_limited(server: &Server) {
    let server = server.with_hub(Hub::builder().max_pending_hellos(2)).await;
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let waiting = [server.raw(&credentials).await, server.raw(&credentials).await];
    let mut third = server.raw(&credentials).await;
    let end = third.end().await;
    assert_eq!((end.code, end.reason), (Code::Busy as u64, 0));
    assert!(end.retry_after > 0);

    let [mut first, second] = waiting;
    first.say_hello(&credentials, 1, 0, 1).await;
    first.welcome().await;
    assert_eq!(second.close(1000).await, 1000);
    let mut fourth = server.raw(&credentials).await;
    fourth.say_hello(&credentials, 1, 0, 2).await;
    assert_eq!(fourth.welcome().await.incarnation, 1);
}

/// R38: above the hub's limit of sessions, a page gets a ticket that says when to try again.
/// Existing sessions continue.
pub async fn a_session_beyond_the_limit_gets_a_ticket_that_says_so(server: &Server) {
    let server = server.with_hub(Hub::builder().max_sessions(2)).await;
    let neighbour = Neighbour::move_in(&server).await;
    let last = server.hub.open(echo);
    let refused = server.hub.open(echo);
    assert_eq!(end_of(&refused).await, EndReason::Full);
    let refusal = Credentials::parse(&refused.ticket_json()).expect_err("the hub is full");
    let TicketError::Refused { code, retry_after, .. } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!(code, Code::Full as u64);
    assert!(retry_after > Duration::ZERO);
    last.abort("makes room");
    Credentials::parse(&server.hub.open(echo).ticket_json()).expect("there is room again");
    neighbour.assert_untouched().await;
}

/// R22: the secret is in the ticket and in the hello, and in no part of the request that a proxy
/// sees.
pub async fn the_ticket_keeps_its_secret_out_of_the_url(server: &Server) {
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    assert_eq!(credentials.url, format!("{}/{}", server.hub.mount(), session.id()));
    assert!(!format!("{:?} {}", session, session.ticket()).contains("secret"));
    assert_ne!(
        credentials.secret.expose()[..16],
        session.id().as_bytes()[..],
        "the id reveals nothing about it"
    );
}
