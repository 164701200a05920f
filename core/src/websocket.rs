//! A WebSocket as a connection, over any stream of bytes (feature `websocket`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::admission::Accepted;
use crate::connection::{Connection, ConnectionError, Packet};
use crate::redact::Redacted;

/// Returns the `Sec-WebSocket-Accept` for a request with this key (RFC 6455, section 4.2.2).
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

/// Returns the configuration of a WebSocket for this connection: its limits, and small buffers.
///
/// At most two buffers of 16 KiB and one packet wait for the peer to read, whatever the peer sends
/// in the meantime.
pub fn config(accepted: &Accepted) -> WebSocketConfig {
    let limit = accepted.packet_limit();
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(accepted.largest_sent().saturating_add(2 * WRITE_BUFFER))
        .max_frame_size(Some(limit))
        .max_message_size(Some(limit))
}

/// Creates a [`Connection`] from the server's end of a WebSocket whose request has been answered.
/// Use it with a server of your own.
///
/// `io` carries the bytes of the WebSocket. `already_read` is what arrived together with the
/// request, usually nothing, and `config` comes from [`config`]. tungstenite logs every frame at
/// level TRACE; the session's secret is redacted there. The connection is `Send` if `io` is.
pub async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    mut already_read: Vec<u8>,
    config: WebSocketConfig,
) -> impl Connection {
    let io = Redacted::new(io, &mut already_read);
    let socket = WebSocketStream::from_partially_read(io, already_read, Role::Server, Some(config)).await;
    OverWebSocket {
        socket,
        is_over_limit: false,
        has_pongs: false,
    }
}

/// Maps errors by hand: `sink_map_err` panics if a sink fails twice, which the sink of a lost
/// connection does when it is closed.
struct OverWebSocket<S> {
    socket: WebSocketStream<Redacted<S>>,
    /// True after a packet above the limit, when tungstenite reads no more. Later bytes are read
    /// and dropped here, because unread bytes would turn the close into a reset.
    is_over_limit: bool,
    /// True while tungstenite's own pongs may be in its buffer. They are written before anything
    /// else, so that they take no room from packets.
    has_pongs: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> OverWebSocket<S> {
    fn poll_pongs_written(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.has_pongs {
            ready!(self.socket.poll_flush_unpin(context))?;
            self.has_pongs = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for OverWebSocket<S> {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over_limit {
            let mut scratch = [0; READ_BUFFER];
            let mut scratch = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(self.socket.get_mut().io()).poll_read(context, &mut scratch));
            let more = read.is_ok() && !scratch.filled().is_empty();
            return Poll::Ready(more.then_some(Ok(Packet::Other)));
        }
        let Some(next) = ready!(self.socket.poll_next_unpin(context)) else {
            return Poll::Ready(None);
        };
        self.is_over_limit = matches!(next, Err(Error::Capacity(_)));
        self.has_pongs |= matches!(next, Ok(Message::Ping(_)));
        let packet = match next.map(packet) {
            Ok(Packet::Binary(bytes)) => Ok(Packet::Binary(self.socket.get_mut().restore(bytes))),
            other => other.map_err(failure),
        };
        Poll::Ready(Some(packet))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Packet> for OverWebSocket<S> {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_pongs_written(context)).map_err(failure)?;
        self.socket.poll_ready_unpin(context).map_err(failure)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        self.socket.start_send_unpin(message(packet)).map_err(failure)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.socket.poll_flush_unpin(context).map_err(failure)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_pongs_written(context)).map_err(failure)?;
        self.socket.poll_close_unpin(context).map_err(failure)
    }
}

fn packet(message: Message) -> Packet {
    match message {
        Message::Binary(bytes) => Packet::Binary(bytes),
        Message::Text(text) => Packet::Text(text.into()),
        Message::Close(frame) => Packet::Close(frame.map_or(NO_CODE, |frame| frame.code.into())),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Packet::Other,
    }
}

fn message(packet: Packet) -> Message {
    match packet {
        Packet::Binary(bytes) => Message::Binary(bytes),
        Packet::Close(code) => Message::Close(Some(CloseFrame {
            code: code.into(),
            reason: "".into(),
        })),
        Packet::Ping => Message::Ping(Bytes::new()),
        Packet::Text(_) | Packet::Other => Message::Pong(Bytes::new()),
    }
}

fn failure(error: Error) -> ConnectionError {
    match error {
        Error::Capacity(_) => ConnectionError::TooLarge,
        error => ConnectionError::Failed(error.into()),
    }
}

/// A close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

/// Size of the read buffer in bytes. tungstenite's default of 128 KiB would be allocated for every
/// connection at once.
const READ_BUFFER: usize = 4096;

/// Number of bytes that are gathered before they are written: many frames in one system call.
const WRITE_BUFFER: usize = 16 * 1024;
