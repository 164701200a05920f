//! Whether sessions are carried through what an application has around its routes.

use std::net::SocketAddr;
use std::time::Duration;

use stillhere::Hub;

use crate::application::echo;
use crate::browser::assert_connects;
use crate::fallback_bridge;
use crate::http;

/// The client's file is served, and sessions are carried over WebSockets, streamed and polled.
///
/// # Panics
/// When that is not so.
pub async fn assert_carried(hub: &Hub, address: SocketAddr) {
    let file = http::get(address, "/stillhere/client.js", &[("accept-encoding", "gzip")]).await;
    assert!(file.status == 200 && file.text().contains("stillhere.v1"));
    assert_connects(address, &hub.open(echo)).await;
    assert_streamed(hub, address).await;
    assert_polled(hub, address).await;
}

/// A session is carried over a streamed answer.
///
/// # Panics
/// When that is not so.
pub async fn assert_streamed(hub: &Hub, address: SocketAddr) {
    let streamed = fallback_bridge::start(address, None).await;
    assert_connects(streamed, &hub.open(echo)).await;
}

/// A session is carried by polling.
///
/// # Panics
/// When that is not so.
pub async fn assert_polled(hub: &Hub, address: SocketAddr) {
    let polled = fallback_bridge::start(address, Some(Duration::from_millis(100))).await;
    assert_connects(polled, &hub.open(echo)).await;
}
