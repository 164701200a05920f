//! The WebSocket upgrade over hyper 1, on which axum, warp and others stand (feature `upgrade`).
//!
//! Over plain TCP it takes the stream out of hyper: `TCP_NODELAY` is set (the kernel holds small pushes back for about 40 ms otherwise), and
//! an idle connection costs one buffer of 4 KiB. Over anything else, such as TLS, it goes through hyper's own, and whoever accepted the
//! connection sets `TCP_NODELAY`.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use http::uri::Authority;
use http::{Extensions, HeaderMap, Request, Response, StatusCode, Uri, header, request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::{Parts, downcast};
use tokio::net::TcpStream;

use crate::answer::{Answer, AnswerBody};
use crate::arrival::Arrival;
use crate::asks::Asks;
use crate::client;
use crate::connection::run_connection_loop;
use crate::guard::guarded_principal;
use crate::hub::Hub;
use crate::request::UpgradeRequest;
use crate::websocket::{self, connection};

/// Answers a request under the mount whose path ends in `name`: a session's WebSocket, its fallback, or one of the client's files.
pub async fn answer<C, B, E>(hub: &Hub, name: &str, mut request: Request<C>) -> Response<AnswerBody>
where
    C: Stream<Item = Result<B, E>>,
    B: Buf,
{
    if let Some(upgrade) = Upgrade::take(&mut request) {
        return upgrade.serve(hub, name).map(AnswerBody::Whole);
    }
    let (parts, body) = request.into_parts();
    response(hub.answer(parts.method.as_str(), &of_parts(name, &parts), body).await)
}

/// [`answer`] where the application finds out who makes the request: see [`Hub::answer_for`].
pub async fn answer_for<C, B, E>(
    hub: &Hub,
    name: &str,
    mut request: Request<C>,
    principal: impl Future<Output = Option<String>>,
) -> Response<AnswerBody>
where
    C: Stream<Item = Result<B, E>>,
    B: Buf,
{
    if let Some(upgrade) = Upgrade::take(&mut request) {
        let principal = Some(guarded_principal(principal).await);
        return Upgrade { principal, ..upgrade }.serve(hub, name).map(AnswerBody::Whole);
    }
    let (parts, body) = request.into_parts();
    let asked = of_parts(name, &parts);
    response(hub.answer_for(parts.method.as_str(), &asked, body, principal).await)
}

fn of_parts<'a>(name: &'a str, parts: &'a request::Parts) -> UpgradeRequest<'a> {
    UpgradeRequest::new(name, pairs(&parts.headers))
        .authority(parts.uri.authority().map(Authority::as_str))
        .peer_address(peer(&parts.extensions))
}

/// What a request whose path ends in `name` asks for.
pub fn asks<'a, B>(name: &'a str, request: &'a Request<B>) -> Asks<'a> {
    UpgradeRequest::new(name, pairs(request.headers())).asks(request.method().as_str())
}

/// An answer of [`Hub::answer`] as a response.
pub fn response(answer: Answer) -> Response<AnswerBody> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body).expect("the core's answers are valid HTTP")
}

/// One of the client's files.
pub fn file(name: &str, headers: &HeaderMap) -> Response<AnswerBody> {
    response(client::answer(&UpgradeRequest::new(name, pairs(headers))))
}

/// A request for a WebSocket that has not been answered yet.
pub struct Upgrade {
    on_upgrade: OnUpgrade,
    /// `None` over HTTP/2, where there is no such key (RFC 8441).
    accept: Option<String>,
    headers: HeaderMap,
    uri: Uri,
    peer: Option<IpAddr>,
    /// `None`: nobody has said yet.
    principal: Option<Option<String>>,
}

/// The other end of the TCP connection. An adapter puts it among a request's extensions, so that the request counts for its
/// address: see [`Share`](crate::Share).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Peer>().map(|peer| peer.0.ip())
}

impl Upgrade {
    /// Takes the upgrade out of a request, if the request is for one and the connection can be upgraded.
    pub fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let asked = UpgradeRequest::new("", pairs(request.headers()));
        let accept = match asked.asks(request.method().as_str()) {
            Asks::WebSocket { key } => Some(websocket::accept_key(key)),
            Asks::ExtendedConnect => None,
            Asks::Answer | Asks::Nothing => return None,
        };
        Some(Self {
            on_upgrade: request.extensions_mut().remove()?,
            accept,
            headers: request.headers().clone(),
            uri: request.uri().clone(),
            peer: peer(request.extensions()),
            principal: None,
        })
    }

    /// Who makes the request, for people who know already: the hub's [`principal`](crate::HubBuilder::principal) is then not asked.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self {
            principal: Some(Some(principal.to_owned())),
            ..self
        }
    }

    /// Carries the session with this id over the WebSocket, or tells the browser why not. The answer to the request.
    pub fn serve(self, hub: &Hub, id: &str) -> Response<Bytes> {
        let mut request = UpgradeRequest::new(id, pairs(&self.headers))
            .authority(self.uri.authority().map(Authority::as_str))
            .peer_address(self.peer);
        if let Some(principal) = &self.principal {
            request = request.principal(principal.as_deref());
        }
        let arrival = match hub.arrive(&request) {
            Ok(arrival) => arrival,
            Err(error) => {
                let mut response = Response::new(Bytes::from(error.to_string()));
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return response;
            }
        };
        let mut response = Response::builder();
        if let Some(protocol) = arrival.protocol() {
            response = response.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(accept) = self.accept {
            response = response
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        tokio::spawn(carry(self.on_upgrade, arrival));
        response
            .body(Bytes::new())
            .expect("a subprotocol was a header's value before")
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

async fn carry(on_upgrade: OnUpgrade, arrival: Arrival) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        // The browser went away before its answer was out.
        Err(error) => return tracing::debug!(%error, "a request was not upgraded"),
    };
    let config = websocket::config(&arrival);
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(Parts { io, read_buf, .. }) => {
            let stream = io.into_inner();
            // A connection that is gone already will say so when it is used.
            let _ = stream.set_nodelay(true);
            let connection = connection(stream, only_unread(read_buf), config).await;
            run_connection_loop(arrival, connection).await;
        }
        Err(upgraded) => {
            let io: TokioIo<Upgraded> = TokioIo::new(upgraded);
            let connection = connection(io, Vec::new(), config).await;
            run_connection_loop(arrival, connection).await;
        }
    }
}

/// Copied, because a frame that came early is small, and hyper's whole read buffer would be kept with it.
fn only_unread(read_buf: Bytes) -> Vec<u8> {
    read_buf.to_vec()
}
