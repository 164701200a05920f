//! The client against a real server, over loopback.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Html;
use axum::routing::get;
use stillhere::{Hub, Lane, Session};
use stillhere_axum::{routes, routes_for};
use stillhere_client::{
    Client, ConnectError, ConnectionError, Message, Outcome, PageError, Route, SendRefused, Status, TicketError,
};
use tokio::net::TcpListener;
use tokio::time::timeout;

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

/// Serves pages whose sessions run `run`, and returns the URL of the page.
async fn page<R: Future<Output = ()> + Send + 'static>(hub: &Hub, run: fn(Session) -> R) -> String {
    let pages = hub.clone();
    let page = get(move || async move { Html(format!("<p>Hello{}", pages.open(run).script_tag())) });
    let address = serve(Router::new().route("/page", page).merge(routes(hub))).await;
    format!("http://{address}/page")
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        let sent = match message.lane() {
            Lane::Interactive => session.send(message).await,
            Lane::Bulk => session.send_bulk(message).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn user(headers: &HeaderMap) -> Option<String> {
    (headers.get("cookie")? == "user=ada").then(|| "ada".to_owned())
}

async fn close_after_one(mut session: Session) {
    session.recv().await;
    session.send("bye").await.expect("the session is open");
    session.close("enough");
}

/// Returns the output of `future`, and fails if it takes far too long.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future)
        .await
        .expect("it happens in time")
}

async fn status(client: &Client, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut watch = client.watch_status();
    soon(watch.wait_for(wanted)).await.expect("the client is there").clone()
}

