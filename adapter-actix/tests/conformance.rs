//! Runs the conformance suite on actix-web.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::{App, HttpServer};
use stillhere_actix::{Hub, routes};

async fn start(hub: Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let server = HttpServer::new(move || App::new().configure(routes(&hub)))
        .workers(2)
        .tcp_nodelay(true)
        .client_disconnect_timeout(Duration::ZERO)
        .disable_signals()
        .listen(listener)
        .expect("the listener listens");
    tokio::spawn(server.run());
    address
}

stillhere_conformance::suite!(start);
