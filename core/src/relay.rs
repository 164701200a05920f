//! Passes the packets of a connection on to the server that has its session.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::coop::cooperative;

use crate::connection::{Connection, ConnectionError, Packet};
use crate::hub::{Hop, RETRY_FIRST};
use stillhere_proto::code::Code;
use stillhere_proto::wire::{End, Frame, Hello, millis};

/// Passes packets on in both directions until either side ends. Returns what to tell the peer
/// before the connection is closed, or `None` if it is closed without a word: then the page comes
/// back.
pub(crate) async fn relay<C: Connection>(hop: Hop, hello: Hello, connection: Pin<&mut C>) -> Option<End> {
    let Hop { far, leaving } = hop;
    let (mut to_far, from_far) = far.split();
    let (mut to_near, mut from_near) = connection.split();
    let up = async {
        let hello = Packet::Binary(Frame::Hello(hello).to_bytes());
        if to_far.send(hello).await.is_err() {
            return None;
        }
        loop {
            let packet = match cooperative(from_near.next()).await {
                Some(Ok(Packet::Ping | Packet::Other)) => continue,
                Some(Ok(packet)) => packet,
                Some(Err(ConnectionError::TooLarge)) => {
                    return Some(End::connection(Code::TooLarge, "a frame exceeds the size limit"));
                }
                Some(Err(_)) | None => return None,
            };
            if to_far.send(packet).await.is_err() {
                return None;
            }
        }
    };
    let down = async {
        let mut arrived = from_far.ready_chunks(AT_ONCE);
        while let Some(packets) = arrived.next().await {
            for packet in packets {
                let Ok(packet) = packet else { return false };
                let is_close = matches!(packet, Packet::Close(_));
                if to_near.feed(packet).await.is_err() {
                    return false;
                }
                if is_close {
                    return to_near.flush().await.is_ok();
                }
            }
            if to_near.flush().await.is_err() {
                return false;
            }
        }
        false
    };
    let is_closed = tokio::select! {
        biased;
        () = leaving.cancelled() => {
            let end = End::connection(Code::Draining, "the server is shutting down: another one goes on");
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

/// Most packets that are written together.
const AT_ONCE: usize = 64;

/// How long to read after the close.
const LINGER: Duration = Duration::from_secs(1);
