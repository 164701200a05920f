//! In-process connections.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink, SinkExt as _, Stream};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::PollSender;

use crate::connection::{ConnectionError, Packet};

/// Creates the two ends of an in-process connection. Each end receives what the other sends, with
/// at most `capacity` packets in transit in each direction. Use it for tests, and to connect
/// transports that are not `Stream + Sink`.
///
/// Give one end to [`run_connection_loop`](crate::run_connection_loop). Dropping an end has the
/// effect of losing the connection.
///
/// # Panics
/// Panics if `capacity` is zero.
pub fn connection_pair(capacity: usize) -> (PairEnd, PairEnd) {
    let (left, from_left) = mpsc::channel(capacity);
    let (right, from_right) = mpsc::channel(capacity);
    let end = |sender, receiver| PairEnd {
        sender: PollSender::new(sender),
        receiver,
    };
    (end(left, from_right), end(right, from_left))
}

/// One end of a [`connection_pair`]: a [`Connection`](crate::Connection).
#[derive(Debug)]
pub struct PairEnd {
    sender: PollSender<Result<Packet, ConnectionError>>,
    receiver: Receiver<Result<Packet, ConnectionError>>,
}

impl PairEnd {
    /// Returns a sender of packets to the other end. It also takes errors, to report that the
    /// transport has failed. Returns `None` after this end is closed.
    pub fn sender(&self) -> Option<Sender<Result<Packet, ConnectionError>>> {
        self.sender.get_ref().cloned()
    }
}

impl Stream for PairEnd {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

impl Sink<Packet> for PairEnd {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready_unpin(context).map_err(|_| gone())
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        self.sender.start_send_unpin(Ok(packet)).map_err(|_| gone())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_flush_unpin(context).map_err(|_| gone())
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_close_unpin(context).map_err(|_| gone())
    }
}

fn gone() -> ConnectionError {
    ConnectionError::Failed("the other end is gone".into())
}
