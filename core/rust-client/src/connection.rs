//! The interface between a client and the transports that carry its frames.

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
/// The stream ends when the connection ends. After a [`Packet::Close`] was sent, the stream
/// continues until the other side has closed too. Dropping a connection cuts it.
pub trait Connection:
    Stream<Item = Result<Packet, ConnectionError>> + Sink<Packet, Error = ConnectionError> + Send + Unpin
{
    /// Returns the name of the kind of connection, for
    /// [`Status::Connected`](crate::Status::Connected).
    fn kind(&self) -> &'static str;
}

/// A connection that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Connection>, ConnectionError>> + Send>>;

/// Opens the connections of one client.
///
/// The default connector opens WebSockets and falls back to HTTP. Implement another one for your
/// own transports, or for tests that refuse, cut or stop connections, and pass it to
/// [`ClientBuilder::build`](crate::ClientBuilder::build).
pub trait Connector: Send {
    /// Starts to open a connection. The client drops the future to abandon the attempt.
    fn connect(&mut self) -> Opening;

    /// Receives each event of the client's machine, before the status changes.
    fn observe(&mut self, _event: &DocumentEvent) {}
}

/// Why a connection could not be opened, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// A packet is larger than the session's limits allow.
    #[error("the server sent a packet that exceeds the session's limits")]
    TooLarge,
    /// The server sent nothing in time.
    #[error("the server did not answer in time")]
    Silent,
    /// An HTTP request was answered with an unexpected status.
    #[error("the server answered with HTTP status {status}")]
    Status {
        /// The status code.
        status: u16,
        /// How long the client should wait, from the `Retry-After` header.
        retry_after: Option<Duration>,
    },
    /// An HTTP answer with status 200 did not come from a stillhere server, as its content type
    /// shows.
    #[error("the answer has content type {0:?}, so it is not from a stillhere server")]
    Foreign(String),
    /// The URL needs TLS, which this crate does not include.
    #[error("https and wss need TLS, which stillhere-client does not include: pass a Connector that supports it")]
    TlsUnsupported,
    /// The network failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The transport failed with an error of its own.
    #[error(transparent)]
    Transport(Box<dyn Error + Send + Sync>),
}

impl ConnectionError {
    pub(crate) fn transport(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Transport(error.into())
    }
}
