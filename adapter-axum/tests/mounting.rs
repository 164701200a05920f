//! Where an application can mount the routes, and what else the adapter offers to pages.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use stillhere_axum::{Hub, Page, Upgrade, answer, routes, routes_for, serve_file};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::assert_connects;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::http::{self, script_of};
use stillhere_conformance::logins::assert_only_ada_is_let_in;
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

/// Stands for a cookie.
struct LoggedIn;

impl<S: Sync> FromRequestParts<S> for LoggedIn {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let known = parts.uri.query() == Some("ada");
        if known { Ok(Self) } else { Err(StatusCode::UNAUTHORIZED) }
    }
}

#[tokio::test]
async fn a_custom_route_runs_its_extractors_first() {
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

/// A listener whose stream the adapter does not know, like that of a TLS acceptor.
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

/// What the layer of a session library provides for extractors.
#[derive(Clone)]
struct Login(String);

async fn read_login(mut request: axum::extract::Request, next: Next) -> Response {
    let cookie = request.headers().get("cookie").and_then(|cookie| cookie.to_str().ok());
    if let Some(user) = cookie.and_then(|cookie| cookie.strip_prefix("user=")) {
        let login = Login(user.to_owned());
        request.extensions_mut().insert(login);
    }
    next.run(request).await
}

/// Stands for a database, which answers later.
async fn user_of(Login(user): Login, asked: &AtomicUsize) -> Option<String> {
    tokio::task::yield_now().await;
    asked.fetch_add(1, Ordering::Relaxed);
    assert_ne!(user, "panics");
    Some(user)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_supplies_the_principal_after_its_layers_have_run() {
    // This hook is not called; otherwise everybody would be Ada.
    let hub = Hub::builder().principal(|_| Some("ada".to_owned())).build();
    let asked = Arc::new(AtomicUsize::new(0));
    let user = async |(State(asked), Extension(login)): (State<Arc<AtomicUsize>>, Extension<Login>)| {
        user_of(login, &asked).await
    };
    let app = Router::new()
        .merge(routes_for(&hub, user))
        .layer(from_fn(read_login))
        .with_state(Arc::clone(&asked));
    let address = serve(app).await;
    assert_only_ada_is_let_in(&hub, address).await;

    let before = asked.load(Ordering::Relaxed);
    let file = http::get(address, "/stillhere/client.js", &[("cookie", "user=ada")]).await;
    assert_eq!(file.status, 200);
    assert_eq!(asked.load(Ordering::Relaxed), before, "files are public");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_route_answers_every_kind_of_request() {
    async fn live(Path(name): Path<String>, State(hub): State<Hub>, request: axum::extract::Request) -> Response {
        let login = request.extensions().get::<Login>().map(|Login(user)| user.clone());
        answer(&hub, &name, request, login.as_deref()).await
    }
    let hub = Hub::builder().public_url("/live").build();
    let app = Router::new()
        .route("/live/{name}", any(live))
        .layer(from_fn(read_login));
    let address = serve(app.with_state(hub.clone())).await;
    assert_only_ada_is_let_in(&hub, address).await;
    assert_eq!(http::get(address, "/live/client.js", &[]).await.status, 200);
}
