#![doc = include_str!("../README.md")]

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::any;
pub use stillhere::*;

/// The routes of `hub` under its mount: the client's files, and the sessions' WebSockets with the POSTs that stand in for them. Merge them into
/// a router of any state.
pub fn routes<S: Clone + Send + Sync + 'static>(hub: &Hub) -> Router<S> {
    let hub_of_route = hub.clone();
    let handler = async move |request: Request| {
        // As it was sent: `Path` would answer what cannot be decoded with a status that a browser's WebSocket cannot read.
        let uri = request.uri().clone();
        let name = uri.path().rsplit('/').next().unwrap_or_default();
        let request = request.map(Body::into_data_stream);
        upgrade::answer(&hub_of_route, name, request).await.map(Body::new)
    };
    Router::new().route(&format!("{}/{{name}}", hub.mount()), any(handler))
}

/// One of the client's files, for people who own the route.
pub fn serve_file(name: &str, headers: &HeaderMap) -> Response {
    upgrade::file(name, headers).map(Body::new)
}

/// Extracts a WebSocket request for a session, for people who own the route: put your own extractors before it, then [`Upgrade::serve`].
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
pub struct Upgrade(upgrade::Upgrade);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let upgrade = upgrade::Upgrade::take(parts);
        upgrade
            .map(Self)
            .ok_or((StatusCode::UPGRADE_REQUIRED, "not a WebSocket request"))
    }
}

impl Upgrade {
    /// Who makes the request, as your extractors found: the hub's [`principal`](HubBuilder::principal) is then not asked.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        Self(self.0.principal(principal))
    }

    /// Carries the session with this id over the WebSocket, or tells the browser why not. The answer to the request.
    pub fn serve(self, hub: &Hub, id: &str) -> Response {
        self.0.serve(hub, id).map(Body::from)
    }
}

/// An HTML page that carries a ticket: `Cache-Control: private, no-cache`, so that no cache hands one user's session to another.
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
