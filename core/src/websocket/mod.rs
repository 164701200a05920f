//! A WebSocket as a connection, over any stream of bytes (feature `websocket`).

mod reader;
mod writer;

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{Sink, Stream};
use sha1::{Digest as _, Sha1};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::{Connection, ConnectionError, Packet};
use reader::{BINARY, CLOSE, Incoming, PING, PONG, ReadError, Reader};
use writer::Writer;

/// Returns the `Sec-WebSocket-Accept` for a request with this key (RFC 6455, section 4.2.2).
///
/// ```
/// let accept = stillhere::websocket::accept_key("dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &str) -> String {
    let hash = Sha1::new()
        .chain_update(key)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(hash.finalize())
}

/// Creates a [`Connection`] from the server's end of a WebSocket whose request has been answered.
/// Use it with a server of your own.
///
/// `io` carries the bytes of the WebSocket. `already_read` is what arrived together with the
/// request, usually nothing. `limit` is the maximum size in bytes of a message from the client:
/// pass [`Accepted::packet_limit`](crate::Accepted::packet_limit). The connection is `Send` if `io`
/// is.
///
/// An idle connection holds at most 1 KiB of buffers. At most 64 KiB and one packet wait for the
/// client to read, whatever it sends in the meantime. A client that breaks RFC 6455 is told the
/// close code 1002, or 1007 for text that is not UTF-8.
pub fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    already_read: Vec<u8>,
    limit: usize,
) -> impl Connection + use<S> {
    OverWebSocket {
        io,
        reader: Reader::new(already_read, limit),
        writer: Writer::default(),
        pong: None,
        is_over_limit: false,
        state: State::Open,
    }
}

struct OverWebSocket<S> {
    io: S,
    reader: Reader,
    writer: Writer,
    /// The answer to the last ping, until there is room for it. Earlier pings need no answer (RFC
    /// 6455, section 5.5.3).
    pong: Option<Bytes>,
    /// True after a message above the limit. Later bytes are read and dropped, because unread bytes
    /// would turn the close into a reset.
    is_over_limit: bool,
    state: State,
}

/// How far the closing handshake has come (RFC 6455, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client has broken the protocol, and the close will say so with this code.
    Broken(u16),
    /// Our close is queued or written.
    Closing,
    /// The client has closed, and our answer is queued or written.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> OverWebSocket<S> {
    /// Writes what is queued, and then the pong.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.writer.poll_write(Pin::new(&mut self.io), context))?;
            match self.pong.take() {
                Some(payload) => self.writer.push(PONG, payload),
                None => return Pin::new(&mut self.io).poll_flush(context),
            }
        }
    }

    fn handle(&mut self, incoming: Incoming) -> Packet {
        match incoming {
            Incoming::Binary(bytes) => Packet::Binary(bytes),
            Incoming::Text(text) => Packet::Text(text),
            Incoming::Ping(payload) => {
                self.pong = (self.state == State::Open).then_some(payload);
                Packet::Other
            }
            Incoming::Pong => Packet::Other,
            Incoming::Close(code) => {
                if self.state == State::Open {
                    self.push_close(code.map(|code| if is_sendable(code) { code } else { PROTOCOL_ERROR }));
                }
                self.state = State::Closed;
                Packet::Close(code.unwrap_or(NO_CODE))
            }
        }
    }

    fn handle_error(&mut self, error: ReadError) -> ConnectionError {
        match error {
            ReadError::Violation(violation) => {
                if self.state == State::Open {
                    self.state = State::Broken(violation.code());
                }
                violation.into()
            }
            ReadError::TooLarge => {
                self.is_over_limit = true;
                ConnectionError::TooLarge
            }
            ReadError::Io(error) => failed(error),
        }
    }

    fn push_close(&mut self, code: Option<u16>) {
        let payload = code.map_or_else(Bytes::new, |code| Bytes::copy_from_slice(&code.to_be_bytes()));
        self.writer.push(CLOSE, payload);
        self.pong = None;
        self.state = State::Closing;
    }

    /// Reads and drops what follows a message above the limit.
    fn poll_drop(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Packet, ConnectionError>>> {
        let mut scratch = [0; 4096];
        let mut scratch = ReadBuf::new(&mut scratch);
        let read = ready!(Pin::new(&mut self.io).poll_read(context, &mut scratch));
        let more = read.is_ok() && !scratch.filled().is_empty();
        Poll::Ready(more.then_some(Ok(Packet::Other)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for OverWebSocket<S> {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.state == State::Closed {
            let _ = ready!(this.poll_written(context));
            return Poll::Ready(None);
        }
        if this.pong.is_some()
            && let Poll::Ready(Err(error)) = this.poll_written(context)
        {
            return Poll::Ready(Some(Err(failed(error))));
        }
        if this.is_over_limit {
            return this.poll_drop(context);
        }
        Poll::Ready(Some(
            match ready!(this.reader.poll_next(Pin::new(&mut this.io), context)) {
                Some(Ok(incoming)) => Ok(this.handle(incoming)),
                Some(Err(error)) => Err(this.handle_error(error)),
                None => Err(failed(io::ErrorKind::UnexpectedEof.into())),
            },
        ))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Packet> for OverWebSocket<S> {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.writer.is_full() || self.pong.is_some() {
            return self.poll_written(context).map_err(failed);
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        match (self.state, packet) {
            (State::Open | State::Broken(_), Packet::Close(code)) => self.push_close(Some(code)),
            (_, Packet::Close(_)) => {}
            (State::Open, Packet::Binary(bytes)) => self.writer.push(BINARY, bytes),
            (State::Open, Packet::Ping) => self.writer.push(PING, Bytes::new()),
            (State::Open, Packet::Text(_) | Packet::Other) => self.writer.push(PONG, Bytes::new()),
            _ => return Err(failed(io::ErrorKind::NotConnected.into())),
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_written(context).map_err(failed)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.state {
            State::Open => self.push_close(None),
            State::Broken(code) => self.push_close(Some(code)),
            State::Closing | State::Closed => {}
        }
        self.poll_written(context).map_err(failed)
    }
}

fn failed(error: io::Error) -> ConnectionError {
    ConnectionError::Failed(error.into())
}

/// Returns true for the codes that a close frame may have (RFC 6455, section 7.4).
fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

const PROTOCOL_ERROR: u16 = 1002;
