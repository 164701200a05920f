//! Measures the memory of an idle connection.

use std::alloc::System;
use std::net::SocketAddr;

use axum::Router;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere_axum::Hub;
use stillhere_conformance::socket::upgrade;
use tokio::net::{TcpListener, TcpStream};

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

#[tokio::test]
async fn an_upgraded_connection_keeps_no_buffer_of_the_request_it_came_with() {
    const CONNECTIONS: usize = 50;
    // With a trusted proxy each connection counts for an address, which costs memory too.
    let hub = Hub::builder().trusted_hops(1).build();
    let session = hub.open(async |session| drop(session.ended().await));
    let id = session.id().to_string();
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the socket has an address");
    let app: Router = stillhere_axum::routes(&hub);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut streams = vec![upgraded(address, &id).await];
    let before = live_bytes();
    for _ in 0..CONNECTIONS {
        streams.push(upgraded(address, &id).await);
    }
    while hub.stats().connections < streams.len() {
        tokio::task::yield_now().await;
    }
    let each = (live_bytes() - before) / CONNECTIONS;
    assert!(each < 8192, "{each} bytes");
}
