//! axum's graceful shutdown and the hub's, composed as in the crate's documentation.

use std::net::SocketAddr;

use stillhere_axum::{Hub, routes};
use stillhere_conformance::shutdown::Drain;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

async fn serve(hub: Hub, drain: Drain) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let serving = axum::serve(listener, routes(&hub)).with_graceful_shutdown(drain);
    let serving = async move { serving.await.expect("the server ends well") };
    (address, tokio::spawn(serving))
}

stillhere_conformance::shutdown_suite!(serve);
