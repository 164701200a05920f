//! A client with a protocol of its own, which uses nothing of ours but the WebSocket.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::SessionHandle;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::patience::within;
use crate::server::Server;
use crate::socket::{Request, Socket};

/// One WebSocket without a subprotocol. It answers pings only while it is read. Dropping it closes
/// the TCP connection without a close frame.
#[derive(Debug)]
pub struct PlainClient {
    socket: Socket,
}

impl PlainClient {
    /// Opens a WebSocket with any subprotocols, or none.
    ///
    /// # Errors
    /// Returns the HTTP status of an answer that is not an upgrade.
    ///
    /// # Panics
    /// Panics if there is no HTTP answer, or if the server selected a subprotocol that was not
    /// offered.
    pub async fn open(request: &Request) -> Result<Self, u16> {
        match within("an answer to the upgrade request", request.open()).await {
            Ok(socket) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        }
    }

    /// Connects a client directly to this session.
    ///
    /// # Panics
    /// Panics if the request is not upgraded.
    pub async fn connect(server: &Server, session: &SessionHandle) -> Self {
        let request = Request::new(server.address, &session.url()).offering_nothing();
        Self::open(&request).await.expect("a plain session is upgraded")
    }

    /// Connects a client to this session through the proxy.
    ///
    /// # Panics
    /// Panics if the request is not upgraded.
    pub async fn connect_through_proxy(server: &Server, session: &SessionHandle) -> Self {
        let request = Request::new(server.proxy.address(), &session.url()).offering_nothing();
        Self::open(&request).await.expect("a plain session is upgraded")
    }

    /// Writes a binary message.
    ///
    /// # Panics
    /// Panics if the connection is gone.
    pub async fn send(&mut self, message: impl Into<Bytes>) {
        self.write(Message::Binary(message.into()))
            .await
            .expect("the connection accepts the packet");
    }

    /// Writes a binary message to a connection that may be gone.
    pub async fn try_send(&mut self, message: impl Into<Bytes>) {
        let _ = self.write(Message::Binary(message.into())).await;
    }

    /// Writes a text message.
    ///
    /// # Panics
    /// Panics if the connection is gone.
    pub async fn send_text(&mut self, text: &'static str) {
        self.write(Message::text(text))
            .await
            .expect("the connection accepts the packet");
    }

    /// Writes a binary message in two WebSocket frames.
    ///
    /// # Panics
    /// Panics if the connection is gone.
    pub async fn send_in_two(&mut self, first: &'static str, second: &'static str) {
        let begin = Frame::message(first, OpCode::Data(Data::Binary), false);
        let end = Frame::message(second, OpCode::Data(Data::Continue), true);
        for frame in [begin, end] {
            self.write(Message::Frame(frame))
                .await
                .expect("the connection accepts the packet");
        }
    }

    /// Reads the next message, which must be binary.
    ///
    /// # Panics
    /// Panics if anything else arrives.
    pub async fn recv(&mut self) -> Bytes {
        match self.read().await {
            Ok(message) => message,
            Err(code) => panic!("closed with {code} instead of a message"),
        }
    }

    /// Reads the next message.
    ///
    /// # Errors
    /// Returns the close code if the connection ends: 1005 for a close without a code, and 1006 for
    /// an end without a close.
    ///
    /// # Panics
    /// Panics if a text message arrives.
    pub async fn read(&mut self) -> Result<Bytes, u16> {
        loop {
            return match within("the server says something", self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => Ok(bytes),
                Some(Ok(Message::Close(frame))) => Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("the session sends binary messages only: {other:?}"),
                Some(Err(_)) | None => Err(1006),
            };
        }
    }

    /// Reads up to the close, and returns its code as [`PlainClient::read`] does.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.read().await {
                return code;
            }
        }
    }

    /// Reads until the server has sent this many pings.
    ///
    /// # Panics
    /// Panics if anything else arrives.
    pub async fn wait_for_pings(&mut self, count: usize) {
        for _ in 0..count {
            match within("a ping", self.socket.next()).await {
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("expected a ping, got {other:?}"),
            }
        }
    }

    async fn write(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        within("the connection accepts the packet", self.socket.send(message)).await
    }
}
