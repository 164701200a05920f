//! The page's end of a connection within the process: packets, or the bytes of a WebSocket.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::connection::Packet;
use stillhere::websocket::connection;
use stillhere::{Accepted, PairEnd, connection_pair, run_connection_loop};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// Packets in transit.
const CAPACITY: usize = 64;

/// Bytes in transit.
const BYTES: usize = 64 * 1024;

/// The first byte of a whole binary message (RFC 6455, section 5.2).
const BINARY: u8 = 0x82;

/// A mask follows the length.
const MASKED: u8 = 0x80;

/// How a page is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Packets,
    WebSocket,
}

pub(crate) enum End {
    Packets(PairEnd),
    WebSocket {
        io: DuplexStream,
        /// What is to be written.
        out: BytesMut,
        /// What has been read and not been parsed.
        read: BytesMut,
    },
}

impl End {
    /// Connects, and spawns the server's side.
    pub(crate) fn connect(accepted: Accepted, kind: Kind) -> Self {
        match kind {
            Kind::Packets => {
                let (server, end) = connection_pair(CAPACITY);
                tokio::spawn(run_connection_loop(accepted, server));
                Self::Packets(end)
            }
            Kind::WebSocket => {
                let (server, io) = duplex(BYTES);
                let limit = accepted.packet_limit();
                tokio::spawn(run_connection_loop(accepted, connection(server, Vec::new(), limit)));
                Self::WebSocket {
                    io,
                    out: BytesMut::new(),
                    read: BytesMut::new(),
                }
            }
        }
    }

    /// Takes a frame to send.
    pub(crate) async fn feed(&mut self, frame: Bytes) {
        match self {
            Self::Packets(end) => end.feed(Packet::Binary(frame)).await.expect("the server is there"),
            Self::WebSocket { out, .. } => {
                out.put_u8(BINARY);
                out.put_u8(MASKED | u8::try_from(frame.len()).expect("frames are short"));
                // Zeros as the mask leave the frame as it is.
                out.put_u32(0);
                out.put_slice(&frame);
            }
        }
    }

    pub(crate) async fn flush(&mut self) {
        match self {
            Self::Packets(end) => end.flush().await.expect("the server is there"),
            Self::WebSocket { io, out, .. } => io.write_all_buf(out).await.expect("the server is there"),
        }
    }

    /// Returns the next frame.
    pub(crate) async fn next(&mut self) -> Bytes {
        match self {
            Self::Packets(end) => match end.next().await {
                Some(Ok(Packet::Binary(frame))) => frame,
                _ => panic!("the server sends frames"),
            },
            Self::WebSocket { io, read, .. } => loop {
                if let [first, length, ..] = read[..]
                    && read.len() >= 2 + usize::from(length)
                {
                    assert!(first == BINARY && length < 126, "the server sends short frames");
                    read.advance(2);
                    return read.split_to(length.into()).freeze();
                }
                read.reserve(BYTES);
                assert_ne!(io.read_buf(read).await.expect("the server is there"), 0);
            },
        }
    }
}
