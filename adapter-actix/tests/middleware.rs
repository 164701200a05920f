//! What applications have around their routes: it lets sessions through, or is told.

use std::net::{SocketAddr, TcpListener};

use actix_cors::Cors;
use actix_web::middleware::{Compress, DefaultHeaders, Logger, NormalizePath, TrailingSlash};
use actix_web::{App, HttpServer, web};
use stillhere_actix::machine::Outcome;
use stillhere_actix::{Hub, routes};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::carried::assert_carried;
use stillhere_conformance::http;

/// Serves what `$around` makes of an `App`, with the routes of `$hub` in it.
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
async fn normalisers_of_paths_let_sessions_through() {
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

/// It takes a page of the same origin for a foreign one, whatever is behind it: the routes stand outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cors_that_blocks_must_not_stand_around_the_routes() {
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
