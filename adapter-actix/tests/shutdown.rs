//! Combines the graceful shutdown of actix-web with that of the hub, as in the crate's
//! documentation.

use std::net::{SocketAddr, TcpListener};

use actix_web::{App, HttpServer};
use stillhere_actix::{Hub, routes};
use stillhere_conformance::shutdown::Drain;
use tokio::task::JoinHandle;

async fn serve(hub: Hub, drain: Drain) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let server = HttpServer::new(move || App::new().configure(routes(&hub)))
        .workers(2)
        .shutdown_signal(drain)
        .shutdown_timeout(5)
        .listen(listener)
        .expect("the listener listens")
        .run();
    let serving = async move { server.await.expect("the server ends without an error") };
    (address, tokio::spawn(serving))
}

stillhere_conformance::shutdown_suite!(serve);
