//! Measures the memory of an idle connection.

use std::alloc::System;
use std::net::{SocketAddr, TcpListener};

use actix_web::{App, HttpServer};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere_actix::{Hub, routes};
use stillhere_conformance::socket::upgrade;
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Returns a socket that was upgraded and has not said hello.
async fn upgraded(address: SocketAddr, id: &str) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let headers = "x-forwarded-for: 8.8.8.8\r\nsec-websocket-protocol: stillhere.v1\r\n";
    upgrade(stream, &format!("/stillhere/{id}"), headers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgraded_connection_holds_little_more_than_the_buffers_of_actix() {
    const CONNECTIONS: usize = 50;
    let hub = Hub::new();
    let session = hub.open(async |session| drop(session.ended().await));
    let id = session.id().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let of_app = hub.clone();
    let server = HttpServer::new(move || App::new().configure(routes(&of_app)))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .expect("the listener listens");
    tokio::spawn(server.run());
    let mut streams = vec![upgraded(address, &id).await];
    let before = live_bytes();
    for _ in 0..CONNECTIONS {
        streams.push(upgraded(address, &id).await);
    }
    while hub.stats().connections < streams.len() {
        tokio::task::yield_now().await;
    }
    let each = (live_bytes() - before) / CONNECTIONS;
    // Two buffers of 8 KiB are those of actix-web itself.
    assert!(each < 23 * 1024, "{each} bytes");
}
