//! Runs the conformance suite over the fallback, streamed and polled, on actix-web.

use std::net::{SocketAddr, TcpListener};

use actix_web::{App, HttpServer};
use stillhere_actix::{Hub, routes};

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

stillhere_conformance::fallback_suite!(serve, polled_sample);
