//! The seam between a client and whatever carries its frames.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use stillhere_proto::machine::DocumentEvent;

/// One unit that a connection carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// An encoded frame. A connection reports anything else that arrives, such as a text message,
    /// as an empty frame, which is malformed.
    Frame(Bytes),
    /// A close with this code. The connection carries nothing after it.
    Close(u16),
}

/// An open connection to a session.
///
/// The stream ends when the connection is over. After a [`Packet::Close`] was sent, the stream goes
/// on until the other side has closed too. Dropping a connection cuts it.
pub trait Connection:
    Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> + Send + Unpin
{
    /// Names the kind of connection, as [`Status::Connected`](crate::Status::Connected) shows it.
    fn kind(&self) -> &'static str;
}

/// A connection that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, ConnectionError>> + Send>>;

/// Opens the connections of one client.
///
/// The client brings its own connector, which opens WebSockets and falls back to HTTP. Another one
/// is for transports of your own, and for tests that refuse, cut or stop connections. Pass it to
/// [`ClientBuilder::build`](crate::ClientBuilder::build).
pub trait Connector: Send {
    /// Starts to open a connection. The client drops the future to give the attempt up.
    fn connect(&mut self) -> Opening;

    /// Learns what the client's machine reports, before the status changes.
    fn observe(&mut self, _event: &DocumentEvent) {}
}

/// A connection could not be opened, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// A packet is larger than the session's limits allow.
    #[error("the server sent a packet that exceeds the session's limits")]
    TooLarge,
    /// Nothing was heard from the server in time.
    #[error("the server did not answer in time")]
    Silent,
    /// An HTTP request was answered with another status than the one that it needs.
    #[error("the server answered with HTTP status {status}")]
    Status {
        /// The status code.
        status: u16,
        /// How long the answer asks to wait.
        retry_after: Option<Duration>,
    },
    /// An HTTP answer of status 200 does not come from a stillhere server.
    #[error("the answer has content type {0:?}, so it is not from a stillhere server")]
    Foreign(String),
    /// The address needs TLS, which this crate does not bring.
    #[error("https and wss need TLS, which stillhere-client does not include: pass a Connector that supports it")]
    TlsUnsupported,
    /// The network failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The transport's own error.
    #[error(transparent)]
    Transport(Box<dyn Error + Send + Sync>),
}

impl ConnectionError {
    pub(crate) fn transport(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Transport(error.into())
    }
}
