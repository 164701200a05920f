//! warp's graceful shutdown and the hub's, composed as in the crate's documentation.

use std::net::SocketAddr;

use stillhere_conformance::shutdown::Drain;
use stillhere_warp::{Hub, routes};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

async fn serve(hub: Hub, drain: Drain) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let serving = warp::serve(routes(&hub)).incoming(listener).graceful(drain);
    (address, tokio::spawn(serving.run()))
}

stillhere_conformance::shutdown_suite!(serve);
