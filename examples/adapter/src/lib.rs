//! A complete adapter: stillhere for servers that use hyper 1 directly.

use std::net::SocketAddr;

use http_body_util::BodyDataStream;
use hyper::body::{Body, Bytes};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};
pub use stillhere::*;

/// Returns true if [`answer`] handles this path: one segment under the hub's mount.
pub fn is_route(hub: &Hub, path: &str) -> bool {
    let name = path.strip_prefix(hub.mount()).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| name_of(path) == name.trim_end_matches('/'))
}

/// Answers a request to one of the hub's routes: for a session's WebSocket, for a POST of the
/// fallback, or for one of the client's files. `peer` is the address of the TCP connection's other
/// end.
pub async fn answer<B: Body>(hub: &Hub, peer: SocketAddr, mut request: Request<B>) -> Response<AnswerBody> {
    let uri = request.uri().clone();
    request.extensions_mut().insert(upgrade::Peer(peer));
    upgrade::answer(hub, name_of(uri.path()), request.map(BodyDataStream::new)).await
}

/// Does the same as [`answer`], but determines the user with `principal` instead of the hub's own
/// [`principal`](HubBuilder::principal). It is called whenever a page connects, and returns `None`
/// if nobody is logged in.
pub async fn answer_for<B: Body>(
    hub: &Hub,
    peer: SocketAddr,
    mut request: Request<B>,
    principal: impl AsyncFnOnce(&Parts) -> Option<String>,
) -> Response<AnswerBody> {
    request.extensions_mut().insert(upgrade::Peer(peer));
    let (parts, body) = request.into_parts();
    let asked = parts.clone();
    let request = Request::from_parts(parts, BodyDataStream::new(body));
    let found = async { principal(&asked).await };
    upgrade::answer_for(hub, name_of(asked.uri.path()), request, found).await
}

/// Returns an HTML page that contains a ticket, with headers that keep caches from giving it to
/// anyone else.
pub fn page(html: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(html.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(client::PAGE_CACHE_CONTROL));
    response
}
