//! A server without a framework. The session sees only the pair of [`connection_pair`]; a bridge
//! behind it carries the packets to WebSockets.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::faulty::Faulty;
use super::liar::Liar;
use futures_util::future::{Either, select};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use stillhere::websocket::{accept_key, connection};
use stillhere::{
    Accepted, AnswerBody, Asks, Connection, ConnectionError, Hub, PairEnd, SessionRequest, connection_pair, name_of,
    run_connection_loop, upgrade,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Mistakes that an adapter may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A framework leaves pings to its user.
    NoPong,
    /// A close reaches the browser without its code.
    LostCloseCode,
    /// The frame limit is that of actix-web, although the hub's is larger.
    DefaultFrameLimit,
    /// A connection loses, duplicates and reorders some of its packets.
    Lies,
    /// A connection loses the first data frame of each direction.
    Swallows,
    /// The kernel delays a small packet while the previous one is unacknowledged.
    Nagle,
}

pub(crate) async fn start(hub: Hub) -> SocketAddr {
    start_with(hub, None).await
}

pub(crate) async fn start_with(hub: Hub, fault: Option<Fault>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.expect("the listener listens");
            stream
                .set_nodelay(fault != Some(Fault::Nagle))
                .expect("the connection is new");
            tokio::spawn(serve(hub.clone(), stream, peer.ip(), fault));
        }
    });
    address
}

async fn serve(hub: Hub, stream: TcpStream, peer: IpAddr, fault: Option<Fault>) {
    let answer = service_fn(async |request| Ok::<_, Infallible>(answer(&hub, request, peer, fault).await));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    // The server need not know what a client does to its connection.
    let _ = connection.with_upgrades().await;
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(hub: &Hub, mut request: Request<Incoming>, peer: IpAddr, fault: Option<Fault>) -> Response<Body> {
    let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
    if !path.starts_with(&format!("{}/", hub.mount())) {
        return status(StatusCode::NOT_FOUND);
    }
    let name = name_of(&path);
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let asked = SessionRequest::new(name, pairs).peer_address(Some(peer));
    let Asks::WebSocket { key } = asked.asks(request.method().as_str()) else {
        let method = request.method().clone();
        let answer = hub
            .answer(method.as_str(), &asked, request.into_body().into_data_stream())
            .await;
        return upgrade::response(answer).map(|body| match body {
            AnswerBody::Whole(bytes) => Full::new(bytes).boxed_unsync(),
            AnswerBody::Stream(chunks) => StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync(),
        });
    };
    let Ok(accepted) = hub.accept(&asked) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept_key(key));
    if let Some(protocol) = accepted.protocol() {
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    tokio::spawn(carry(hyper::upgrade::on(&mut request), accepted, fault));
    response
        .body(Empty::new().boxed_unsync())
        .expect("the headers are valid")
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = status;
    response
}

async fn carry(upgraded: hyper::upgrade::OnUpgrade, accepted: Accepted, fault: Option<Fault>) {
    let Ok(upgraded) = upgraded.await else { return };
    let limit = match fault {
        Some(Fault::DefaultFrameLimit) => 64 * 1024,
        _ => accepted.packet_limit(),
    };
    let io = Faulty::new(TokioIo::new(upgraded), fault);
    let connection = connection(io, Vec::new(), limit);
    let (ours, theirs) = connection_pair(4);
    let carrying = pin!(run_connection_loop(accepted, ours));
    let bridging = pin!(bridge(connection, theirs, liars(fault)));
    match select(carrying, bridging).await {
        // The last messages are still in transit.
        Either::Left(((), bridging)) => drop(timeout(FAREWELL, bridging).await),
        Either::Right(((), carrying)) => carrying.await,
    }
}

/// Returns one for each direction. Those that lie at random do so differently on each connection.
fn liars(fault: Option<Fault>) -> [Liar; 2] {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    static SWALLOWED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    match fault {
        Some(Fault::Lies) => {
            let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            [2 * number, 2 * number + 1].map(Liar::random)
        }
        Some(Fault::Swallows) => SWALLOWED.each_ref().map(Liar::Swallowing),
        _ => [Liar::Honest, Liar::Honest],
    }
}

/// Forwards packets in both directions until either side ends.
async fn bridge(socket: impl Connection, mut pair: PairEnd, [mut up_liar, mut down_liar]: [Liar; 2]) {
    let (mut to_browser, mut from_browser) = socket.split();
    let to_session = pair.sender().expect("the pair is new");
    let up = async {
        while let Some(packet) = from_browser.next().await {
            let packets = match packet {
                Ok(packet) => up_liar.distort(packet).into_iter().map(Ok).collect(),
                Err(ConnectionError::TooLarge) => vec![Err(ConnectionError::TooLarge)],
                Err(_) => return,
            };
            for packet in packets {
                // A session that takes no more may still send something.
                let _ = to_session.send(packet).await;
            }
        }
    };
    let down = async {
        while let Some(Ok(packet)) = pair.next().await {
            for packet in down_liar.distort(packet) {
                if to_browser.send(packet).await.is_err() {
                    return;
                }
            }
        }
        let _ = to_browser.close().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// How long the last packets may take to be written.
const FAREWELL: Duration = Duration::from_secs(5);
