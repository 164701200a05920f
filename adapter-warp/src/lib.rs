#![doc = include_str!("../README.md")]

use std::convert::Infallible;

use bytes::{Buf, Bytes};
use futures_util::{Stream, stream};
pub use stillhere::*;
use warp::http::uri::{Authority, Parts, Scheme};
use warp::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use warp::hyper::upgrade::OnUpgrade;
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

/// The routes of `hub` under its mount: the client's files, and the sessions' WebSockets with the POSTs that stand in for them. Combine them
/// with your own by `or`: what is not theirs is rejected as not found, and the next filter goes on.
pub fn routes(hub: &Hub) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + use<> {
    let segments = hub.mount().split('/').filter(|segment| !segment.is_empty());
    let mount = segments.fold(warp::any().boxed(), |mount, segment| {
        mount.and(warp::path(segment.to_owned())).boxed()
    });
    mount.and(filter(hub))
}

/// [`routes`] without the mount, for people who choose the path: `warp::path("live").and(filter(&hub))`.
/// Tell browsers of it by [`HubBuilder::public_url`].
pub fn filter(hub: &Hub) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + use<> {
    let hub = hub.clone();
    let name = warp::path::param::<String>().and(warp::path::end());
    let without_body = name.and(request()).and_then({
        let hub = hub.clone();
        move |name: String, request: Request<()>| {
            answer(
                hub.clone(),
                name,
                request.map(|()| stream::empty::<Result<Bytes, Infallible>>()),
            )
        }
    });
    // Only the fallback's own POSTs: the body of another's is for its own filter to take.
    let of_fallback =
        warp::method()
            .and(warp::header::headers_cloned())
            .and_then(|method: Method, headers: HeaderMap| {
                let is_ours = method == Method::POST && is_fallback(&headers);
                std::future::ready(is_ours.then_some(()).ok_or_else(warp::reject::not_found))
            });
    let with_body = of_fallback
        .untuple_one()
        .and(name)
        .and(request())
        .and(warp::body::stream());
    let with_body = with_body
        .and_then(move |name: String, request: Request<()>, body| answer(hub.clone(), name, request.map(|()| body)));
    with_body.or(without_body).unify()
}

fn is_fallback(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/stillhere."))
}

/// Rejects what is not ours, so that the next filter goes on.
async fn answer<C, B, E>(hub: Hub, name: String, request: Request<C>) -> Result<Response, Rejection>
where
    C: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let is_preflight = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let is_ours = match *request.method() {
        Method::GET | Method::HEAD => true,
        Method::OPTIONS => is_preflight,
        Method::POST => is_fallback(request.headers()),
        _ => false,
    };
    if !is_ours {
        return Err(warp::reject::not_found());
    }
    let answer = upgrade::answer(&hub, &name, request).await;
    let is_ours = answer.status() != StatusCode::NOT_FOUND;
    is_ours.then(|| response(answer)).ok_or_else(warp::reject::not_found)
}

fn response(answer: warp::http::Response<AnswerBody>) -> Response {
    let (parts, body) = answer.into_parts();
    let body = match body {
        AnswerBody::Whole(bytes) => warp::http::Response::new(bytes).into_response(),
        AnswerBody::Stream(chunks) => warp::reply::stream(chunks).into_response(),
    };
    Response::from_parts(parts, body.into_body())
}

/// One of the client's files, for people who own the route.
pub fn serve_file(name: &str, headers: &HeaderMap) -> Response {
    response(upgrade::file(name, headers))
}

/// Extracts a WebSocket request for a session, for people who own the route: put your own filters before it, then [`Upgrade::serve`].
/// Any other request is rejected as not found.
///
/// ```
/// # use stillhere_warp::{Hub, Upgrade};
/// # use warp::Filter;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let hub = Hub::new();
/// # let user = warp::any().map(|| "ada".to_owned());
/// let socket = warp::path!("live" / String)
///     .and(user)
///     .and(stillhere_warp::upgrade())
///     .map(move |id: String, user: String, upgrade: Upgrade| upgrade.principal(&user).serve(&hub, &id));
/// # warp::serve(socket);
/// # }
/// ```
pub fn upgrade() -> impl Filter<Extract = (Upgrade,), Error = Rejection> + Clone + Send + Sync {
    request().and_then(|request: Request<()>| {
        let (mut parts, ()) = request.into_parts();
        let upgrade = upgrade::Upgrade::take(&mut parts).map(Upgrade);
        std::future::ready(upgrade.ok_or_else(warp::reject::not_found))
    })
}

/// A WebSocket request for a session; see [`upgrade()`].
#[derive(Debug)]
pub struct Upgrade(upgrade::Upgrade);

impl Upgrade {
    /// Who makes the request, as your filters found: the hub's [`principal`](HubBuilder::principal) is then not asked.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self(self.0.principal(principal))
    }

    /// Carries the session with this id over the WebSocket, or tells the browser why not. The answer to the request.
    pub fn serve(self, hub: &Hub, id: &str) -> Response {
        self.0.serve(hub, id).into_response()
    }
}

/// The request without its body.
fn request() -> impl Filter<Extract = (Request<()>,), Error = Infallible> + Clone + Send + Sync {
    let parts = warp::method()
        .and(uri())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>());
    parts.map(
        |method: Method, uri: Uri, headers: HeaderMap, on_upgrade: Option<OnUpgrade>| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = uri;
            *request.headers_mut() = headers;
            if let Some(on_upgrade) = on_upgrade {
                request.extensions_mut().insert(on_upgrade);
            }
            request
        },
    )
}

/// The path, and the authority, which over HTTP/2 is nowhere else.
fn uri() -> impl Filter<Extract = (Uri,), Error = Infallible> + Clone + Send + Sync {
    // A Host header that is none, or another, is for the core to judge.
    let authority = warp::host::optional().or_else(async |_| Ok::<(Option<Authority>,), Infallible>((None,)));
    warp::path::full()
        .and(authority)
        .map(|path: FullPath, authority: Option<Authority>| {
            let mut parts = Parts::default();
            parts.path_and_query = path.as_str().try_into().ok();
            if let Some(authority) = authority {
                (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority));
            }
            Uri::from_parts(parts).unwrap_or_default()
        })
}

/// An HTML page that carries a ticket: `Cache-Control: private, no-cache`, so that no cache hands one user's session to another.
#[derive(Debug, Clone)]
pub struct Page<T>(pub T);

impl<T: Into<Bytes> + Send> Reply for Page<T> {
    fn into_response(self) -> Response {
        let mut response = warp::reply::html(self.0.into()).into_response();
        let caching = HeaderValue::from_static(client::PAGE_CACHE_CONTROL);
        response.headers_mut().insert(header::CACHE_CONTROL, caching);
        response
    }
}
