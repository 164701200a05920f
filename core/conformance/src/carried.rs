//! Checks that sessions work through the middleware that an application puts around its routes.

use std::net::SocketAddr;
use std::time::Duration;

use stillhere::Hub;
use stillhere::machine::Outcome;

use crate::application::echo;
use crate::browser::{Browser, assert_connects};
use crate::fallback_bridge;
use crate::http::{self, Response};
use crate::patience::within;

/// Asserts that the client's file is served, and that sessions work over WebSockets, streamed and
/// polled.
///
/// # Panics
/// Panics if that does not hold.
pub async fn assert_carried(hub: &Hub, address: SocketAddr) {
    let file = http::get(address, "/stillhere/client.js", &[("accept-encoding", "gzip")]).await;
    assert!(file.status == 200 && file.text().contains("stillhere.v1"));
    assert_connects(address, &hub.open(echo)).await;
    assert_streamed(hub, address).await;
    assert_polled(hub, address).await;
}

/// Asserts that a session works over a streamed answer.
///
/// # Panics
/// Panics if that does not hold.
pub async fn assert_streamed(hub: &Hub, address: SocketAddr) {
    let streamed = fallback_bridge::start(address, None).await;
    assert_connects(streamed, &hub.open(echo)).await;
}

/// Asserts that a session works by polling.
///
/// # Panics
/// Panics if that does not hold.
pub async fn assert_polled(hub: &Hub, address: SocketAddr) {
    let polled = fallback_bridge::start(address, Some(Duration::from_millis(100))).await;
    assert_connects(polled, &hub.open(echo)).await;
}

/// Asserts that a session continues over the fallback although connections are cut again and again,
/// and that everything arrives once and in order. The fallback is streamed if `wait` is `None` and
/// polled otherwise.
///
/// # Panics
/// Panics if that does not hold, or if no connection is cut.
pub async fn assert_resumed(hub: &Hub, address: SocketAddr, wait: Option<Duration>) {
    let way = fallback_bridge::start(address, wait).await;
    let browser = Browser::connect(way, &hub.open(echo).ticket_json());
    let talking = async {
        for number in 0u32.. {
            let lost = browser.close_codes().len();
            if lost >= 2 {
                return;
            }
            browser
                .send(number.to_le_bytes().to_vec())
                .expect("the session is open");
            assert_eq!(browser.recv().await.payload, number.to_le_bytes().to_vec());
            // Some middleware cuts idle connections, and some cuts busy ones.
            let _ = tokio::time::timeout(PAUSE, browser.wait_for_close_codes(lost + 1)).await;
        }
    };
    within("two lost connections", talking).await;
}

/// Asserts that a page from another origin, which the hub allows, can connect, and that the answers
/// allow the browser to send cookies and the page to read the answers.
///
/// # Panics
/// Panics if that does not hold.
pub async fn assert_open_to(origin: &str, hub: &Hub, address: SocketAddr) {
    check_cross_origin(origin, hub, address)
        .await
        .expect("a browser lets the page read");
    for way in [address, fallback_bridge::start(address, None).await] {
        let page = Browser::connect_from(origin, way, &hub.open(echo).ticket_json());
        page.wait_for_outcome(Outcome::Opened).await;
    }
}

/// Applies the CORS check of the Fetch standard, as a browser does for a page from another origin
/// that sends cookies.
///
/// # Errors
/// Returns what a browser would write to its console.
pub async fn check_cross_origin(origin: &str, hub: &Hub, address: SocketAddr) -> Result<(), String> {
    let path = format!("/stillhere/{}", hub.open(echo).id());
    let asked = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let preflight = http::request(address, "OPTIONS", &path, &asked).await;
    check_origin(origin, &preflight)?;
    // With credentials, `*` is not a wildcard.
    let mut allowed = preflight.header("access-control-allow-headers").split(',');
    if !allowed.any(|name| name.trim().eq_ignore_ascii_case("content-type")) {
        return Err(format!("content-type is not allowed: {preflight:?}"));
    }
    let headers = [("origin", origin), ("content-type", "application/stillhere.v1")];
    let answer = http::send(address, &format!("POST {path}"), &headers, b"no POST of ours").await;
    check_origin(origin, &answer)
}

fn check_origin(origin: &str, response: &Response) -> Result<(), String> {
    let is_allowed = response.values("access-control-allow-origin") == [origin]
        && response.values("access-control-allow-credentials") == ["true"];
    is_allowed
        .then_some(())
        .ok_or_else(|| format!("the origin is not allowed with credentials: {response:?}"))
}

/// Longer than the timeouts of the tests.
const PAUSE: Duration = Duration::from_millis(200);
