//! The server's end of a connection over HTTP.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink, Stream};
use tokio::sync::mpsc::Receiver;

use crate::connection::{ConnectionError, Packet};
use crate::exchange::{Down, Gone};

/// Reads packets from the bodies of POSTs, and writes packets for the answers to carry.
#[derive(Debug)]
pub(crate) struct OverPosts {
    bodies: Receiver<Bytes>,
    /// The unread rest of the current body.
    rest: Bytes,
    down: Arc<Down>,
    packet_limit: usize,
}

impl OverPosts {
    pub(crate) fn new(bodies: Receiver<Bytes>, down: Arc<Down>, packet_limit: usize) -> Self {
        Self {
            bodies,
            rest: Bytes::new(),
            down,
            packet_limit,
        }
    }

    fn next_packet(&mut self) -> Result<Packet, ConnectionError> {
        let length = self.rest.try_get_u32_le().map_err(|_| broken())? as usize;
        if length > self.packet_limit {
            self.rest = Bytes::new();
            return Err(ConnectionError::TooLarge);
        }
        if length > self.rest.len() {
            return Err(broken());
        }
        Ok(Packet::Binary(self.rest.split_to(length)))
    }
}

impl Stream for OverPosts {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.rest.is_empty() {
            match self.bodies.poll_recv(context) {
                Poll::Ready(Some(body)) => self.rest = body,
                Poll::Ready(None) => return Poll::Ready(None),
                // Nothing shows that the client will send no more POSTs, but the end of an answer
                // does.
                Poll::Pending => {
                    ready!(self.down.poll_gone(context));
                    return Poll::Ready(None);
                }
            }
        }
        Poll::Ready(Some(self.next_packet()))
    }
}

impl Sink<Packet> for OverPosts {
    type Error = ConnectionError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.down.poll_room(context).map_err(failed)
    }

    fn start_send(self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        // A close needs no packet of its own, because the end frame before it has the code.
        if let Packet::Binary(bytes) = packet {
            self.down.push(&bytes);
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.down.poll_flush(context).map_err(failed)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.down.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for OverPosts {
    fn drop(&mut self) {
        self.down.finish();
    }
}

fn failed(gone: Gone) -> ConnectionError {
    ConnectionError::Failed(gone.into())
}

fn broken() -> ConnectionError {
    ConnectionError::Failed("the body of a POST ends within a packet".into())
}
