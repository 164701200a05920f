//! What an axum WebSocket as a connection does when its peer is gone.

use std::{future::IntoFuture as _, time::Duration};

use axum::{Router, extract::WebSocketUpgrade, routing::any};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere_axum::{Packet, connection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn a_connection_that_failed_may_be_used_and_closed_and_fails_again() {
    let (report, mut reported) = mpsc::unbounded_channel();
    let answer = move |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(async move |socket| {
            let mut connection = connection(socket);
            while connection
                .send(Packet::Binary(Bytes::from_static(&[0; 1 << 16])))
                .await
                .is_ok()
            {}
            let next = connection.next().await;
            let _ = connection.send(Packet::Close(1000)).await;
            let closed = connection.close().await;
            report
                .send((next.is_none_or(|next| next.is_err()), closed.is_err()))
                .expect("the test waits");
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(axum::serve(listener, Router::new().route("/", any(answer))).into_future());

    let mut peer = TcpStream::connect(address).await.expect("the server listens");
    peer.write_all(REQUEST).await.expect("the server reads");
    peer.read_u8().await.expect("the server answers");
    // With bytes unread this is a reset.
    drop(peer);

    let reported = timeout(Duration::from_secs(10), reported.recv()).await;
    assert_eq!(reported, Ok(Some((true, true))));
}
