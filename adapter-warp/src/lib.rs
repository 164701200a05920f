#![doc = include_str!("../README.md")]

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::{Buf, Bytes};
use futures_util::{Stream, TryStreamExt as _, stream};
pub use stillhere::*;
use warp::filters::BoxedFilter;
use warp::http::uri::{Authority, Parts, Scheme};
use warp::http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use warp::hyper::upgrade::OnUpgrade;
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

/// Returns the routes of `hub` under its mount: the client's files, the sessions' WebSockets, and
/// the POSTs of the fallback. Combine them with your own with `or`: other requests are rejected as
/// not found, so the next filter handles them.
pub fn routes(hub: &Hub) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + use<> {
    mount(hub).and(filter(hub))
}

/// Returns [`routes`] that determine the user with `principal`, your own filter. It runs whenever a
/// page connects, over WebSockets and over POSTs, in place of the hub's own
/// [`principal`](HubBuilder::principal). `None`, or a rejection, means that nobody is logged in.
///
/// ```
/// # use stillhere_warp::{Hub, routes_for};
/// # use warp::Filter;
/// # async fn user_of(login: Option<String>) -> Option<String> { login }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let hub = Hub::new();
/// let user = warp::cookie::optional("login").then(|login| async { user_of(login).await });
/// let app = routes_for(&hub, user);
/// # warp::serve(app);
/// # }
/// ```
pub fn routes_for<P>(
    hub: &Hub,
    principal: P,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + use<P>
where
    P: Filter<Extract = (Option<String>,), Error: Into<Rejection>> + Send + Sync + 'static,
{
    mount(hub).and(filter_for(hub, principal))
}

fn mount(hub: &Hub) -> BoxedFilter<()> {
    let segments = hub.mount().split('/').filter(|segment| !segment.is_empty());
    segments.fold(warp::any().boxed(), |mount, segment| {
        mount.and(warp::path(segment.to_owned())).boxed()
    })
}

/// Returns [`routes`] without the mount, for applications that choose the path:
/// `warp::path("live").and(filter(&hub))`. Tell browsers the path with [`HubBuilder::public_url`].
pub fn filter(hub: &Hub) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + use<> {
    let hub = hub.clone();
    ours().then(move |name: String, request: Request<Body>| {
        let hub = hub.clone();
        async move { response(upgrade::answer(&hub, &name, request).await) }
    })
}

/// Returns [`routes_for`] without the mount, as [`filter`] returns [`routes`] without the mount.
pub fn filter_for<P>(
    hub: &Hub,
    principal: P,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + use<P>
where
    P: Filter<Extract = (Option<String>,), Error: Into<Rejection>> + Send + Sync + 'static,
{
    let hub = hub.clone();
    let nobody = async |_: Rejection| Ok::<(Option<String>,), Infallible>((None,));
    let known = ours().and(principal.boxed().or_else(nobody));
    known.then(move |name: String, request: Request<Body>, principal: Option<String>| {
        let hub = hub.clone();
        async move { answer(&hub, &name, request, principal.as_deref()).await }
    })
}

/// Extracts the name, and the request with its body. A request for another filter is rejected
/// before its body is taken.
fn ours() -> impl Filter<Extract = (String, Request<Body>), Error = Rejection> + Clone + Send + Sync {
    let named = warp::path::param::<String>().and(warp::path::end()).and(parts());
    let ours = named.and_then(|name: String, request: Request<()>| {
        let is_ours = upgrade::asks(&name, &request) != Asks::Nothing;
        ready(is_ours.then_some((name, request)).ok_or_else(warp::reject::not_found))
    });
    let with_body = ours.untuple_one().and(body());
    with_body
        .map(|name, request: Request<()>, body| (name, request.map(|()| body)))
        .untuple_one()
}

/// Answers a request to a route of your own, whose path ends in `name`: a session's WebSocket, the
/// POSTs that replace it, or one of the client's files. `principal` is the user who makes the
/// request; `None` means that nobody is logged in.
///
/// ```
/// # use stillhere_warp::{Hub, answer, request};
/// # use warp::Filter;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let hub = Hub::new();
/// # let user = warp::any().map(|| "ada".to_owned());
/// let live = warp::path!("live" / String).and(user).and(request()).then(move |name: String, user: String, request| {
///     let hub = hub.clone();
///     async move { answer(&hub, &name, request, Some(&user)).await }
/// });
/// # warp::serve(live);
/// # }
/// ```
pub async fn answer(hub: &Hub, name: &str, request: Request<Body>, principal: Option<&str>) -> Response {
    let principal = ready(principal.map(str::to_owned));
    response(upgrade::answer_for(hub, name, request, principal).await)
}

/// Extracts a request with its body, for [`answer()`].
pub fn request() -> impl Filter<Extract = (Request<Body>,), Error = Infallible> + Clone + Send + Sync {
    parts()
        .and(body())
        .map(|request: Request<()>, body| request.map(|()| body))
}

fn response(answer: warp::http::Response<AnswerBody>) -> Response {
    let (mut parts, body) = answer.into_parts();
    // `identity` does not disable warp's compression, and browsers do not decode content that is
    // also marked `identity`.
    if parts
        .headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding == "identity")
    {
        parts.headers.remove(header::CONTENT_ENCODING);
    }
    let body = match body {
        AnswerBody::Whole(bytes) => warp::http::Response::new(bytes).into_response(),
        AnswerBody::Stream(chunks) => warp::reply::stream(chunks).into_response(),
    };
    Response::from_parts(parts, body.into_body())
}

/// Returns one of the client's files, for applications that define the route themselves.
pub fn serve_file(name: &str, headers: &HeaderMap) -> Response {
    response(upgrade::file(name, headers))
}

/// Extracts a WebSocket request for a session, for applications that define the route themselves.
/// Put your own filters before it, then call [`Upgrade::serve`].
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
///     .and(stillhere_warp::ws())
///     .map(move |id: String, user: String, upgrade: Upgrade| upgrade.principal(&user).serve(&hub, &id));
/// # warp::serve(socket);
/// # }
/// ```
pub fn ws() -> impl Filter<Extract = (Upgrade,), Error = Rejection> + Clone + Send + Sync {
    parts().and_then(|request: Request<()>| {
        let (mut parts, ()) = request.into_parts();
        let upgrade = upgrade::PendingUpgrade::take(&mut parts).map(Upgrade);
        ready(upgrade.ok_or_else(warp::reject::not_found))
    })
}

/// A WebSocket request for a session; see [`ws`].
#[derive(Debug)]
pub struct Upgrade(upgrade::PendingUpgrade);

impl Upgrade {
    /// Sets the user who makes the request, as your filters determined it. The hub's own
    /// [`principal`](HubBuilder::principal) is then not called.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self(self.0.principal(principal))
    }

    /// Returns the response to the request. Then carries the session with this id over the
    /// WebSocket, or tells the browser over it why the session is refused.
    pub fn serve(self, hub: &Hub, id: &str) -> Response {
        self.0.serve(hub, id).into_response()
    }
}

