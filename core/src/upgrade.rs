//! The WebSocket upgrade over hyper 1, on which axum, warp and others are built (feature
//! `upgrade`).
//!
//! If hyper reads from a `TokioIo<TcpStream>`, through hyper-util's `auto` or its own HTTP/1.1
//! connections, this module takes the stream out of hyper. It sets `TCP_NODELAY`, without which the
//! kernel delays small messages by about 40 ms, and an idle connection costs one buffer of 4 KiB.
//! Other streams (TLS, HTTP/2, a framework's own type) stay inside hyper, and the code that accepts
//! connections must set `TCP_NODELAY`. A log line reports this once.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use http::request::Parts;
use http::uri::Authority;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use crate::admission::Accepted;
use crate::asks::Asks;
use crate::client;
use crate::connection_loop::run_connection_loop;
use crate::guard::guarded_principal;
use crate::http_answer::{Answer, AnswerBody};
use crate::hub::Hub;
use crate::request::SessionRequest;
use crate::websocket::{self, connection};

/// Answers a request under the mount whose path ends in `name`: a session's WebSocket, its
/// fallback, or one of the client's files.
///
/// The body is a stream of chunks: `http_body_util::BodyDataStream` makes one from any
/// `http_body::Body`.
pub async fn answer<C, B, E>(hub: &Hub, name: &str, request: Request<C>) -> Response<AnswerBody>
where
    C: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let (mut parts, body) = request.into_parts();
    if let Some(upgrade) = PendingUpgrade::take_all(&mut parts) {
        return upgrade.serve(hub, name).map(AnswerBody::Whole);
    }
    response(hub.answer(parts.method.as_str(), &of_parts(name, &parts), body).await)
}

/// Answers a request like [`answer`], for a user whom the application determines; see
/// [`Hub::answer_for`].
pub async fn answer_for<C, B, E>(
    hub: &Hub,
    name: &str,
    request: Request<C>,
    principal: impl Future<Output = Option<String>>,
) -> Response<AnswerBody>
where
    C: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let (mut parts, body) = request.into_parts();
    if let Some(upgrade) = PendingUpgrade::take_all(&mut parts) {
        let principal = Some(guarded_principal(principal).await);
        return PendingUpgrade { principal, ..upgrade }
            .serve(hub, name)
            .map(AnswerBody::Whole);
    }
    let asked = of_parts(name, &parts);
    response(hub.answer_for(parts.method.as_str(), &asked, body, principal).await)
}

fn of_parts<'a>(name: &'a str, parts: &'a Parts) -> SessionRequest<'a> {
    SessionRequest::new(name, pairs(&parts.headers))
        .authority(parts.uri.authority().map(Authority::as_str))
        .peer_address(peer(&parts.extensions))
}

/// Returns what a request whose path ends in `name` asks for.
pub fn asks<'a, B>(name: &'a str, request: &'a Request<B>) -> Asks<'a> {
    SessionRequest::new(name, pairs(request.headers())).asks(request.method().as_str())
}

/// Converts an answer of [`Hub::answer`] to a response.
pub fn response(answer: Answer) -> Response<AnswerBody> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body).expect("the core's answers are valid HTTP")
}

/// Returns one of the client's files.
pub fn file(name: &str, headers: &HeaderMap) -> Response<AnswerBody> {
    response(client::answer(&SessionRequest::new(name, pairs(headers))))
}

/// A request for a WebSocket that has not been answered yet.
pub struct PendingUpgrade {
    on_upgrade: OnUpgrade,
    /// `None` over HTTP/2, where there is no such key (RFC 8441).
    accept: Option<String>,
    headers: HeaderMap,
    uri: Uri,
    peer: Option<IpAddr>,
    /// `None` if the application has not provided the user; then the hub's hook is called.
    principal: Option<Option<String>>,
}

/// The other end of the TCP connection. An adapter inserts it into the extensions of a request, so
/// that the request counts for this address: see [`Share`](crate::Share).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Peer>().map(|peer| peer.0.ip())
}

impl PendingUpgrade {
    /// Takes the upgrade out of a request. Returns `None` if the request asks for none, or if the
    /// connection cannot be upgraded because hyper put no [`OnUpgrade`] into the extensions.
    pub fn take(request: &mut Parts) -> Option<Self> {
        let upgrade = Self::take_all(request)?;
        request.headers.clone_from(&upgrade.headers);
        request.uri.clone_from(&upgrade.uri);
        Some(upgrade)
    }

    /// Does the same as [`PendingUpgrade::take`], and takes the headers and the URI as well.
    fn take_all(request: &mut Parts) -> Option<Self> {
        let asked = SessionRequest::new("", pairs(&request.headers));
        let accept = match asked.asks(request.method.as_str()) {
            Asks::WebSocket { key } => Some(websocket::accept_key(key)),
            Asks::ExtendedConnect => None,
            Asks::Answer | Asks::Nothing => return None,
        };
        Some(Self {
            on_upgrade: request.extensions.remove()?,
            accept,
            headers: std::mem::take(&mut request.headers),
            uri: std::mem::take(&mut request.uri),
            peer: peer(&request.extensions),
            principal: None,
        })
    }

