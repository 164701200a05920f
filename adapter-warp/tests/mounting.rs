//! Where an application can mount the routes, and what else the adapter offers to pages.

use std::net::SocketAddr;

use stillhere_conformance::application::echo;
use stillhere_conformance::browser::assert_connects;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::http::{self, script_of};
use stillhere_conformance::logins::assert_only_ada_is_let_in;
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket::Request;
use stillhere_warp::{Hub, Page, Upgrade, answer, filter, request, routes, routes_for, serve_file, ws};
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

#[tokio::test]
async fn the_routes_pass_other_requests_on_and_pages_are_not_cached() {
    // At the root, every path could belong to the routes.
    let hub = Hub::builder().mount("/").build();
    let shared = hub.clone();
    let index = warp::path::end().map(move || Page(shared.open(echo).script_tag()));
    let other = warp::path!("other").map(|| "other");
    let posted = warp::path!("posted").and(warp::post()).map(|| "posted");
    let address = serve(routes(&hub).or(index).or(other).or(posted)).await;

    let page = http::get(address, "/", &[]).await;
    assert_eq!(page.header("cache-control"), "private, no-cache");
    assert!(page.header("content-type").starts_with("text/html"));
    let page = String::from_utf8(page.body).expect("a page is text");
    assert_eq!(http::get(address, script_of(&page), &[]).await.status, 200);
    assert_connects(address, &hub.sessions()[0]).await;
    assert_eq!(http::get(address, "/other", &[]).await.body, b"other");
    assert_eq!(http::request(address, "POST", "/posted", &[]).await.body, b"posted");
    assert_eq!(http::get(address, "/elsewhere", &[]).await.status, 404);
}

#[tokio::test]
async fn under_a_path_of_the_application_browsers_find_them_by_the_public_url() {
    let hub = Hub::builder().public_url("/app/live").build();
    let address = serve(warp::path!("app" / "live" / ..).and(filter(&hub))).await;
    let session = hub.open(echo);
    let source = script_of(&session.script_tag()).to_owned();
    assert!(source.starts_with("/app/live/client."), "{source}");
    assert_eq!(http::get(address, &source, &[]).await.status, 200);
    assert_connects(address, &session).await;
}

#[tokio::test]
async fn a_custom_route_runs_its_filters_first() {
    let hub = Hub::builder().public_url("/mine").build();
    let shared = hub.clone();
    // Stands for a cookie.
    let user = warp::query::raw();
    let socket = warp::path!("mine" / String)
        .and(user)
        .and(ws())
        .map(move |id: String, user: String, upgrade: Upgrade| upgrade.principal(&user).serve(&shared, &id));
    let file = warp::path!("mine" / String)
        .and(warp::header::headers_cloned())
        .map(|name: String, headers| serve_file(&name, &headers));
    let address = serve(socket.or(file)).await;

    let session = hub.open_for("ada", echo);
    let path = format!("/mine/{}", session.id());
    assert!(RawConnection::open(&Request::new(address, &path)).await.is_err());
    let credentials = Credentials::parse(&session.ticket_json()).expect("the hub has room");
    let mut eve = RawConnection::open(&Request::new(address, &format!("{path}?eve")))
        .await
        .expect("it is upgraded");
    assert_eq!(eve.end().await.code, 4105);
    let mut ada = RawConnection::open(&Request::new(address, &format!("{path}?ada")))
        .await
        .expect("it is upgraded");
    ada.say_hello(&credentials, 1, 0, 1).await;
    assert_eq!(ada.welcome().await.incarnation, 1);
    assert_eq!(http::get(address, "/mine/client.js", &[]).await.status, 200);
}

/// Stands for a database, which answers later.
async fn user_of(user: Option<String>) -> Option<String> {
    tokio::task::yield_now().await;
    // A filter that panics ends the request before the adapter handles it.
    user.filter(|user| user != "panics")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_supplies_the_principal_with_a_filter() {
    // This hook is not called; otherwise everybody would be Ada.
    let hub = Hub::builder().principal(|_| Some("ada".to_owned())).build();
    // A rejection means that nobody is logged in.
    let user = warp::cookie::cookie("user").then(|user: String| user_of(Some(user)));
    let address = serve(routes_for(&hub, user)).await;
    assert_only_ada_is_let_in(&hub, address).await;
    assert_eq!(http::get(address, "/stillhere/client.js", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_route_answers_every_kind_of_request() {
    let hub = Hub::builder().public_url("/live").build();
    let shared = hub.clone();
    let user = warp::cookie::optional("user").then(user_of);
    let live = warp::path!("live" / String).and(user).and(request());
    let live = live.then(move |name: String, user: Option<String>, request| {
        let hub = shared.clone();
        async move { answer(&hub, &name, request, user.as_deref()).await }
    });
    let address = serve(live).await;
    assert_only_ada_is_let_in(&hub, address).await;
    assert_eq!(http::get(address, "/live/client.js", &[]).await.status, 200);
}
