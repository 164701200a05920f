//! Runs the conformance suite on warp.

use std::net::SocketAddr;

use stillhere_warp::{Hub, routes};
use tokio::net::TcpListener;

async fn start(hub: Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(warp::serve(routes(&hub)).incoming(listener).run());
    address
}

stillhere_conformance::suite!(start);
