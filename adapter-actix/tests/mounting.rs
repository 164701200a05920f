//! Where an application can mount the routes, and what else the adapter offers to pages.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::ErrorUnauthorized;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, FromRequest, HttpMessage as _, HttpRequest, HttpResponse, HttpServer, web};
use stillhere_actix::{Hub, Page, Upgrade, answer, routes, routes_for, serve_file};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::assert_connects;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::http::{self, script_of};
use stillhere_conformance::logins::assert_only_ada_is_let_in;
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket::Request;

fn serve(configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .expect("the listener listens");
    tokio::spawn(server.run());
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_routes_work_beside_others_and_pages_are_not_cached() {
    async fn page(hub: web::Data<Hub>) -> Page<String> {
        Page(hub.open(echo).script_tag())
    }
    let hub = Hub::new();
    let shared = hub.clone();
    let address = serve(move |config| {
        config
            .configure(routes(&shared))
            .app_data(web::Data::new(shared.clone()));
        config.route("/", web::get().to(page));
    });

    let page = http::get(address, "/", &[]).await;
    assert_eq!(page.header("cache-control"), "private, no-cache");
    assert!(page.header("content-type").starts_with("text/html"));
    let page = String::from_utf8(page.body).expect("a page is text");
    assert_eq!(http::get(address, script_of(&page), &[]).await.status, 200);
    assert_connects(address, &hub.sessions()[0]).await;
    assert_eq!(http::get(address, "/elsewhere", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_scope_browsers_find_the_routes_by_the_public_url() {
    let hub = Hub::builder().public_url("/app/stillhere").build();
    let shared = hub.clone();
    let address = serve(move |config| {
        config.service(web::scope("/app").configure(routes(&shared)));
    });
    let session = hub.open(echo);
    let source = script_of(&session.script_tag()).to_owned();
    assert!(source.starts_with("/app/stillhere/client."), "{source}");
    assert_eq!(http::get(address, &source, &[]).await.status, 200);
    assert_connects(address, &session).await;
}

/// Stands for a cookie.
struct User(String);

impl FromRequest for User {
    type Error = Error;
    type Future = std::future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let name = request.query_string();
        let user = (!name.is_empty()).then(|| Self(name.to_owned()));
        std::future::ready(user.ok_or_else(|| ErrorUnauthorized("log in first")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_route_runs_its_extractors_first() {
    async fn socket(
        user: User,
        name: web::Path<String>,
        hub: web::Data<Hub>,
        request: HttpRequest,
        upgrade: Upgrade,
    ) -> HttpResponse {
        if request.head().upgrade() {
            upgrade.principal(&user.0).serve(&hub, &name)
        } else {
            serve_file(&name, request.headers())
        }
    }
    let hub = Hub::builder().public_url("/mine").build();
    let shared = hub.clone();
    let address = serve(move |config| {
        config.app_data(web::Data::new(shared.clone()));
        config.route("/mine/{name}", web::get().to(socket));
    });
    let session = hub.open_for("ada", echo);
    let path = format!("/mine/{}", session.id());
    let refused = RawConnection::open(&Request::new(address, &path)).await;
    assert_eq!(refused.err(), Some(401));
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
    assert_eq!(http::get(address, "/mine/client.js?ada", &[]).await.status, 200);
}

/// What the middleware of a session library provides for extractors.
#[derive(Clone)]
struct Login(String);

async fn read_login(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let cookie = request.headers().get("cookie").and_then(|cookie| cookie.to_str().ok());
    let user = cookie
        .and_then(|cookie| cookie.strip_prefix("user="))
        .map(str::to_owned);
    if let Some(user) = user {
        request.extensions_mut().insert(Login(user));
    }
    next.call(request).await
}

/// Stands for a database, which answers later.
async fn user_of(login: web::ReqData<Login>, asked: web::Data<AtomicUsize>) -> Option<String> {
    tokio::task::yield_now().await;
    asked.fetch_add(1, Ordering::Relaxed);
    let Login(user) = login.into_inner();
    assert_ne!(user, "panics");
    Some(user)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_supplies_the_principal_after_its_middleware_has_run() {
    // This hook is not called; otherwise everybody would be Ada.
    let hub = Hub::builder().principal(|_| Some("ada".to_owned())).build();
    let asked = web::Data::new(AtomicUsize::new(0));
    let (shared, counted) = (hub.clone(), asked.clone());
    let address = serve(move |config| {
        let routes = web::scope("").wrap(from_fn(read_login)).app_data(counted.clone());
        config.service(routes.configure(routes_for(&shared, user_of)));
    });
    assert_only_ada_is_let_in(&hub, address).await;

    let before = asked.load(Ordering::Relaxed);
    let file = http::get(address, "/stillhere/client.js", &[("cookie", "user=ada")]).await;
    assert_eq!(file.status, 200);
    assert_eq!(asked.load(Ordering::Relaxed), before, "files are public");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_route_answers_every_kind_of_request() {
    async fn live(
        name: web::Path<String>,
        hub: web::Data<Hub>,
        login: Option<web::ReqData<Login>>,
        request: HttpRequest,
        body: web::Payload,
    ) -> HttpResponse {
        let user = login.map(|login| login.into_inner().0);
        answer(&hub, &name, request, body, user.as_deref()).await
    }
    let hub = Hub::builder().public_url("/live").build();
    let shared = hub.clone();
    let address = serve(move |config| {
        let live = web::resource("/live/{name}").wrap(from_fn(read_login)).to(live);
        config.app_data(web::Data::new(shared.clone())).service(live);
    });
    assert_only_ada_is_let_in(&hub, address).await;
    assert_eq!(http::get(address, "/live/client.js", &[]).await.status, 200);
}
