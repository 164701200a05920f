//! Middleware that applications put around their routes either lets sessions through, or its effect
//! is reported.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{ErrorRequestTimeout, InternalError};
use actix_web::http::header::RETRY_AFTER;
use actix_web::middleware::{Compress, DefaultHeaders, Logger, Next, NormalizePath, TrailingSlash, from_fn};
use actix_web::{App, Error, HttpResponse, HttpServer, web};
use stillhere_actix::machine::Outcome;
use stillhere_actix::{Hub, routes};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::{Browser, assert_connects};
use stillhere_conformance::carried::{
    assert_carried, assert_open_to, assert_resumed, assert_streamed, check_cross_origin,
};
use stillhere_conformance::http;
use stillhere_conformance::rate::{self, Rate};

/// Serves the result of applying `$around` to an `App` with the routes of `$hub`.
macro_rules! serve {
    ($hub:expr, $around:expr) => {{
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address: SocketAddr = listener.local_addr().expect("the listener is bound");
        let hub: Hub = $hub.clone();
        let server = HttpServer::new(move || ($around)(App::new()).configure(routes(&hub)))
            .workers(1)
            .disable_signals()
            .listen(listener)
            .expect("the listener listens");
        tokio::spawn(server.run());
        address
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn common_middleware_lets_sessions_through() {
    let hub = Hub::new();
    let address = serve!(hub, |app: App<_>| {
        app.app_data(web::PayloadConfig::new(1024))
            .wrap(Compress::default())
            .wrap(DefaultHeaders::new().add(("x-frame-options", "DENY")))
            .wrap(Logger::default())
    });
    assert_carried(&hub, address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn path_normalisers_let_sessions_through() {
    for slash in [TrailingSlash::Always, TrailingSlash::Trim, TrailingSlash::MergeOnly] {
        let hub = Hub::new();
        let address = serve!(hub, |app: App<_>| app.wrap(NormalizePath::new(slash)));
        assert_carried(&hub, address).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permissive_cors_lets_pages_of_the_same_origin_through() {
    let hub = Hub::new();
    let address = serve!(hub, |app: App<_>| app.wrap(Cors::permissive()));
    assert_carried(&hub, address).await;
    let page = Browser::connect_from(&format!("http://{address}"), address, &hub.open(echo).ticket_json());
    page.wait_for_outcome(Outcome::Opened).await;
}

/// This middleware treats a page of the same origin as a foreign one, so the routes must be outside
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restrictive_cors_layer_must_not_wrap_the_routes() {
    fn strict() -> Cors {
        Cors::default()
            .allowed_origin("https://app.example")
            .block_on_origin_mismatch(true)
    }
    let hub = Hub::new();
    let inside = serve!(hub, |app: App<_>| app.wrap(strict()));
    let origin = format!("http://{inside}");
    let file = http::get(inside, "/stillhere/client.js", &[("origin", &origin)]).await;
    assert_eq!(file.status, 400);

    let outside = serve!(hub, |app: App<_>| app.service(web::scope("/api").wrap(strict())));
    assert_carried(&hub, outside).await;
    let page = Browser::connect_from(&format!("http://{outside}"), outside, &hub.open(echo).ticket_json());
    page.wait_for_outcome(Outcome::Opened).await;
}

/// The client sends cookies, so the answer to the preflight must allow credentials. The middleware
/// answers it without the routes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cors_must_allow_credentials_to_other_origins() {
    const OTHER: &str = "https://app.example";
    fn named() -> Cors {
        Cors::default()
            .allowed_origin(OTHER)
            .allowed_methods(["POST"])
            .allowed_header("content-type")
    }
    let hub = Hub::builder().allow_origin(OTHER).build();
    let permissive = serve!(hub, |app: App<_>| app.wrap(Cors::permissive()));
    assert_open_to(OTHER, &hub, permissive).await;
    let with_credentials = serve!(hub, |app: App<_>| app.wrap(named().supports_credentials()));
    assert_open_to(OTHER, &hub, with_credentials).await;

    let without = serve!(hub, |app: App<_>| app.wrap(named()));
    assert!(check_cross_origin(OTHER, &hub, without).await.is_err());
    let outside = serve!(hub, |app: App<_>| app.service(web::scope("/api").wrap(named())));
    assert_open_to(OTHER, &hub, outside).await;
}

/// A request timeout does not apply to the body of the answer, so a streamed answer continues, and
/// so does a WebSocket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_cuts_only_polls_that_wait_for_longer() {
    async fn within(
        time: Duration,
        request: ServiceRequest,
        next: Next<impl MessageBody>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        tokio::time::timeout(time, next.call(request))
            .await
            .unwrap_or_else(|_| Err(ErrorRequestTimeout("too late")))
    }
    let hub = Hub::new();
    let long = serve!(hub, |app: App<_>| {
        app.wrap(from_fn(|request, next| within(Duration::from_secs(1), request, next)))
    });
    assert_carried(&hub, long).await;
    let short = serve!(hub, |app: App<_>| {
        app.wrap(from_fn(|request, next| {
            within(Duration::from_millis(100), request, next)
        }))
    });
    assert_connects(short, &hub.open(echo)).await;
    assert_streamed(&hub, short).await;
    assert_resumed(&hub, short, Some(Duration::from_secs(5))).await;
}

/// A request above the limit ends the connection, not the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_ends_connections_over_posts() {
    async fn limit(
        rate: web::Data<Rate>,
        request: ServiceRequest,
        next: Next<impl MessageBody>,
    ) -> Result<ServiceResponse<impl MessageBody>, Error> {
        if rate.admit() {
            return next.call(request).await;
        }
        let refused = HttpResponse::TooManyRequests()
            .insert_header((RETRY_AFTER, rate::RETRY_AFTER))
            .finish();
        Err(InternalError::from_response("too many requests", refused).into())
    }
    let hub = Hub::new();
    let rate = web::Data::new(Rate::default());
    let counted = Arc::clone(&rate);
    let address = serve!(hub, |app: App<_>| app.app_data(rate.clone()).wrap(from_fn(limit)));
    assert_connects(address, &hub.open(echo)).await;
    assert_resumed(&hub, address, None).await;
    assert_resumed(&hub, address, Some(Duration::from_millis(100))).await;
    assert!(counted.refused() > 0, "there were not too many");
}
