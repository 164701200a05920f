//! The seam to transports: the packets that a connection carries, and how it fails.

use std::fmt;

use bytes::Bytes;
use futures_util::{Sink, Stream};

/// A unit that a connection carries.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet {
    /// One frame of the protocol, or one message of a plain session.
    Binary(Bytes),
    /// A text message, as UTF-8. The protocol has none and never sends one; plain sessions may
    /// accept it.
    Text(Bytes),
    /// A keep-alive by the transport's own means, such as a WebSocket ping. The answer arrives as
    /// [`Packet::Other`]. Only clients of plain sessions are sent one.
    Ping,
    /// The close of the connection, in either direction, with its code.
    Close(u16),
    /// Anything else that arrives, such as the transport's own pings and pongs.
    Other,
}

/// Shows the size instead of the bytes, because those of a hello contain the session's secret.
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

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer sent a packet above the transport's limit.
    #[error("a packet exceeds the size limit")]
    TooLarge,
    /// The peer has not answered the transport's own keep-alive.
    #[error("the peer stopped answering")]
    Silent,
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A duplex stream of packets to one browser, ordered and reliable until it fails.
///
/// It need not be `Send`: actix's connections are not.
pub trait Connection: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}

impl<C> Connection for C where C: Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> {}