    /// Sets the user who makes the request. The hub's [`principal`](crate::HubBuilder::principal)
    /// is then not called.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self {
            principal: Some(Some(principal.to_owned())),
            ..self
        }
    }

    /// Returns the answer to the request. Then carries the session with this id over the WebSocket,
    /// or tells the browser over it why the session is refused.
    pub fn serve(self, hub: &Hub, id: &str) -> Response<Bytes> {
        let mut request = SessionRequest::new(id, pairs(&self.headers))
            .authority(self.uri.authority().map(Authority::as_str))
            .peer_address(self.peer);
        if let Some(principal) = &self.principal {
            request = request.principal(principal.as_deref());
        }
        let accepted = match hub.accept(&request) {
            Ok(accepted) => accepted,
            Err(error) => {
                let mut response = Response::new(Bytes::from(error.to_string()));
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return response;
            }
        };
        let mut response = Response::builder();
        if let Some(protocol) = accepted.protocol() {
            response = response.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(accept) = self.accept {
            response = response
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, HeaderValue::from_static("upgrade"))
                .header(header::UPGRADE, HeaderValue::from_static("websocket"))
                .header(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        tokio::spawn(carry(self.on_upgrade, accepted));
        response.body(Bytes::new()).expect("the subprotocol came from a header")
    }
}

impl fmt::Debug for PendingUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingUpgrade")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

async fn carry(on_upgrade: OnUpgrade, accepted: Accepted) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        // The browser disconnected before it had the answer.
        Err(error) => return tracing::debug!(%error, "the upgrade to a WebSocket failed"),
    };
    let limit = accepted.packet_limit();
    match plain_tcp(upgraded) {
        Ok((stream, read_buf)) => {
            // If this fails, the connection is lost, and its first use reports that.
            let _ = stream.set_nodelay(true);
            let connection = connection(stream, only_unread(read_buf), limit);
            run_connection_loop(accepted, connection).await;
        }
        Err(upgraded) => {
            say_who_sets_nodelay();
            let io: TokioIo<Upgraded> = TokioIo::new(upgraded);
            let connection = connection(io, Vec::new(), limit);
            run_connection_loop(accepted, connection).await;
        }
    }
}

fn say_who_sets_nodelay() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::info!(
            "cannot set TCP_NODELAY because the server's streams are not TokioIo<TcpStream>: set it where you accept \
             connections, or small messages may be delayed by about 40 ms"
        );
    });
}

/// Returns the stream under hyper, and what hyper has already read from it.
fn plain_tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// Copies what hyper has read: an early frame is small, but would keep hyper's whole read buffer
/// alive.
fn only_unread(read_buf: Bytes) -> Vec<u8> {
    read_buf.to_vec()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream, duplex};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    const REQUEST: &[u8] =
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nearly";

    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let client = TcpStream::connect(listener.local_addr().expect("the socket has an address"));
        let (client, server) = tokio::join!(client, listener.accept());
        (client.expect("it is listened to"), server.expect("it is listened to").0)
    }

    /// Returns the upgraded connection, from hyper's own loop or from hyper-util's.
    async fn upgraded(
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        server: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_auto: bool,
    ) -> Upgraded {
        let (sender, mut taken) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let (mut parts, _) = request.into_parts();
            let upgrade = PendingUpgrade::take(&mut parts).expect("the request asks for a WebSocket");
            sender.send(upgrade.on_upgrade).expect("the test waits");
            let response = Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .body(AnswerBody::Whole(Bytes::new()));
            std::future::ready(Ok::<_, Infallible>(response.expect("the server answers")))
        });
        let io = TokioIo::new(server);
        let serving = async move {
            if is_auto {
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(io, service)
                    .await
                    .expect("the connection is served");
            } else {
                http1::Builder::new()
                    .serve_connection(io, service)
                    .with_upgrades()
                    .await
                    .expect("the connection is served");
            }
        };
        client.write_all(REQUEST).await.expect("the peer reads it");
        let mut serving = pin!(serving);
        tokio::select! {
            () = &mut serving => {}
            _ = client.read_u8() => serving.await,
        }
        taken
            .recv()
            .await
            .expect("the upgrade was requested")
            .await
            .expect("it is upgraded")
    }

    #[tokio::test]
    async fn the_tcp_stream_comes_out_of_every_stack_of_hyper() {
        for is_auto in [false, true] {
            let (client, server) = tcp().await;
            let expected = server.local_addr().expect("the socket has an address");
            let (stream, read_buf) = plain_tcp(upgraded(client, server, is_auto).await).expect("it is plain TCP");
            assert_eq!(
                (stream.local_addr().expect("the socket has an address"), &read_buf[..]),
                (expected, &b"early"[..])
            );
        }
    }

    #[tokio::test]
    async fn another_stream_is_returned_unchanged() {
        for is_auto in [false, true] {
            let (client, server) = duplex(4096);
            let upgraded =
                plain_tcp(upgraded(client, BufStream::new(server), is_auto).await).expect_err("it is no TCP");
            let mut early = [0; 5];
            TokioIo::new(upgraded)
                .read_exact(&mut early)
                .await
                .expect("the bytes that were already read are kept");
            assert_eq!(&early, b"early");
        }
    }
}
