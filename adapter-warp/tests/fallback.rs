//! Everything an adapter must do, over the fallback on warp, streamed and polled.

use std::net::SocketAddr;
use std::time::Duration;

use stillhere_conformance::fallback_bridge::start as start_bridge;
use stillhere_warp::{Hub, routes};
use tokio::net::TcpListener;

async fn serve(hub: Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(warp::serve(routes(&hub)).incoming(listener).run());
    address
}

mod streamed {
    use super::*;

    async fn start(hub: Hub) -> SocketAddr {
        start_bridge(serve(hub).await, None).await
    }

    stillhere_conformance::connection_suite!(start);
}

mod polled {
    use super::*;

    async fn start(hub: Hub) -> SocketAddr {
        start_bridge(serve(hub).await, Some(WAIT)).await
    }

    const WAIT: Duration = Duration::from_millis(100);

    stillhere_conformance::polled_sample!(start);
}
