//! Combines the graceful shutdown of axum with that of the hub, as in the crate's documentation.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::time::Duration;

use stillhere_axum::{Hub, routes};
use stillhere_conformance::shutdown::Drain;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

async fn serve(hub: Hub, drain: Drain) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, routes(&hub)).with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());
    let draining = async move {
        drain.await;
        drop(stop);
        let _ = timeout(Duration::from_secs(5), serving).await;
    };
    (address, tokio::spawn(draining))
}

stillhere_conformance::shutdown_suite!(serve);
