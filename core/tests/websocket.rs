//! A WebSocket as a connection, when its peer misbehaves or disappears.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::connection::Packet;
use stillhere::websocket::connection;
use stillhere::{Connection, ConnectionError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

async fn connected(limit: usize) -> (impl Connection + Unpin, DuplexStream) {
    let (ours, peer) = duplex(1 << 16);
    let config = WebSocketConfig::default()
        .max_frame_size(Some(limit))
        .max_message_size(Some(limit));
    (Box::pin(connection(ours, Vec::new(), config).await), peer)
}

#[tokio::test]
async fn a_connection_that_failed_may_be_used_and_closed_and_fails_again() {
    let (mut connection, peer) = connected(1000).await;
    drop(peer);
    let flood = async {
        while connection
            .send(Packet::Binary(Bytes::from_static(&[0; 1 << 16])))
            .await
            .is_ok()
        {}
    };
    timeout(Duration::from_secs(10), flood)
        .await
        .expect("the flood fails in time");
    assert!(connection.next().await.is_none_or(|next| next.is_err()));
    assert!(connection.send(Packet::Close(1000)).await.is_err());
    assert!(connection.close().await.is_err());
}

#[tokio::test]
async fn after_a_packet_above_the_limit_the_rest_is_read_and_dropped() {
    let (mut connection, mut peer) = connected(1000).await;
    // A masked binary frame of 1001 bytes.
    let header = [0x82, 0x80 | 126, 0x03, 0xe9, 0, 0, 0, 0];
    peer.write_all(&header).await.expect("there is room");

    assert!(matches!(connection.next().await, Some(Err(ConnectionError::TooLarge))));
    for _ in 0..3 {
        peer.write_all(&[0; 5000]).await.expect("there is room");
        assert!(matches!(connection.next().await, Some(Ok(Packet::Other))));
    }
    connection
        .send(Packet::Close(4108))
        .await
        .expect("it can still be written");
    let mut close = [0; 4];
    peer.read_exact(&mut close).await.expect("the close has arrived");
    assert_eq!(close, [0x88, 2, 0x10, 0x0c]);
    drop(peer);
    let rest = async { while connection.next().await.is_some() {} };
    timeout(Duration::from_secs(10), rest)
        .await
        .expect("the rest ends in time");
}
