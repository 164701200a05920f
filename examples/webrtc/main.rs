//! The demo over a WebRTC data channel: a kind of connection that neither uses WebSockets nor is
//! known to the core.
//!
//! [`rtc`] is the server's half, and `webrtc.js` the browser's. They negotiate with one POST, and
//! the application is that of the demo, unchanged. `cargo run -p stillhere-example-webrtc` starts
//! it.
//!
//! The page's buttons break the data channel instead of a TCP connection. A browser that cannot
//! open one falls back to a WebSocket.

mod rtc;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use stillhere::wire::SUBPROTOCOL;
use stillhere::{ConnectionSetup, SessionRequest, connection_pair, run_connection_loop};
use stillhere_axum::Page;
use stillhere_examples::Demo;
use str0m::change::{SdpAnswer, SdpOffer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::rtc::{Fault, Peer};

/// Address at which browsers reach the peers. A public server uses its public address here.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Most packets in transit between a channel and its session, in each direction.
const BETWEEN: usize = 16;
const STALL: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Server {
    demo: Demo,
    peers: Peers,
}

/// Breaks the newest data channel of each session.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<String, mpsc::Sender<Fault>>>>);

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let demo = Demo::start(listener.local_addr()?).await?;
    demo.hub()
        .register_connection(|_| Some(ConnectionSetup::named("webrtc").script("/webrtc.js")));
    let app = Router::new()
        .route("/", get(page))
        .route("/other", get(other_page))
        .route("/webrtc.js", get(script))
        .route("/rtc/{id}", post(negotiate))
        .route("/fault/{id}/{kind}", post(fault))
        .fallback(answer)
        .with_state(Server {
            demo: demo.clone(),
            peers: Peers::default(),
        })
        .merge(stillhere_axum::routes(demo.hub()));
    let server = axum::serve(listener, app).with_graceful_shutdown(demo.clone().drained());
    demo.run(server).await.unwrap_or(Ok(()))
}

async fn page(State(server): State<Server>) -> Page<String> {
    Page(server.demo.page())
}

async fn other_page(State(server): State<Server>) -> Page<String> {
    Page(server.demo.other_page())
}

async fn script() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("webrtc.js"))
}

/// Answers a browser's offer, and carries the session over the resulting channel.
async fn negotiate(
    State(server): State<Server>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(offer): Json<SdpOffer>,
) -> Result<Json<SdpAnswer>, (StatusCode, String)> {
    // For the hub this is like a WebSocket request, from the Origin to the cookie of the login.
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let request = SessionRequest::new(&id, headers.chain([("sec-websocket-protocol", SUBPROTOCOL.as_bytes())]));
    let accepted = server.demo.hub().accept(&request).map_err(refused)?;
    let (ours, theirs) = connection_pair(BETWEEN);
    let (peer, answer) = Peer::answer(ADDRESS, offer, ours, accepted.packet_limit())
        .await
        .map_err(refused)?;
    tokio::spawn(peer.run(server.peers.register(id)));
    tokio::spawn(run_connection_loop(accepted, theirs));
    Ok(Json(answer))
}

fn refused(error: impl ToString) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, error.to_string())
}

/// Applies the fault to the session's data channel, or to its WebSocket if it has fallen back to
/// one.
async fn fault(State(server): State<Server>, Path((id, kind)): Path<(String, String)>, uri: Uri) -> impl IntoResponse {
    let fault = match kind.as_str() {
        "reset" => Some(Fault::Reset),
        "silence" => Some(Fault::Silence),
        "stall" => Some(Fault::Stall(STALL)),
        _ => None,
    };
    if fault.is_some_and(|fault| server.peers.inject(&id, fault)) {
        return StatusCode::NO_CONTENT.into_response();
    }
    answer(State(server), Method::POST, uri).await.into_response()
}

async fn answer(State(server): State<Server>, method: Method, uri: Uri) -> impl IntoResponse {
    let answer = server.demo.answer(method.as_str(), uri.path());
    let status = StatusCode::from_u16(answer.status).expect("the demo's statuses are valid HTTP");
    let headers = [
        (header::CONTENT_TYPE, answer.content_type),
        (header::CACHE_CONTROL, answer.cache_control),
    ];
    (status, headers, answer.body)
}

impl Peers {
    /// Registers a new peer of this session. Returns the faults that it should apply.
    fn register(&self, id: String) -> mpsc::Receiver<Fault> {
        let (sender, receiver) = mpsc::channel(1);
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, peer| !peer.is_closed());
        peers.insert(id, sender);
        receiver
    }

    /// Returns true if there was a data channel for the fault.
    fn inject(&self, id: &str, fault: Fault) -> bool {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(id).is_some_and(|peer| peer.try_send(fault).is_ok())
    }
}
