//! Where the routes may stand in an application, and what else the adapter gives its pages.

use std::net::{SocketAddr, TcpListener};

use actix_web::dev::Payload;
use actix_web::error::ErrorUnauthorized;
use actix_web::{App, Error, FromRequest, HttpRequest, HttpResponse, HttpServer, web};
use stillhere_actix::{Hub, Page, Upgrade, routes, serve_file};
use stillhere_conformance::application::echo;
use stillhere_conformance::browser::assert_connects;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::http::{self, script_of};
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
async fn the_routes_stand_beside_others_and_pages_are_not_cached() {
    async fn page(hub: web::Data<Hub>) -> Page<String> {
        // Opened on a worker, it lives on the hub's runtime.
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

/// A cookie, in real life.
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
async fn a_route_of_ones_own_puts_its_extractors_first() {
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
