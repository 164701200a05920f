//! Checks users that the application determines itself, without the hub, on every route: for an
//! adapter's `routes_for` and `answer`.

use std::net::SocketAddr;
use std::time::Duration;

use stillhere::machine::Outcome;
use stillhere::{Code, Hub};

use crate::application::echo;
use crate::browser::Browser;
use crate::fallback_bridge;

/// Asserts that a session of Ada accepts only clients with the cookie `user=ada`, over a WebSocket,
/// streamed and polled, and also at a resume. A client with `user=panics` makes the application
/// panic.
///
/// # Panics
/// Panics if that does not hold.
pub async fn assert_only_ada_is_let_in(hub: &Hub, address: SocketAddr) {
    let streamed = fallback_bridge::start(address, None).await;
    let polled = fallback_bridge::start(address, Some(Duration::from_millis(100))).await;
    for address in [address, streamed, polled] {
        let ticket = hub.open_for("ada", echo).ticket_json();
        let strangers = [Some("user=eve"), Some("user=panics"), None];
        for cookie in strangers {
            let stranger = match cookie {
                Some(cookie) => Browser::connect_with_cookie(cookie, address, &ticket),
                None => Browser::connect(address, &ticket),
            };
            assert_eq!(stranger.refusal().await, Code::Forbidden as u64, "{cookie:?}");
        }
        let ada = Browser::connect_with_cookie("user=ada", address, &ticket);
        ada.wait_for_outcome(Outcome::Opened).await;
        ada.lose_connection();
        ada.wait_for_outcome(Outcome::Resumed).await;
        ada.send("hello").expect("the session is open");
        assert_eq!(ada.recv().await.payload, "hello");
    }
}
