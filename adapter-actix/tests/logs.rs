//! Checks what actix-web and the crates beneath it log.

use std::net::{SocketAddr, TcpListener};

use actix_web::{App, HttpServer};
use stillhere_actix::{Hub, routes};

async fn start(hub: Hub) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let server = HttpServer::new(move || App::new().configure(routes(&hub)))
        .workers(2)
        .tcp_nodelay(true)
        .disable_signals()
        .listen(listener)
        .expect("the listener listens");
    tokio::spawn(server.run());
    address
}

stillhere_conformance::logs_suite!(start);
