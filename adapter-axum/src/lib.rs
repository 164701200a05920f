#![doc = include_str!("../README.md")]

use std::future::{Future, ready};
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, any};
pub use stillhere::*;

/// Returns the routes of `hub` under its mount: the client's files, the sessions' WebSockets, and
/// the POSTs of the fallback. Merge them into a router with any state.
///
/// The limits for one address ([`Share`]) apply only if axum reports addresses. For that, serve
/// [`into_make_service_with_connect_info::<SocketAddr>()`](Router::into_make_service_with_connect_info).
pub fn routes<S: Clone + Send + Sync + 'static>(hub: &Hub) -> Router<S> {
    let of_routes = hub.clone();
    let handler = async move |request: Request| {
        // The raw path. `Path` would answer a path that it cannot decode with a status that a
        // browser's WebSocket cannot read.
        let uri = request.uri().clone();
        let mut request = request.map(Body::into_data_stream);
        tell_peer(request.extensions_mut());
        upgrade::answer(&of_routes, name_of(uri.path()), request)
            .await
            .map(Body::new)
    };
    mounted(hub, any(handler))
}

/// Returns [`routes`] that determine the user with `principal`, after your layers have run. It
/// takes an extractor, several of them in a tuple, or [`Parts`] with everything that layers have
/// added. It is called whenever a page connects, over WebSockets and over POSTs, in place of the
/// hub's own [`principal`](HubBuilder::principal). `None`, or an extractor that rejects, means that
/// nobody is logged in.
///
/// ```
/// # use axum::Router;
/// # use axum::extract::FromRequestParts;
/// # use stillhere_axum::{Hub, routes_for};
/// # /// Of a crate such as tower-sessions.
/// # struct Session;
/// # impl Session { async fn get(&self, _: &str) -> Result<Option<String>, std::io::Error> { Ok(None) } }
/// # impl<S: Sync> FromRequestParts<S> for Session {
/// #     type Rejection = std::convert::Infallible;
/// #     async fn from_request_parts(_: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> { Ok(Self) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let hub = Hub::new();
/// let user = async |session: Session| session.get("user").await.ok().flatten();
/// let app: Router = Router::new().merge(routes_for(&hub, user));
/// # }
/// ```
pub fn routes_for<S, E, F, R>(hub: &Hub, principal: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    E: FromRequestParts<S> + Send + 'static,
    F: Fn(E) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Option<String>> + Send + 'static,
{
    let of_routes = hub.clone();
    let handler = async move |State(state): State<S>, request: Request| {
        let (parts, content) = request.into_parts();
        let mut asked = parts.clone();
        let found = async move {
            let extracted = match E::from_request_parts(&mut asked, &state).await {
                Ok(extracted) => extracted,
                Err(rejection) => return rejected(rejection),
            };
            principal(extracted).await
        };
        let mut request = Request::from_parts(parts, content.into_data_stream());
        tell_peer(request.extensions_mut());
        let uri = request.uri().clone();
        upgrade::answer_for(&of_routes, name_of(uri.path()), request, found)
            .await
            .map(Body::new)
    };
    mounted(hub, any(handler))
}

fn mounted<S: Clone + Send + Sync + 'static>(hub: &Hub, method_router: MethodRouter<S>) -> Router<S> {
    let path = format!("{}/{{name}}", hub.mount());
    Router::new()
        .route(&format!("{path}/"), method_router.clone())
        .route(&path, method_router)
}

/// Returns `None`: the visitor is not logged in, or a layer is missing.
fn rejected(rejection: impl IntoResponse) -> Option<String> {
    let status = rejection.into_response().status();
    if status.is_server_error() {
        tracing::error!(
            %status,
            "cannot determine the principal because its extractor failed: the layer that it needs must be outside the routes"
        );
    }
    None
}

/// Answers a request to a route of your own, whose path ends in `name`: a session's WebSocket, the
/// POSTs that replace it, or one of the client's files. `principal` is the user who makes the
/// request; `None` means that nobody is logged in.
///
/// ```
/// # use axum::extract::{Path, Request, State};
/// # use axum::response::Response;
/// # use stillhere_axum::{Hub, answer};
/// # struct User { name: String }
/// # impl<S: Send + Sync> axum::extract::FromRequestParts<S> for User {
/// #     type Rejection = std::convert::Infallible;
/// #     async fn from_request_parts(_: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> { Ok(Self { name: String::new() }) }
/// # }
/// async fn live(user: User, Path(name): Path<String>, State(hub): State<Hub>, request: Request) -> Response {
///     answer(&hub, &name, request, Some(&user.name)).await
/// }
/// # let _: axum::Router<Hub> = axum::Router::new().route("/live/{name}", axum::routing::any(live));
/// ```
pub async fn answer(hub: &Hub, name: &str, request: Request, principal: Option<&str>) -> Response {
    let principal = ready(principal.map(str::to_owned));
    let mut request = request.map(Body::into_data_stream);
    tell_peer(request.extensions_mut());
    upgrade::answer_for(hub, name, request, principal).await.map(Body::new)
}

/// Adds the address of the other end of the connection, if the server was set up to provide it.
fn tell_peer(extensions: &mut Extensions) {
    if let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<SocketAddr>>() {
        let peer = upgrade::Peer(*peer);
        extensions.insert(peer);
    }
}

/// Returns one of the client's files, for applications that define the route themselves.
pub fn serve_file(name: &str, headers: &HeaderMap) -> Response {
    upgrade::file(name, headers).map(Body::new)
}

/// Extracts a WebSocket request for a session, for applications that define the route themselves.
/// Put your own extractors before it, then call [`Upgrade::serve`].
///
/// ```
/// # use axum::extract::{Path, State};
/// # use axum::response::Response;
/// # use stillhere_axum::{Hub, Upgrade};
/// # struct User { name: String }
/// # impl<S: Send + Sync> axum::extract::FromRequestParts<S> for User {
/// #     type Rejection = std::convert::Infallible;
/// #     async fn from_request_parts(_: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> { Ok(Self { name: String::new() }) }
/// # }
/// async fn socket(user: User, Path(id): Path<String>, State(hub): State<Hub>, upgrade: Upgrade) -> Response {
///     upgrade.principal(&user.name).serve(&hub, &id)
/// }
/// ```
#[derive(Debug)]
pub struct Upgrade(upgrade::PendingUpgrade);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        tell_peer(&mut parts.extensions);
        let upgrade = upgrade::PendingUpgrade::take(parts);
        upgrade
            .map(Self)
            .ok_or((StatusCode::UPGRADE_REQUIRED, "not a WebSocket request"))
    }
}

impl Upgrade {
    /// Sets the user who makes the request, as your extractors determined it. The hub's own
    /// [`principal`](HubBuilder::principal) is then not called.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self(self.0.principal(principal))
    }

    /// Returns the response to the request. Then carries the session with this id over the
    /// WebSocket, or tells the browser over it why the session is refused.
    pub fn serve(self, hub: &Hub, id: &str) -> Response {
        self.0.serve(hub, id).map(Body::from)
    }
}

/// An HTML page that contains a ticket. It is sent with `Cache-Control: private, no-cache`, so that
/// no shared cache gives one user's session to another.
#[derive(Debug, Clone)]
pub struct Page<T>(pub T);

impl<T: Into<Body>> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        (
            [(
                header::CACHE_CONTROL,
                HeaderValue::from_static(client::PAGE_CACHE_CONTROL),
            )],
            Html(self.0.into()),
        )
            .into_response()
    }
}
