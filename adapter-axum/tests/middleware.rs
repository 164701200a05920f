//! Middleware that applications put around their routes either lets sessions through, or its effect
//! is reported.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, ServiceExt};
use stillhere_axum::machine::Outcome;
use stillhere_axum::{Hub, routes};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::{Browser, assert_connects};
use stillhere_conformance::carried::{
    assert_carried, assert_open_to, assert_polled, assert_resumed, assert_streamed, check_cross_origin,
};
use stillhere_conformance::http;
use stillhere_conformance::rate::{self, Rate};
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::normalize_path::NormalizePath;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::{ResponseBodyTimeoutLayer, TimeoutLayer};

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

/// All layers that let sessions through, one around the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn common_layers_let_sessions_through() {
    let hub = Hub::new();
    let id = HeaderName::from_static("x-request-id");
    let app = routes(&hub)
        .layer(CompressionLayer::new())
        .layer(CatchPanicLayer::new())
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid))
        .layer(RequestBodyLimitLayer::new(2 << 20))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_secs(30),
        ));
    assert_carried(&hub, serve(app).await).await;
}

/// A page of the same origin sends its `Origin` too, and a CORS layer must not treat it as a
/// foreign page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cors_layers_let_pages_of_the_same_origin_through() {
    for cors in [CorsLayer::new(), CorsLayer::permissive(), CorsLayer::very_permissive()] {
        let hub = Hub::new();
        let address = serve(routes(&hub).layer(cors)).await;
        assert_carried(&hub, address).await;
        let page = Browser::connect_from(&format!("http://{address}"), address, &hub.open(echo).ticket_json());
        page.wait_for_outcome(Outcome::Opened).await;
    }
}

/// The client sends cookies, and a browser then does not accept `*`. The layer answers the
/// preflight without the routes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cors_layers_must_allow_credentials_to_other_origins() {
    const OTHER: &str = "https://app.example";
    let named = CorsLayer::new()
        .allow_origin(HeaderValue::from_static(OTHER))
        .allow_credentials(true)
        .allow_methods([Method::POST])
        .allow_headers([CONTENT_TYPE]);
    for cors in [named, CorsLayer::very_permissive()] {
        let hub = Hub::builder().allow_origin(OTHER).build();
        let address = serve(routes(&hub).layer(cors)).await;
        assert_open_to(OTHER, &hub, address).await;
    }
    for cors in [CorsLayer::new(), CorsLayer::permissive()] {
        let hub = Hub::builder().allow_origin(OTHER).build();
        let inside = serve(routes(&hub).layer(cors.clone())).await;
        assert!(check_cross_origin(OTHER, &hub, inside).await.is_err());
        let outside = serve(Router::new().layer(cors).merge(routes(&hub))).await;
        assert_open_to(OTHER, &hub, outside).await;
    }
}

/// A request timeout does not apply to the body of the answer, so a streamed answer continues. A
/// WebSocket is no longer a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_cuts_only_polls_that_wait_for_longer() {
    let hub = Hub::new();
    let timeout = |time| TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(time));
    assert_carried(&hub, serve(routes(&hub).layer(timeout(1000))).await).await;
    let address = serve(routes(&hub).layer(timeout(100))).await;
    assert_connects(address, &hub.open(echo)).await;
    assert_streamed(&hub, address).await;
    assert_resumed(&hub, address, Some(Duration::from_secs(5))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_timeout_cuts_streams_that_are_quiet_for_longer() {
    let hub = Hub::new();
    let timeout = ResponseBodyTimeoutLayer::new(Duration::from_millis(100));
    let address = serve(routes(&hub).layer(timeout)).await;
    assert_connects(address, &hub.open(echo)).await;
    assert_polled(&hub, address).await;
    assert_resumed(&hub, address, None).await;
}

/// A request above the limit ends the connection, not the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_ends_connections_over_posts() {
    let hub = Hub::new();
    let rate = Arc::new(Rate::default());
    let limit = {
        let rate = Arc::clone(&rate);
        from_fn(move |request: Request, next: Next| {
            let is_admitted = rate.admit();
            async move {
                match is_admitted {
                    true => next.run(request).await,
                    false => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, rate::RETRY_AFTER)]).into_response(),
                }
            }
        })
    };
    let address = serve(routes(&hub).layer(limit)).await;
    assert_connects(address, &hub.open(echo)).await;
    assert_resumed(&hub, address, None).await;
    assert_resumed(&hub, address, Some(Duration::from_millis(100))).await;
    assert!(rate.refused() > 0, "there were not too many");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn path_normalisers_let_sessions_through() {
    for normalise in [NormalizePath::trim_trailing_slash, NormalizePath::append_trailing_slash] {
        let hub = Hub::new();
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let app = normalise(routes::<()>(&hub));
        tokio::spawn(axum::serve(listener, ServiceExt::<Request>::into_make_service(app)).into_future());
        assert_carried(&hub, address).await;
        assert_eq!(http::get(address, "/stillhere/client.js/", &[]).await.status, 200);
    }
}

/// A layer that buffers whole answers, for an ETag or a log, does not affect WebSockets, and
/// buffers each poll on its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_buffers_answers_lets_web_sockets_and_polls_through() {
    async fn gather(request: Request, next: Next) -> Response {
        let (parts, body) = next.run(request).await.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("the answer ends");
        Response::from_parts(parts, Body::from(body))
    }
    let hub = Hub::new();
    let address = serve(routes(&hub).layer(from_fn(gather))).await;
    assert_connects(address, &hub.open(echo)).await;
    assert_polled(&hub, address).await;
}

/// A layer that builds a new request loses the upgrade of the connection. That is reported, and
/// HTTP requests carry the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_rebuilds_the_request_is_reported() {
    async fn remake(request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let mut own = Request::new(body);
        (*own.method_mut(), *own.uri_mut(), *own.headers_mut()) = (parts.method, parts.uri, parts.headers);
        next.run(own).await
    }
    let hub = Hub::new();
    let address = serve(routes(&hub).layer(from_fn(remake))).await;
    let path = format!("/stillhere/{}", hub.open(echo).id());
    let refused = RawConnection::open(&socket::Request::new(address, &path)).await;
    assert_eq!(refused.err(), Some(426));
    assert_streamed(&hub, address).await;
    assert_eq!(http::get(address, "/stillhere/client.js", &[]).await.status, 200);
}
