//! What applications have around their routes: it lets sessions through, or is told.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use stillhere_axum::machine::Outcome;
use stillhere_axum::{Hub, routes};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::{Browser, assert_connects};
use stillhere_conformance::carried::{assert_carried, assert_polled, assert_streamed};
use stillhere_conformance::http;
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

/// Every kind that lets sessions through, one around the other.
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

/// A page of the same origin sends its `Origin` too, and a CORS layer must not take that for a foreign one.
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

/// A time-out of requests is none of the answer's body: a streamed one goes on, and a WebSocket is no request any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_cuts_only_polls_that_wait_for_longer() {
    let hub = Hub::new();
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(300));
    let address = serve(routes(&hub).layer(timeout)).await;
    assert_carried(&hub, address).await;
}

/// What gathers whole answers, as for an ETag or a log, has nothing to gather of a WebSocket, and gets every poll whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_gathers_answers_lets_web_sockets_and_polls_through() {
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

/// What makes a request of its own loses the connection it came on: that is told, and HTTP requests carry the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_makes_a_request_of_its_own_is_told() {
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
