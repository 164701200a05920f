//! Passes the packets of a connection on to the server that has its session.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::task::coop::cooperative;

use crate::connection::{Connection, ConnectionError, Packet};
use crate::hub::{Hop, RETRY_FIRST};
use stillhere_proto::code::Code;
use stillhere_proto::wire::{End, Frame, Hello, millis};

/// Passes packets on in both directions until either side ends. Returns what to tell the peer
/// before the connection is closed. Returns `None` if there is nothing to tell: then the page
/// reconnects.
pub(crate) async fn relay<C: Connection>(hop: Hop, hello: Hello, connection: Pin<&mut C>) -> Option<End> {
    let Hop { far, leaving } = hop;
    let (mut to_far, from_far) = far.split();
    let (mut to_near, mut from_near) = connection.split();
    let up = async {
        let hello = Packet::Binary(Frame::Hello(hello).to_bytes());
        // What the other server has said last may still wait for the peer.
        if to_far.send(hello).await.is_err() {
            return pending().await;
        }
        loop {
            let packet = match cooperative(from_near.next()).now_or_never() {
                Some(packet) => packet,
                None => {
                    if to_far.flush().await.is_err() {
                        return pending().await;
                    }
                    cooperative(from_near.next()).await
                }
            };
            let packet = match packet {
                Some(Ok(Packet::Ping | Packet::Other)) => continue,
                Some(Ok(packet)) => packet,
                Some(Err(ConnectionError::TooLarge)) => {
                    return Some(End::connection(Code::TooLarge, "a frame exceeds the size limit"));
                }
                Some(Err(_)) | None => return None,
            };
            if to_far.feed(packet).await.is_err() {
                return pending().await;
            }
        }
    };
    let down = async {
        let mut arrived = from_far.ready_chunks(AT_ONCE);
        while let Some(packets) = arrived.next().await {
            for packet in packets {
                let Ok(packet) = packet else { return false };
                let is_close = matches!(packet, Packet::Close(_));
                if !in_time(to_near.feed(packet)).await {
                    return false;
                }
                if is_close {
                    return in_time(to_near.flush()).await;
                }
            }
            if !in_time(to_near.flush()).await {
                return false;
            }
        }
        false
    };
    let is_closed = tokio::select! {
        biased;
        () = leaving.cancelled() => {
            let end = End::connection(Code::Draining, "the server is shutting down: connect again");
            return Some(end.retry_after(millis(RETRY_FIRST)));
        }
        end = up => return end,
        is_closed = down => is_closed,
    };
    if is_closed {
        // If input were left unread, the operating system would reset the connection, and the peer
        // would lose the close.
        let listening = async { while let Some(Ok(_)) = cooperative(from_near.next()).await {} };
        let _ = tokio::time::timeout(LINGER, listening).await;
    }
    None
}

/// Returns whether this was written before the peer counts as silent.
async fn in_time(writing: impl Future<Output = Result<(), ConnectionError>>) -> bool {
    matches!(tokio::time::timeout(STALL, writing).await, Ok(Ok(())))
}

/// How long a write may take. The deadlines of the session, which end other connections of a peer
/// that takes nothing, do not reach this one.
const STALL: Duration = Duration::from_secs(30);

/// Most packets that are passed on with one flush.
const AT_ONCE: usize = 64;

/// How long to read on after the close.
const LINGER: Duration = Duration::from_secs(1);
