//! Tests the server without a framework: its page, its routes, and the effect of a lost connection
//! on a session.

use std::net::{Ipv4Addr, SocketAddr};

use stillhere::EndReason;
use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::fault_proxy::FaultProxy;
use stillhere_conformance::http;
use stillhere_conformance::patience::within;
use stillhere_conformance::program::Program;
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket::Request;

/// The running server, and a proxy in front of it that cuts connections.
struct Site {
    program: Program,
    proxy: FaultProxy,
}

impl Site {
    async fn start(arguments: &[&str]) -> Self {
        let program = Program::start(env!("CARGO_BIN_EXE_own-server"), arguments).await;
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let proxy = FaultProxy::start(anywhere, program.address).await;
        Self {
            program,
            proxy: proxy.expect("loopback has a free port"),
        }
    }

    /// Loads the page. Returns the URL of its script, and its ticket.
    async fn page(&self) -> (String, String) {
        let page = http::get(self.program.address, "/", &[]).await;
        assert_eq!((page.status, page.header("cache-control")), (200, "private, no-cache"));
        let page = String::from_utf8(page.body).expect("a page is text");
        let between = |before: &str| {
            let (_, rest) = page.split_once(before).expect("the page has a session");
            let (text, _) = rest.split_once('"').expect("an attribute ends");
            text.replace("&quot;", "\"").replace("&amp;", "&")
        };
        (between("<script src=\""), between("data-stillhere=\""))
    }

    /// Opens a page that connects. Returns it with its route.
    async fn open(&self) -> (Browser, String) {
        let (_, ticket) = self.page().await;
        let page = Browser::connect(self.proxy.address(), &ticket);
        page.wait_for_outcome(Outcome::Opened).await;
        let credentials = Credentials::parse(&ticket).expect("the hub has room");
        (page, credentials.path().to_owned())
    }

    /// Returns the status of a request to this path that is not for a WebSocket.
    async fn status(&self, path: &str) -> u16 {
        http::get(self.program.address, path, &[]).await.status
    }

    async fn route_is_removed(&self, path: &str) {
        within("the route is removed", async {
            while self.status(path).await != 404 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Cuts all connections in such a way that both sides notice.
    fn cut(&self) {
        for connection in self.proxy.connections() {
            connection.cut();
        }
    }
}

async fn assert_clicked(page: &Browser, clicks: &str) {
    page.send("click").expect("the session is open");
    assert_eq!(page.recv().await.payload, clicks);
}

#[tokio::test]
async fn the_page_and_the_client_are_served_and_nothing_else() {
    let site = Site::start(&[]).await;
    let (script, ticket) = site.page().await;
    let script = http::get(site.program.address, &script, &[]).await;
    assert_eq!(
        (script.status, script.header("content-type")),
        (200, "text/javascript; charset=utf-8")
    );
    let credentials = Credentials::parse(&ticket).expect("the hub has room");
    assert_eq!(credentials.url, format!("/live/{}", credentials.id));
    assert_eq!(site.status(&credentials.url).await, 426, "a WebSocket's route");
    for path in [
        "/nothing",
        "/live",
        "/live/",
        "/live/nothing",
        "/live/client.0000000000000000.js",
        &format!("/{}", credentials.id),
    ] {
        assert_eq!(site.status(path).await, 404, "{path}");
    }
}

#[tokio::test]
async fn a_session_that_is_cut_resumes_on_its_route() {
    let site = Site::start(&[]).await;
    let (page, route) = site.open().await;
    assert_clicked(&page, "1").await;
    site.cut();
    page.wait_for_outcome(Outcome::Resumed).await;
    assert_clicked(&page, "2").await;
    assert_eq!(site.status(&route).await, 426, "the route is still there");
}

#[tokio::test]
async fn with_close_a_session_ends_with_its_connection_and_its_route_is_removed() {
    let site = Site::start(&["--close"]).await;
    let (page, route) = site.open().await;
    let (other, others) = site.open().await;
    assert_clicked(&page, "1").await;
    page.leave().await;
    site.route_is_removed(&route).await;
    assert_clicked(&other, "1").await;
    assert_eq!(site.status(&others).await, 426, "no other route is removed");
    site.cut();
    let end = other.session_end().await;
    assert_eq!(
        (end.code, end.reason),
        (EndReason::Disconnected.code() as u64, EndReason::Disconnected.number())
    );
    site.route_is_removed(&others).await;
}

#[tokio::test]
async fn a_browser_without_a_route_is_refused_over_the_web_socket() {
    let site = Site::start(&[]).await;
    for path in ["/live/nothing", "/live/AAAAAAAAAAAAAAAAAAAAAA"] {
        let request = Request::new(site.program.address, path);
        let mut connection = RawConnection::open(&request)
            .await
            .expect("it is upgraded, to be told why it is refused");
        assert_eq!(connection.end().await.code, Code::Unknown as u64, "{path}");
    }
}

#[tokio::test]
async fn a_request_without_the_protocol_is_not_upgraded() {
    let site = Site::start(&[]).await;
    let (_, route) = site.open().await;
    let request = Request::new(site.program.address, &route).offering_nothing();
    assert_eq!(RawConnection::open(&request).await.err(), Some(400));
    let elsewhere = Request::new(site.program.address, "/elsewhere/0");
    assert_eq!(RawConnection::open(&elsewhere).await.err(), Some(404));
}

#[tokio::test]
async fn it_stops_when_it_is_told_to() {
    let mut site = Site::start(&[]).await;
    let (page, _) = site.open().await;
    site.program.terminate().await;
    assert_eq!(page.session_end().await.code, Code::Draining as u64);
    assert_eq!(site.program.exit().await.code(), Some(0));
}
