//! A demo on the loopback interface refuses a page that reaches it under another host name (DNS
//! rebinding).

use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::http;
use stillhere_conformance::program::Program;
use stillhere_conformance::raw_connection::RawConnection;
use stillhere_conformance::socket::Request;

#[tokio::test]
async fn the_demos_accept_only_loopback_names() {
    for path in [
        env!("CARGO_BIN_EXE_axum"),
        env!("CARGO_BIN_EXE_actix"),
        env!("CARGO_BIN_EXE_warp"),
    ] {
        let demo = Program::start(path, &[]).await;
        let ticket = http::get(demo.address, "/ticket/echo", &[]).await.body;
        let ticket = String::from_utf8(ticket).expect("a ticket is text");
        let credentials = Credentials::parse(&ticket).expect("the hub has room");
        let host = format!("rebound.example:{}", demo.address.port());
        let request = Request::new(demo.address, credentials.path())
            .to_host(&host)
            .from_origin(&format!("http://{host}"));
        let mut raw = RawConnection::open(&request).await.expect("it is upgraded anyway");
        assert_eq!(raw.end().await.code, Code::Forbidden as u64, "{path}");
        let browser = Browser::connect(demo.address, &ticket);
        browser.wait_for_outcome(Outcome::Opened).await;
    }
}
