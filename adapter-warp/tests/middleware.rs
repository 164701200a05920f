//! Middleware that applications put around their routes either lets sessions through, or must not
//! be around the routes.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::{Browser, assert_connects};
use stillhere_conformance::carried::{
    assert_carried, assert_open_to, assert_polled, assert_resumed, assert_streamed, check_cross_origin,
};
use stillhere_conformance::http;
use stillhere_conformance::rate::{self, Rate};
use stillhere_warp::machine::Outcome;
use stillhere_warp::{Hub, routes};
use tokio::net::TcpListener;
use tower_http::compression::Compression;
use tower_http::timeout::Timeout;
use warp::http::StatusCode;
use warp::{Filter, Rejection, Reply};

async fn serve<R: Reply>(
    app: impl Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(warp::serve(app).incoming(listener).run());
    address
}

/// warp compresses everything that it wraps, even if the answer forbids it. Frames still arrive as
/// soon as they are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_lets_sessions_through() {
    let hub = Hub::new();
    let address = serve(routes(&hub).with(warp::compression::gzip())).await;
    let file = http::get(address, "/stillhere/client.js", &[]).await;
    assert_eq!(file.header("content-encoding"), "gzip");
    assert!(file.text().contains("stillhere.v1"));
    assert_connects(address, &hub.open(echo)).await;
    assert_streamed(&hub, address).await;
    assert_polled(&hub, address).await;
}

/// warp's CORS treats a page of the same origin as a foreign one, so the routes must be outside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_work_outside_cors() {
    let hub = Hub::new();
    let api = warp::path!("api").map(|| "api");
    let cors = warp::cors().allow_origin("https://app.example").build();
    let inside = serve(api.or(routes(&hub)).with(cors.clone())).await;
    let origin = format!("http://{inside}");
    let file = http::get(inside, "/stillhere/client.js", &[("origin", &origin)]).await;
    assert_eq!(file.status, 403);

    let outside = serve(api.with(cors).or(routes(&hub))).await;
    assert_carried(&hub, outside).await;
    let page = Browser::connect_from(&format!("http://{outside}"), outside, &hub.open(echo).ticket_json());
    page.wait_for_outcome(Outcome::Opened).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_recovery_let_sessions_through() {
    let hub = Hub::new();
    let recovered = routes(&hub).recover(async |rejection: Rejection| Err::<&str, _>(rejection));
    let headers = warp::reply::with::header("x-frame-options", "DENY");
    let app = recovered.with(headers).with(warp::trace::request());
    assert_carried(&hub, serve(app).await).await;
}

/// The client sends cookies, so the answer to the preflight must allow credentials. The filter
/// answers it without the routes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cors_must_allow_credentials_to_other_origins() {
    const OTHER: &str = "https://app.example";
    let cors = || warp::cors().allow_methods(["POST"]).allow_header("content-type");
    let hub = Hub::builder().allow_origin(OTHER).build();
    for cors in [cors().allow_origin(OTHER), cors().allow_any_origin()] {
        let address = serve(routes(&hub).with(cors.clone().allow_credentials(true))).await;
        assert_open_to(OTHER, &hub, address).await;

        let without = serve(routes(&hub).with(cors.clone())).await;
        assert!(check_cross_origin(OTHER, &hub, without).await.is_err());
        let api = warp::path!("api").map(|| "api");
        // The filter answers the preflight of any path, so the routes must come before it.
        let outside = serve(routes(&hub).or(api.with(cors))).await;
        assert_open_to(OTHER, &hub, outside).await;
    }
}

/// Serves the routes within layers of tower, which offers more layers than warp has filters.
macro_rules! serve_service {
    ($service:expr) => {{
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let service = TowerToHyperService::new($service);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        address
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn towers_compression_lets_sessions_through() {
    let hub = Hub::new();
    let address = serve_service!(Compression::new(warp::service(routes(&hub))));
    assert_carried(&hub, address).await;
}

/// A request timeout does not apply to the body of the answer, so a streamed answer continues. A
/// WebSocket is no longer a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_cuts_only_polls_that_wait_for_longer() {
    let hub = Hub::new();
    let within = |time| {
        let service = warp::service(routes(&hub));
        Timeout::with_status_code(service, StatusCode::REQUEST_TIMEOUT, Duration::from_millis(time))
    };
    let long = serve_service!(within(1000));
    assert_carried(&hub, long).await;
    let short = serve_service!(within(100));
    assert_connects(short, &hub.open(echo)).await;
    assert_streamed(&hub, short).await;
    assert_resumed(&hub, short, Some(Duration::from_secs(5))).await;
}

#[derive(Debug)]
struct TooMany;

impl warp::reject::Reject for TooMany {}

/// A request above the limit ends the connection, not the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_ends_connections_over_posts() {
    async fn refuse(rejection: Rejection) -> Result<impl Reply, Rejection> {
        if rejection.find::<TooMany>().is_none() {
            return Err(rejection);
        }
        let refused = warp::reply::with_status("", StatusCode::TOO_MANY_REQUESTS);
        Ok(warp::reply::with_header(refused, "retry-after", rate::RETRY_AFTER))
    }
    let hub = Hub::new();
    let rate = Arc::new(Rate::default());
    let counted = Arc::clone(&rate);
    let admitted = warp::any().and_then(move || {
        let is_admitted = rate.admit();
        ready(is_admitted.then_some(()).ok_or_else(|| warp::reject::custom(TooMany)))
    });
    let app = admitted.untuple_one().and(routes(&hub)).recover(refuse);
    let address = serve(app).await;
    assert_connects(address, &hub.open(echo)).await;
    assert_resumed(&hub, address, None).await;
    assert_resumed(&hub, address, Some(Duration::from_millis(100))).await;
    assert!(counted.refused() > 0, "there were not too many");
}
