//! Servers and proxies that misbehave must not harm a client.

use std::future::IntoFuture as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, UPGRADE};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::post;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::write::ZlibEncoder;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::wire::{Counts, Data, Frame, Sender, Welcome};
use stillhere::{Hub, PerLane, Session};
use stillhere_axum::routes;
use stillhere_client::{Client, Lane, Limits, Message, Route, Status, Ticket};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Handshake, Response as Accepted};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future)
        .await
        .expect("it happens in time")
}

async fn over(client: &Client) -> Status {
    let mut watch = client.watch_status();
    soon(watch.wait_for(Status::is_over))
        .await
        .expect("the client is there")
        .clone()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

/// Returns a client whose ticket leads to this address.
async fn client(address: SocketAddr, route: Route) -> Client {
    let ticket = Hub::builder().session_options(small()).build().open(echo).ticket_json();
    let builder = Client::builder()
        .page(&format!("http://{address}/"))
        .expect("the URL is valid");
    builder
        .route(route)
        .connect(&ticket)
        .await
        .expect("the ticket is valid")
}

fn small() -> stillhere::SessionOptions {
    let mut options = stillhere::SessionOptions::default();
    options.limits = Limits {
        inflated: 1000,
        ..Limits::default()
    };
    options
}

fn welcome() -> Bytes {
    let limits = small().limits;
    let welcome = Welcome {
        incarnation: 1,
        epoch: 1,
        counts: Counts {
            received: PerLane::default(),
            credit: PerLane::new(limits.window, limits.bulk_window),
        },
        heartbeat: 15_000,
        keep: 120_000,
        limits,
    };
    Frame::Welcome(welcome).to_bytes()
}

fn inflating_to(size: usize) -> Bytes {
    let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; size]).expect("writing to memory succeeds");
    let data = Data {
        lane: Lane::Interactive,
        sequence: 1,
        more: false,
        compressed: true,
        payload: encoder.finish().expect("writing to memory succeeds").into(),
    };
    Frame::Data(data).to_bytes()
}

/// Returns a client, and the server's end of the WebSocket on which the client was welcomed.
async fn welcomed(route: Route) -> (Client, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let client = client(listener.local_addr().expect("it is bound"), route).await;
    let (stream, _) = soon(listener.accept()).await.expect("the listener accepts");
    #[expect(clippy::result_large_err, reason = "tungstenite chose the error")]
    let select = |_: &Handshake, mut accepted: Accepted| {
        let protocol = "stillhere.v1".parse().expect("the header is valid");
        accepted.headers_mut().insert("sec-websocket-protocol", protocol);
        Ok(accepted)
    };
    let mut socket = accept_hdr_async(stream, select)
        .await
        .expect("the client asks for a WebSocket");
    let hello = soon(socket.next())
        .await
        .expect("the client sends a hello")
        .expect("the peer reads it");
    assert!(matches!(
        Frame::decode(hello.into_data(), Sender::Client),
        Ok(Frame::Hello(_))
    ));
    say(&mut socket, welcome()).await;
    (client, socket)
}

async fn say(socket: &mut WebSocketStream<TcpStream>, frame: Bytes) {
    socket
        .send(tungstenite::Message::Binary(frame))
        .await
        .expect("the client reads");
}

/// Returns the client's last frame and its close code.
async fn last_words(mut socket: WebSocketStream<TcpStream>) -> (Option<Frame>, Option<u16>) {
    let mut last = None;
    while let Some(Ok(message)) = soon(socket.next()).await {
        match message {
            tungstenite::Message::Close(frame) => return (last, frame.map(|frame| frame.code.into())),
            message => last = Frame::decode(message.into_data(), Sender::Client).ok(),
        }
    }
    (last, None)
}

#[tokio::test]
async fn a_packet_above_the_limits_ends_the_session() {
    let (client, mut socket) = welcomed(Route::WebSocket).await;
    say(&mut socket, vec![0x40; 2_000_000].into()).await;
    let over = over(&client).await;
    assert!(
        matches!(
            over,
            Status::Ended {
                code: 4108,
                reason: 11,
                ..
            }
        ),
        "{over:?}"
    );
}

