//! The fallback over HTTP/2 without TLS, where only the URI names the host.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stillhere_conformance::application::echo;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::raw_connection::hello;
use stillhere_warp::code::Code;
use stillhere_warp::wire::{Frame, SUBPROTOCOL, Sender};
use stillhere_warp::{Hub, SessionHandle, routes};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_page_of_the_authority_is_welcomed() {
    let hub = Hub::new();
    let address = serve(&hub).await;
    let origin = format!("http://{address}");
    let frame = open(address, &hub.open(echo), &origin).await;
    assert!(matches!(frame, Frame::Welcome(_)), "{frame:?}");
}

#[tokio::test]
async fn a_page_of_another_authority_is_refused() {
    let hub = Hub::new();
    let address = serve(&hub).await;
    let frame = open(address, &hub.open(echo), "http://elsewhere.example").await;
    let Frame::End(end) = frame else {
        panic!("expected a refusal, got {frame:?}")
    };
    assert_eq!(end.code, Code::Forbidden as u64);
}

async fn serve(hub: &Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(warp::serve(routes(hub)).incoming(listener).run());
    address
}

/// Opens a polled connection of the fallback with a hello, and returns the first frame of the
/// answer.
async fn open(address: SocketAddr, session: &SessionHandle, origin: &str) -> Frame {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let (mut requests, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("the server speaks HTTP/2");
    tokio::spawn(connection);
    let request = hyper::Request::post(format!("http://{address}/stillhere/{}", session.id()))
        .header("content-type", format!("application/{SUBPROTOCOL}"))
        .header("origin", origin)
        .body(Full::new(opening(session)))
        .expect("the request is valid");
    let answer = requests.send_request(request).await.expect("the server answers");
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.expect("the answer ends").to_bytes();
    let length = u32::from_le_bytes(*body.first_chunk().expect("the answer says something"));
    Frame::decode(body.slice(4..4 + length as usize), Sender::Server).expect("it is a frame")
}

/// Returns the body of the first POST (PROTOCOL.md, section 16).
fn opening(session: &SessionHandle) -> Bytes {
    let credentials = Credentials::parse(&session.ticket_json()).expect("the hub has room");
    let mut packet = BytesMut::new();
    Frame::Hello(hello(&credentials, 1, 0, 1)).encode(&mut packet);
    let mut body = BytesMut::new();
    body.put_u8(1);
    body.put_slice(&[7; 16]);
    body.put_u32_le(10_000);
    body.put_u32_le(u32::try_from(packet.len()).expect("a hello is short"));
    body.put_slice(&packet);
    body.freeze()
}