/// Extracts the request without its body.
fn parts() -> impl Filter<Extract = (Request<()>,), Error = Infallible> + Clone + Send + Sync {
    let parts = warp::method()
        .and(uri())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::addr::remote());
    parts.map(
        |method: Method, uri: Uri, headers: HeaderMap, on_upgrade: Option<OnUpgrade>, peer: Option<SocketAddr>| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = uri;
            *request.headers_mut() = headers;
            if let Some(on_upgrade) = on_upgrade {
                request.extensions_mut().insert(on_upgrade);
            }
            if let Some(peer) = peer {
                request.extensions_mut().insert(upgrade::Peer(peer));
            }
            request
        },
    )
}

/// The body of a request.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// Extracts the request's body, which is empty if an earlier filter has taken it.
fn body() -> impl Filter<Extract = (Body,), Error = Infallible> + Clone + Send + Sync {
    let body = warp::body::stream().map(boxed);
    body.or_else(async |_| Ok::<(Body,), Infallible>((Box::pin(stream::empty()),)))
}

fn boxed<B: Buf>(chunks: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Body {
    Box::pin(chunks.map_ok(|mut chunk| chunk.copy_to_bytes(chunk.remaining())))
}

/// Extracts the path and the authority, which over HTTP/2 appears only here.
fn uri() -> impl Filter<Extract = (Uri,), Error = Infallible> + Clone + Send + Sync {
    // The core judges a Host header that is missing, invalid or different.
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

/// An HTML page that contains a ticket. It is sent with `Cache-Control: private, no-cache`, so that
/// no shared cache gives one user's session to another.
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