#[tokio::test]
async fn a_page_is_connected_to_over_each_kind_of_connection() {
    let hub = Hub::new();
    let url = page(&hub, echo).await;
    for (route, expected) in [
        (Route::Any, "websocket"),
        (Route::WebSocket, "websocket"),
        (Route::Streamed, "streamed"),
        (Route::Polled, "polled"),
    ] {
        let client = Client::builder()
            .route(route)
            .connect(&url)
            .await
            .expect("the ticket is valid");
        client.send("hello").await.expect("the session is open");
        let large = vec![7; 300_000];
        client.send_bulk(large.clone()).await.expect("the session is open");
        let mut received =
            [soon(client.recv()).await, soon(client.recv()).await].map(|message| message.expect("an echo"));
        received.sort_by_key(|message| message.len());
        assert_eq!(received, [Message::from("hello"), Message::from(large).on(Lane::Bulk)]);
        assert!(soon(client.flush()).await);
        let Status::Connected { outcome, kind } = client.status() else {
            panic!("{:?}", client.status())
        };
        assert_eq!((outcome, kind), (Outcome::Opened, expected));
        soon(client.close()).await;
        assert_eq!(client.status(), Status::Closed { unacknowledged: 0 });
        assert_eq!(soon(client.recv()).await, None);
    }
    let left = async {
        while hub.stats().connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(left).await;
}

#[tokio::test]
async fn the_end_of_a_session_follows_its_last_message() {
    let url = page(&Hub::new(), close_after_one).await;
    for route in [Route::WebSocket, Route::Streamed, Route::Polled] {
        let client = Client::builder()
            .route(route)
            .connect(&url)
            .await
            .expect("the ticket is valid");
        client.send("go").await.expect("the session is open");
        assert_eq!(soon(client.recv()).await, Some(Message::from("bye")));
        assert_eq!(soon(client.recv()).await, None);
        let ended = status(&client, Status::is_over).await;
        assert!(
            matches!(&ended, Status::Ended { code: 4102, reason: 2, text, .. } if text == "enough"),
            "{ended:?}"
        );
        let refused = client.send("more").await.expect_err("the session is over");
        assert_eq!(
            (refused.message, refused.refused),
            ("more".into(), SendRefused::SessionOver)
        );
    }
}

#[tokio::test]
async fn a_restarted_server_refuses_and_an_absent_server_is_waited_for() {
    let hub = Hub::new();
    let url = page(&hub, echo).await;
    let ticket = Hub::new().open(echo).ticket_json();
    let builder = Client::builder().page(&url).expect("the URL is valid");
    let client = builder.connect(&ticket).await.expect("the ticket is valid");
    let refused = status(&client, Status::is_over).await;
    assert!(matches!(refused, Status::Refused { code: 4100, .. }), "{refused:?}");

    let builder = Client::builder().page("http://127.0.0.1:9/").expect("the URL is valid");
    let client = builder.connect(&ticket).await.expect("the ticket is valid");
    let waiting = |status: &Status| matches!(status, Status::Connecting(attempt) if attempt.retry_at.is_some());
    let Status::Connecting(attempt) = status(&client, waiting).await else {
        unreachable!("it was waited for")
    };
    assert_eq!(attempt.code, 1006);
    assert!(!attempt.text.is_empty(), "the text says what is wrong");
}

#[tokio::test]
async fn headers_reach_the_page_and_the_session_and_no_other_origin() {
    let hub = Hub::new();
    let pages = hub.clone();
    let page = get(move |headers: HeaderMap| async move {
        let user = user(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
        Ok::<_, StatusCode>(Html(pages.open_for(&user, echo).script_tag()))
    });
    let sessions = routes_for(&hub, async |headers: HeaderMap| user(&headers));
    let address = serve(Router::new().route("/page", page).merge(sessions)).await;
    let url = format!("http://{address}/page");

    let denied = Client::connect(&url).await.expect_err("a login is needed");
    let status_of = |error: &ConnectError| match error {
        ConnectError::Page(PageError::Connection(ConnectionError::Status { status, .. })) => *status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status_of(&denied), 401);

    let with_cookie = || {
        Client::builder().header(
            "cookie".parse().expect("the name is valid"),
            "user=ada".parse().expect("the value is valid"),
        )
    };
    for route in [Route::WebSocket, Route::Streamed, Route::Polled] {
        let client = with_cookie()
            .route(route)
            .connect(&url)
            .await
            .expect("the ticket is valid");
        client.send("hello").await.expect("the session is open");
        assert_eq!(soon(client.recv()).await, Some(Message::from("hello")));
    }

    let ticket = hub.open_for("ada", echo).ticket_json();
    let elsewhere = ticket.replace("\"/stillhere", &format!("\"http://{address}/stillhere"));
    let builder = with_cookie()
        .page("http://elsewhere.example/")
        .expect("the URL is valid");
    let client = builder.connect(&elsewhere).await.expect("the ticket is valid");
    let refused = status(&client, Status::is_over).await;
    assert!(matches!(refused, Status::Refused { code: 4105, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_source_without_a_ticket_reports_the_reason() {
    let full = Hub::builder().max_sessions(0).build();
    let refused = page(&full, echo).await;
    let app = Router::new().route("/empty", get("nothing here"));
    let other = serve(app.route("/huge", get(|| async { "x".repeat(9 * 1024 * 1024) }))).await;
    let error = async |url: &str| Client::connect(url).await.expect_err("there is no ticket");

    let ticket = error(&refused).await;
    assert!(
        matches!(ticket, ConnectError::Ticket(TicketError::Refused { code: 4201, .. })),
        "{ticket:?}"
    );
    let missing = error(&format!("http://{other}/empty")).await;
    assert!(
        matches!(missing, ConnectError::Ticket(TicketError::Missing)),
        "{missing:?}"
    );
    let huge = error(&format!("http://{other}/huge")).await;
    assert!(matches!(huge, ConnectError::Page(PageError::TooLarge)), "{huge:?}");
    let tls = error("https://127.0.0.1:9/").await;
    assert!(
        matches!(
            tls,
            ConnectError::Page(PageError::Connection(ConnectionError::TlsUnsupported))
        ),
        "{tls:?}"
    );
    for text in ["", "ftp://127.0.0.1/", "/page", "http:"] {
        let url = error(text).await;
        assert!(matches!(url, ConnectError::Url(_)), "{text:?}: {url:?}");
    }
    let relative = error(&Hub::new().open(echo).ticket_json()).await;
    assert!(matches!(relative, ConnectError::RelativeUrl), "{relative:?}");
}
