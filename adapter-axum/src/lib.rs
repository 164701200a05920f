//! Durable browser sessions for axum 0.8: see the `stillhere` core, re-exported here, for what a session is.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use axum::Router;
//! use axum::extract::State;
//! use axum::routing::get;
//! use stillhere_axum::{Hub, Page, Session};
//!
//! async fn page(State(hub): State<Hub>) -> Page<String> {
//!     let session = hub.open(counter);
//!     Page(format!("<output id=n></output>{}", session.script_tag()))
//! }
//!
//! async fn counter(mut session: Session) {
//!     let mut clicks = 0u64;
//!     while let Some(_click) = session.recv().await {
//!         clicks += 1;
//!         if session.send(clicks.to_be_bytes()).await.is_err() {
//!             return;
//!         }
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let hub = Hub::new();
//!     let app = Router::new().route("/", get(page)).merge(stillhere_axum::routes(&hub)).with_state(hub.clone());
//!     let listener = stillhere_axum::nodelay(tokio::net::TcpListener::bind("127.0.0.1:3000").await?);
//!     let drain = async move {
//!         tokio::signal::ctrl_c().await.expect("ctrl-c can be listened for");
//!         hub.shutdown(Duration::from_secs(10)).await;
//!     };
//!     axum::serve(listener, app).with_graceful_shutdown(drain).await
//! }
//! ```

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message as WsMessage, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::any;
use axum::serve::{Listener, ListenerExt as _};
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
pub use stillhere::*;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite;

/// The routes of `hub` under its mount: the client's files and the sessions' WebSockets. Merge them into a router of any state.
pub fn routes<S: Clone + Send + Sync + 'static>(hub: &Hub) -> Router<S> {
    let hub_of_route = hub.clone();
    let handler = move |request: Request| handle(hub_of_route.clone(), request);
    Router::new().route(&format!("{}/{{name}}", hub.mount()), any(handler))
}

async fn handle(hub: Hub, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    // As it was sent: `Path` would answer what cannot be decoded with a status that a browser's WebSocket cannot read.
    let uri = parts.uri.clone();
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    match upgrade {
        Ok(upgrade) => Upgrade { upgrade, parts }.serve(&hub, name),
        Err(_) => serve_file(name, &parts.headers),
    }
}

/// One of the client's files, for people who own the route.
pub fn serve_file(name: &str, headers: &HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(asset) = client::asset(name, text(header::IF_NONE_MATCH), text(header::ACCEPT_ENCODING)) else {
        return (
            StatusCode::NOT_FOUND,
            "nothing here: a session is reached by a WebSocket",
        )
            .into_response();
    };
    let mut response = Response::builder().status(asset.status);
    for (name, value) in asset.headers {
        response = response.header(name, value);
    }
    response
        .body(Body::from(asset.body))
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Extracts a WebSocket request for a session, for people who own the route: put your own extractors before it, then [`Upgrade::serve`].
///
/// ```
/// # use axum::extract::{Path, State};
/// # use axum::response::Response;
/// # use stillhere_axum::{Hub, Upgrade};
/// # struct LoggedIn;
/// # impl<S: Send + Sync> axum::extract::FromRequestParts<S> for LoggedIn {
/// #     type Rejection = std::convert::Infallible;
/// #     async fn from_request_parts(_: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> { Ok(Self) }
/// # }
/// async fn socket(_user: LoggedIn, Path(id): Path<String>, State(hub): State<Hub>, upgrade: Upgrade) -> Response {
///     upgrade.serve(&hub, &id)
/// }
/// ```
#[derive(Debug)]
pub struct Upgrade {
    upgrade: WebSocketUpgrade,
    parts: Parts,
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state)
            .await
            .map_err(IntoResponse::into_response)?;
        let mut kept = Request::new(()).into_parts().0;
        kept.uri.clone_from(&parts.uri);
        kept.headers.clone_from(&parts.headers);
        Ok(Self { upgrade, parts: kept })
    }
}

impl Upgrade {
    /// Carries the session with this id over the WebSocket, or tells the browser why not. The answer to the request.
    pub fn serve(self, hub: &Hub, id: &str) -> Response {
        let Self { upgrade, parts } = self;
        let text = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let protocols: Vec<_> = parts
            .headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let request = UpgradeRequest {
            name: id,
            origin: text(header::ORIGIN),
            host: text(header::HOST).or_else(|| parts.uri.authority().map(axum::http::uri::Authority::as_str)),
            protocols: Some(&protocols.join(",")),
        };
        let arrival = match hub.arrive(&request) {
            Ok(arrival) => arrival,
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        };
        let limit = arrival.packet_limit();
        upgrade
            .protocols([arrival.protocol().to_owned()])
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_frame_size(limit)
            .max_message_size(limit)
            .on_upgrade(move |socket| run_connection_loop(arrival, connection(socket)))
    }
}

/// An axum WebSocket as a [`Connection`].
pub fn connection(socket: WebSocket) -> impl Connection + Send {
    OverWebSocket(socket)
}

/// By hand, because `sink_map_err` panics when a sink fails a second time, as that of a lost connection does when it is closed.
struct OverWebSocket(WebSocket);

impl Stream for OverWebSocket {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.0.poll_next_unpin(context));
        Poll::Ready(next.map(|message| message.map(packet).map_err(failure)))
    }
}

impl Sink<Packet> for OverWebSocket {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready_unpin(context).map_err(failure)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        self.0.start_send_unpin(message(packet)).map_err(failure)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_flush_unpin(context).map_err(failure)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_close_unpin(context).map_err(failure)
    }
}

fn packet(message: WsMessage) -> Packet {
    match message {
        WsMessage::Binary(bytes) => Packet::Binary(bytes),
        WsMessage::Text(_) => Packet::Text,
        WsMessage::Close(frame) => Packet::Close(frame.map_or(1005, |frame| frame.code)),
        WsMessage::Ping(_) | WsMessage::Pong(_) => Packet::Other,
    }
}

fn message(packet: Packet) -> WsMessage {
    match packet {
        Packet::Binary(bytes) => WsMessage::Binary(bytes),
        Packet::Close(code) => WsMessage::Close(Some(CloseFrame {
            code,
            reason: "".into(),
        })),
        Packet::Text | Packet::Other => WsMessage::Pong(Bytes::new()),
    }
}

fn failure(error: axum::Error) -> ConnectionError {
    let error = error.into_inner();
    match error.downcast_ref() {
        Some(tungstenite::Error::Capacity(_)) => ConnectionError::TooLarge,
        _ => ConnectionError::Failed(error),
    }
}

/// An HTML page that carries a ticket: `Cache-Control: private, no-cache`, so that no cache hands one user's session to another.
#[derive(Debug, Clone)]
pub struct Page<T>(pub T);

impl<T: Into<Body>> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        (
            [(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))],
            Html(self.0.into()),
        )
            .into_response()
    }
}

/// The listener with `TCP_NODELAY` on every connection. Without it the kernel holds small pushes back for about 40 ms.
pub fn nodelay(listener: TcpListener) -> impl Listener<Io = TcpStream, Addr = SocketAddr> {
    listener.tap_io(|stream| {
        // A connection that is gone already will say so when it is used.
        let _ = stream.set_nodelay(true);
    })
}

/// Small: the default of 128 KiB is allocated for every connection at once.
const READ_BUFFER: usize = 4096;

/// What is gathered before it is written: many frames, one system call.
const WRITE_BUFFER: usize = 16 * 1024;
