//! Requests under the mount: how they are classified, and the status of each answer (PROTOCOL.md,
//! sections 2 and 16).

use stillhere::SessionState;
use stillhere::code::Code;
use stillhere::wire::{Frame, Sender};

use crate::application::echo;
use crate::http::{self, Response, get};
use crate::raw_connection::{RawConnection, hello};
use crate::server::{Server, credentials};
use crate::socket::Request;

type Headers = &'static [(&'static str, &'static str)];

const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
const VERSION: (&str, &str) = ("sec-websocket-version", "13");
const UPGRADE: (&str, &str) = ("upgrade", "websocket");

/// Headers that proxies add to ordinary requests, and incomplete or invalid WebSocket handshakes.
const NO_WEB_SOCKETS: [Headers; 8] = [
    &[("connection", "upgrade")],
    &[
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ],
    &[("connection", "keep-alive, uPGRADE"), ("upgrade", "TLS/1.2, h2c")],
    &[("connection", "close"), UPGRADE, VERSION, KEY],
    &[("connection", "upgrade"), VERSION, KEY],
    &[("connection", "upgrade"), ("upgrade", "WebSocket")],
    &[("connection", "upgrade"), UPGRADE, VERSION],
    &[("connection", "upgrade"), UPGRADE, ("sec-websocket-version", "8"), KEY],
];

/// Section 2: the client's files are served even if a proxy adds headers to the request.
pub async fn files_are_served_despite_upgrade_headers(server: &Server) {
    let plain = get(server.address, "/stillhere/client.js", &[]).await;
    for headers in NO_WEB_SOCKETS {
        for path in [
            "/stillhere/client.js".to_owned(),
            format!("/stillhere/{}", stillhere::client::script_name()),
        ] {
            let file = get(server.address, &path, headers).await;
            assert_eq!(file.status, 200, "{headers:?}");
            assert!(file.body == plain.body, "{headers:?}");
        }
        let head = http::request(server.address, "HEAD", "/stillhere/client.mjs", headers).await;
        assert_eq!(head.status, 200, "{headers:?}");
    }
}

/// Section 16: the POSTs of the fallback are accepted with these headers too, and their bodies end
/// where `Content-Length` says.
pub async fn posts_are_accepted_despite_upgrade_headers(server: &Server) {
    for (number, headers) in NO_WEB_SOCKETS.into_iter().enumerate() {
        let session = server.hub.open(echo);
        let credentials = credentials(&session);
        let hello = Frame::Hello(hello(&credentials, 1, 0, 1)).to_bytes();
        let body = [&opening(number)[..], &length_of(&hello), &hello].concat();

        let answer = post(server, credentials.path(), headers, "application/stillhere.v1", &body).await;

        assert_eq!(answer.status, 200, "{headers:?}");
        let (length, packet) = answer.body.split_first_chunk().expect("a packet");
        let packet = packet[..u32::from_le_bytes(*length) as usize].to_vec();
        let welcome = Frame::decode(packet.into(), Sender::Server).expect("the frame is well-formed");
        assert!(matches!(welcome, Frame::Welcome(_)), "{headers:?}: {welcome:?}");
    }
}

