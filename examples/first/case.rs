//! The test of each program in the READMEs.

use stillhere::Code;
use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::http;
use stillhere_conformance::program::Program;

/// Starts the program, clicks twice, and stops it. The program listens on the port in the READMEs,
/// so only one of these tests runs at a time; see `.config/nextest.toml`.
pub(crate) async fn counts_and_tells_its_pages_when_it_stops(path: &str) {
    let address = "127.0.0.1:3000".parse().expect("it is an address");
    let mut program = Program::start_silently(path, address).await;
    let page = http::get(address, "/", &[]).await;
    assert_eq!((page.status, page.header("cache-control")), (200, "private, no-cache"));
    let page = page.text();
    let (_, rest) = page.split_once("data-stillhere=\"").expect("the page has a session");
    let (ticket, _) = rest.split_once('"').expect("an attribute ends");
    let script = http::get(address, http::script_of(&page), &[]).await;
    assert_eq!(script.status, 200, "the client is served");
    let browser = Browser::connect(address, &ticket.replace("&quot;", "\""));
    browser.wait_for_outcome(Outcome::Opened).await;
    for click in ["1", "2"] {
        browser.send("click").expect("the session is open");
        assert_eq!(browser.recv().await.payload, click);
    }
    program.terminate().await;
    assert_eq!(browser.session_end().await.code, Code::Draining as u64);
    assert!(program.exit().await.success());
}
