//! Runs the conformance suite on axum.

use std::future::IntoFuture as _;
use std::net::SocketAddr;

use stillhere_axum::{Hub, routes};
use tokio::net::TcpListener;

async fn start(hub: Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let service = routes::<()>(&hub).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());
    address
}

stillhere_conformance::suite!(start);