/// Section 2: an incomplete WebSocket request is told what is wrong with it, and opens nothing.
pub async fn a_request_that_is_almost_a_web_socket_is_told_what_is_missing(server: &Server) {
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    for (headers, status) in NO_WEB_SOCKETS.into_iter().zip([404, 404, 404, 404, 404, 426, 400, 426]) {
        let answer = get(server.address, &path, headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        let version = if status == 426 { "13" } else { "" };
        assert_eq!(answer.header("sec-websocket-version"), version);
    }
    assert_eq!(session.state(), SessionState::Unconnected);
    assert_eq!(server.hub.stats().connections, 0);
}

/// RFC 6455, section 4.2.1: names and values of headers are compared case-insensitively, and
/// `Connection` may list several values.
pub async fn upgrade_headers_are_recognised_in_any_case_and_in_lists(server: &Server) {
    let session = server.hub.open(echo);
    let path = credentials(&session).path().to_owned();
    for (connection, upgrade) in [
        ("Upgrade", "websocket"),
        ("keep-alive, Upgrade", "WebSocket"),
        ("uPgRaDe,keep-alive", "WEBSOCKET"),
    ] {
        let protocol = ("Sec-WebSocket-Protocol", "chat, stillhere.v1");
        let headers = [("connection", connection), ("Upgrade", upgrade), VERSION, KEY, protocol];
        let answer = get(server.address, &path, &headers).await;
        assert_eq!(answer.status, 101, "{connection} {upgrade}");
        // The example of RFC 6455, section 1.3.
        assert_eq!(answer.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.header("sec-websocket-protocol"), "stillhere.v1");
    }
}

/// Section 16: the table of statuses holds for a session that exists and for one that does not.
pub async fn the_table_of_statuses_holds(server: &Server) {
    let here = credentials(&server.hub.open(echo)).path().to_owned();
    for path in [&here, "/stillhere/AAECAwQFBgcICQoLDA0ODw"] {
        for method in ["PUT", "DELETE", "PATCH"] {
            let answer = http::request(server.address, method, path, &[]).await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, "GET, HEAD, OPTIONS, POST"),
                "{method}"
            );
        }
        for (method, status) in [("GET", 404), ("HEAD", 404), ("OPTIONS", 204)] {
            assert_eq!(
                http::request(server.address, method, path, &[]).await.status,
                status,
                "{method} {path}"
            );
        }
        for kind in [
            "application/stillhere.v1",
            "application/octet-stream",
            "text/plain",
            "application/x-www-form-urlencoded",
        ] {
            assert_eq!(
                post(server, path, &[], kind, b"no POST of ours").await.status,
                400,
                "{kind}"
            );
        }
        assert_eq!(
            http::send(server.address, &format!("POST {path}"), &[], &opening(1))
                .await
                .status,
            400,
            "without a type"
        );

        let of_nothing = [&[2][..], &opening(1)[1..], &1u32.to_le_bytes()].concat();
        assert_eq!(
            post(server, path, &[], "application/stillhere.v1", &of_nothing)
                .await
                .status,
            410
        );
        let large = [&opening(1)[..], &[0; 128 << 10]].concat();
        let announced = &[("content-length", "1000000")];
        assert_eq!(
            post(server, path, announced, "application/stillhere.v1", &large)
                .await
                .status,
            413
        );
    }
    assert_eq!(
        post(server, &here, &[], "application/octet-stream", &opening(1))
            .await
            .status,
        400
    );
    for method in ["GET", "POST", "PUT", "OPTIONS"] {
        assert_eq!(
            http::request(server.address, method, "/stillhere/no-id", &[])
                .await
                .status,
            404,
            "{method}"
        );
    }
}

/// Section 16: a problem with the session itself is reported in the `end` frame of a readable
/// answer.
pub async fn a_post_to_an_unknown_session_is_refused_with_status_200(server: &Server) {
    for path in ["/stillhere/AAECAwQFBgcICQoLDA0ODw", "/stillhere/no-id"] {
        let answer = post(server, path, &[], "application/stillhere.v1", &opening(1)).await;
        assert_eq!(answer.status, 200);
        let end = Frame::decode(answer.body[4..].to_vec().into(), Sender::Server).expect("the frame is well-formed");
        assert!(
            matches!(end, Frame::End(end) if end.code == Code::Unknown as u64),
            "{path}"
        );
    }
}

/// Some proxies normalise paths by appending or removing a slash.
pub async fn a_trailing_slash_changes_nothing(server: &Server) {
    assert_eq!(get(server.address, "/stillhere/client.js/", &[]).await.status, 200);
    let session = server.hub.open(echo);
    let credentials = credentials(&session);
    let path = format!("{}/", credentials.path());
    assert_eq!(
        post(server, &path, &[], "application/stillhere.v1", b"").await.status,
        400
    );
    let mut raw = RawConnection::open(&Request::new(server.address, &path))
        .await
        .expect("it is upgraded");
    raw.say_hello(&credentials, 1, 0, 1).await;
    assert_eq!(raw.welcome().await.incarnation, 1);
}

/// Returns the head of a POST that opens a polled connection with a token of its own.
fn opening(token: usize) -> Vec<u8> {
    let token = u8::try_from(token).expect("the test has few tokens");
    [&[1][..], &[token; 16], &10_000u32.to_le_bytes()].concat()
}

fn length_of(packet: &[u8]) -> [u8; 4] {
    u32::try_from(packet.len()).expect("a small packet").to_le_bytes()
}

async fn post(server: &Server, path: &str, headers: &[(&str, &str)], kind: &str, body: &[u8]) -> Response {
    let headers = [headers, &[("content-type", kind)]].concat();
    http::send(server.address, &format!("POST {path}"), &headers, body).await
}