#[tokio::test]
async fn a_message_that_inflates_above_the_limit_ends_the_session() {
    let (client, mut socket) = welcomed(Route::WebSocket).await;
    say(&mut socket, inflating_to(1001)).await;
    assert_eq!(soon(client.recv()).await, None);
    let over = over(&client).await;
    assert!(
        matches!(
            over,
            Status::Ended {
                code: 4108,
                reason: 11,
                ..
            }
        ),
        "{over:?}"
    );
    assert_eq!(last_words(socket).await, (Some(Frame::Leave), Some(4108)));
}

#[tokio::test]
async fn a_message_that_inflates_to_the_limit_is_received() {
    let (client, mut socket) = welcomed(Route::WebSocket).await;
    say(&mut socket, inflating_to(1000)).await;
    assert_eq!(soon(client.recv()).await, Some(Message::from(vec![0; 1000])));
}

#[tokio::test]
async fn a_text_message_is_malformed() {
    let (client, mut socket) = welcomed(Route::WebSocket).await;
    socket
        .send(tungstenite::Message::text("hello"))
        .await
        .expect("the client reads");
    let over = over(&client).await;
    assert!(
        matches!(
            over,
            Status::Ended {
                code: 4107,
                reason: 10,
                ..
            }
        ),
        "{over:?}"
    );
}

#[tokio::test]
async fn a_length_above_the_limits_in_an_answer_ends_the_session() {
    let answer = async || {
        let mut body = BytesMut::new();
        body.put_u32_le(welcome().len() as u32);
        body.put(welcome());
        body.put_u32_le(u32::MAX);
        // The answer never ends.
        let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(body.freeze())]);
        let body = Body::from_stream(chunks.chain(futures_util::stream::pending()));
        ([(CONTENT_TYPE, "application/stillhere.v1")], body)
    };
    let address = serve(Router::new().route("/stillhere/{id}", post(answer))).await;
    let client = client(address, Route::Streamed).await;
    let over = over(&client).await;
    assert!(
        matches!(
            over,
            Status::Ended {
                code: 4108,
                reason: 11,
                ..
            }
        ),
        "{over:?}"
    );
}

#[tokio::test]
async fn the_page_of_a_captive_portal_is_not_the_server() {
    let address = serve(Router::new().fallback(async || Html("<p>Log in"))).await;
    for (route, said) in [
        (Route::WebSocket, "status 200"),
        (Route::Streamed, "text/html"),
        (Route::Polled, "text/html"),
    ] {
        let client = client(address, route).await;
        let mut watch = client.watch_status();
        let told =
            watch.wait_for(|status| matches!(status, Status::Connecting(attempt) if attempt.text.contains(said)));
        soon(told).await.expect("the client is there");
    }
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

async fn refuse_web_sockets(request: Request, next: Next) -> Response {
    if request.headers().contains_key(UPGRADE) {
        return StatusCode::FORBIDDEN.into_response();
    }
    next.run(request).await
}

/// Never answers a WebSocket request.
async fn swallow_web_sockets(request: Request, next: Next) -> Response {
    if request.headers().contains_key(UPGRADE) {
        return std::future::pending().await;
    }
    next.run(request).await
}

#[tokio::test]
async fn http_works_where_web_sockets_are_refused_or_swallowed() {
    let hub = Hub::new();
    let refusing = routes(&hub).layer(from_fn(refuse_web_sockets));
    let swallowing = routes(&hub).layer(from_fn(swallow_web_sockets));
    for app in [refusing, swallowing] {
        let address = serve(app).await;
        let ticket = Ticket::parse(&hub.open(echo).ticket_json()).expect("the ticket is valid");
        let builder = Client::builder()
            .page(&format!("http://{address}/"))
            .expect("the URL is valid");
        let client = builder.connect_with(ticket).expect("the URL is valid");
        client.send("hello").await.expect("the session is open");
        assert_eq!(soon(client.recv()).await, Some(Message::from("hello")));
        let status = client.status();
        assert!(
            matches!(status, Status::Connected { kind: "streamed", .. }),
            "{status:?}"
        );
    }
}
