//! Everything an adapter must do, over the fallback on actix-web, streamed and polled.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::{App, HttpServer};
use stillhere_actix::{Hub, routes};
use stillhere_conformance::fallback_bridge::start as start_bridge;

async fn serve(hub: Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let server = HttpServer::new(move || App::new().configure(routes(&hub)))
        .workers(2)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)
        .expect("the listener listens");
    tokio::spawn(server.run());
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
