//! What applications have around their routes: it lets sessions through, or the routes stand outside.

use std::net::SocketAddr;

use stillhere_conformance::application::echo;
use stillhere_conformance::browser::{Browser, assert_connects};
use stillhere_conformance::carried::assert_carried;
use stillhere_conformance::http;
use stillhere_warp::machine::Outcome;
use stillhere_warp::{Hub, routes};
use tokio::net::TcpListener;
use warp::{Filter, Reply};

async fn serve<R: Reply>(
    app: impl Filter<Extract = (R,), Error = warp::Rejection> + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(warp::serve(app).incoming(listener).run());
    address
}

/// warp compresses whatever it wraps, also what says that it must not be: only WebSockets pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_stand_outside_compression() {
    let hub = Hub::new();
    let page = warp::path!("page").map(|| "page");
    let inside = serve(page.or(routes(&hub)).with(warp::compression::gzip())).await;
    let file = http::get(inside, "/stillhere/client.js", &[]).await;
    assert_eq!(file.header("content-encoding"), "gzip", "nobody asked for that");
    assert_connects(inside, &hub.open(echo)).await;

    let outside = serve(page.with(warp::compression::gzip()).or(routes(&hub))).await;
    assert_carried(&hub, outside).await;
    assert_eq!(http::get(outside, "/page", &[]).await.text(), "page");
}

/// warp's CORS takes a page of the same origin for a foreign one, whatever is behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_stand_outside_cors() {
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
    let recovered = routes(&hub).recover(async |rejection: warp::Rejection| Err::<&str, _>(rejection));
    let headers = warp::reply::with::header("x-frame-options", "DENY");
    let app = recovered.with(headers).with(warp::trace::request());
    assert_carried(&hub, serve(app).await).await;
}
