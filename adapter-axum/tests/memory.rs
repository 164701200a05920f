//! Checks how much memory peers make axum and the crates beneath it hold.

use std::future::IntoFuture as _;
use std::net::SocketAddr;

use stillhere_axum::{Hub, routes};
use tokio::net::TcpListener;

async fn start(hub: Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(listener, routes(&hub)).into_future());
    address
}

stillhere_conformance::memory_suite!(start);
