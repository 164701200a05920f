//! The seam to transports: the packets that a connection carries, and how it fails.

use std::fmt;

use bytes::Bytes;
use futures_util::{Sink, Stream};

/// What a transport carries.
#[derive(Clone, PartialEq, Eq)]
pub enum Packet {
    /// One frame; for a plain session, one message.
    Binary(Bytes),
    /// A text message, as UTF-8: never ours, and never sent. Plain sessions may take it.
    Text(Bytes),
    /// The peer is asked for a sign of life, by the transport's own means; the answer is [`Packet::Other`]. Sent to clients of plain sessions only.
    Ping,
    /// The peer closes, or is to be told that we do, with this code.
    Close(u16),
    /// Something of the transport's own, such as its pings.
    Other,
}

/// Without the bytes: those of a hello hold the session's secret.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Text(bytes) => write!(f, "Text({} bytes)", bytes.len()),
            Self::Ping => f.write_str("Ping"),
            Self::Close(code) => write!(f, "Close({code})"),
            Self::Other => f.write_str("Other"),
        }
    }
}

/// Why a transport can carry no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent a packet above the transport's limit.
    #[error("a packet above the limit")]
    TooLarge,
    /// The peer gives no sign of life, as a transport finds out that has a keep-alive of its own.
    #[error("the peer is silent")]
    Silent,
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A duplex stream of packets to one browser, ordered and reliable while it lives. Deliberately not `Send`: actix's are not.
pub trait Connection: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}

impl<C> Connection for C where C: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}
