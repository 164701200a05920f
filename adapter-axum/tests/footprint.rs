//! Measures the memory of an idle connection and of its session.

use std::alloc::System;
use std::net::SocketAddr;

use axum::Router;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere_axum::wire::Frame;
use stillhere_axum::{Hub, Session, SessionState};
use stillhere_conformance::credentials::Credentials;
use stillhere_conformance::raw_connection::hello;
use stillhere_conformance::socket::upgrade;
use tokio::io::AsyncWriteExt as _;
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

/// Returns a socket on which the page of a new session has said hello and was welcomed.
async fn welcomed(hub: &Hub, address: SocketAddr) -> TcpStream {
    let session = hub.open(echo);
    let mut stream = upgraded(address, &session.id().to_string()).await;
    let credentials = Credentials::parse(&session.ticket_json()).expect("the ticket is valid");
    let hello = Frame::Hello(hello(&credentials, 1, 0, 1)).to_bytes();
    let length = u8::try_from(hello.len()).expect("a hello is short");
    // A binary message with a mask of zeros.
    let header = [0x82, 0x80 | length, 0, 0, 0, 0];
    assert!(length < 126);
    stream
        .write_all(&[&header[..], &hello].concat())
        .await
        .expect("the server reads");
    while hub
        .session(session.id())
        .is_some_and(|session| session.state() != SessionState::Open)
    {
        tokio::task::yield_now().await;
    }
    stream
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await {
        if session.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_idle_connected_session_takes_at_most_7500_bytes() {
    const SESSIONS: usize = 100;
    let hub = Hub::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let app: Router = stillhere_axum::routes(&hub);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut streams = vec![welcomed(&hub, address).await];
    let before = live_bytes();
    for _ in 0..SESSIONS {
        streams.push(welcomed(&hub, address).await);
    }
    let each = (live_bytes() - before) / SESSIONS;
    println!("idle and connected: {each} bytes");
    assert!(each <= 7500, "{each} bytes");
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
