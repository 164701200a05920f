//! Where the routes may stand in an application, and what else the adapter gives its pages.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use stillhere_axum::{Hub, Page, Upgrade, routes, serve_file};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::assert_connects;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::http::{self, script_of};
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket::Request;
use tokio::io::BufStream;
use tokio::net::{TcpListener, TcpStream};

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

#[tokio::test]
async fn the_routes_merge_into_a_router_of_any_state() {
    #[derive(Clone)]
    struct Shop {
        hub: Hub,
        _name: Arc<str>,
    }
    async fn page(State(shop): State<Shop>) -> Page<String> {
        Page(shop.hub.open(echo).script_tag())
    }
    let hub = Hub::new();
    let shop = Shop {
        hub: hub.clone(),
        _name: "shop".into(),
    };
    let app = Router::new().route("/", get(page)).merge(routes(&hub)).with_state(shop);
    let address = serve(app).await;

    let page = http::get(address, "/", &[]).await;
    assert_eq!(page.header("cache-control"), "private, no-cache");
    assert!(page.header("content-type").starts_with("text/html"));
    let page = String::from_utf8(page.body).expect("a page is text");
    assert_eq!(http::get(address, script_of(&page), &[]).await.status, 200);
    assert_connects(address, &hub.sessions()[0]).await;
}

#[tokio::test]
async fn under_nest_browsers_find_the_routes_by_the_public_url() {
    let hub = Hub::builder().public_url("/app/stillhere").build();
    let address = serve(Router::new().nest("/app", routes(&hub))).await;
    let session = hub.open(echo);
    let source = script_of(&session.script_tag()).to_owned();
    assert!(source.starts_with("/app/stillhere/client."), "{source}");
    assert_eq!(http::get(address, &source, &[]).await.status, 200);
    assert_connects(address, &session).await;
}

#[tokio::test]
async fn a_public_url_may_name_another_host() {
    let hub = Hub::builder().public_url("https://live.example/stillhere/").build();
    let address = serve(routes(&hub)).await;
    let session = hub.open(echo);
    let credentials = Credentials::parse(&session.ticket_json()).expect("the hub has room");
    assert_eq!(
        credentials.url,
        format!("https://live.example/stillhere/{}", session.id())
    );
    assert_connects(address, &session).await;
}

/// A cookie, in real life.
struct LoggedIn;

impl<S: Sync> FromRequestParts<S> for LoggedIn {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let known = parts.uri.query() == Some("ada");
        if known { Ok(Self) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

#[tokio::test]
async fn a_route_of_ones_own_puts_its_extractors_first() {
    async fn socket(
        _user: LoggedIn,
        Path(name): Path<String>,
        State(hub): State<Hub>,
        upgrade: Result<Upgrade, (StatusCode, &'static str)>,
    ) -> Response {
        match upgrade {
            Ok(upgrade) => upgrade.serve(&hub, &name),
            Err(_) => serve_file(&name, &axum::http::HeaderMap::new()).into_response(),
        }
    }
    let hub = Hub::builder().public_url("/mine").build();
    let address = serve(Router::new().route("/mine/{name}", any(socket)).with_state(hub.clone())).await;
    let session = hub.open(echo);
    let path = format!("/mine/{}", session.id());
    assert_eq!(
        RawConnection::open(&Request::new(address, &path)).await.err(),
        Some(401)
    );
    let mut raw = RawConnection::open(&Request::new(address, &format!("{path}?ada")))
        .await
        .expect("it is upgraded");
    let credentials = Credentials::parse(&session.ticket_json()).expect("the hub has room");
    raw.say_hello(&credentials, 1, 0, 1).await;
    assert_eq!(raw.welcome().await.incarnation, 1);
    assert_eq!(http::get(address, "/mine/client.js?ada", &[]).await.status, 200);
}

/// As a TLS acceptor's stream is: nothing that the adapter knows.
struct Wrapping(TcpListener);

impl axum::serve::Listener for Wrapping {
    type Io = BufStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, address) = self.0.accept().await.expect("the listener listens");
        (BufStream::new(stream), address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn a_connection_that_is_not_plain_tcp_is_carried_too() {
    let hub = Hub::new();
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(Wrapping(listener), routes::<()>(&hub)).into_future());
    assert_connects(address, &hub.open(echo)).await;
}
