//! A WebSocket as a connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::HeaderValue;
use http::header::{HOST, SEC_WEBSOCKET_PROTOCOL};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::connection::{Connection, ConnectionError, Packet};
use crate::endpoint::{Endpoint, status_error, target};

/// A WebSocket to a session.
#[derive(Debug)]
pub struct WebSocket(WebSocketStream<TcpStream>);

impl WebSocket {
    /// Opens a WebSocket.
    ///
    /// # Errors
    /// Returns a [`ConnectionError`] if the server cannot be reached, or if it does not upgrade to
    /// the offered subprotocol.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, ConnectionError> {
        let stream = endpoint.dial().await?;
        let address = format!("ws://{}{}", endpoint.authority(), target(&endpoint.url));
        let mut request = address.into_client_request().map_err(failure)?;
        let headers = request.headers_mut();
        for (name, value) in &endpoint.headers {
            headers.append(name, value.clone());
        }
        if let Some(host) = endpoint.headers.get(HOST) {
            headers.insert(HOST, host.clone());
        }
        let protocol = HeaderValue::from_str(&endpoint.protocol).map_err(ConnectionError::transport)?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_frame_size(Some(endpoint.packet_limit))
            .max_message_size(Some(endpoint.packet_limit));
        let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (socket, _) = opening.await.map_err(failure)?;
        Ok(Self(socket))
    }
}

impl Connection for WebSocket {
    fn kind(&self) -> &'static str {
        "websocket"
    }
}

impl Stream for WebSocket {
    type Item = Result<Packet, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let packet = match ready!(self.0.poll_next_unpin(context)) {
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Binary(bytes))) => Some(Ok(Packet::Frame(bytes))),
                Some(Ok(Message::Text(_))) => Some(Ok(Packet::Frame(Bytes::new()))),
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(NO_CODE, |frame| frame.code.into());
                    Some(Ok(Packet::Close(code)))
                }
                Some(Err(error)) => Some(Err(failure(error))),
                None => None,
            };
            return Poll::Ready(packet);
        }
    }
}

impl Sink<Packet> for WebSocket {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready_unpin(context).map_err(failure)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> Result<(), Self::Error> {
        let message = match packet {
            Packet::Frame(bytes) => Message::Binary(bytes),
            Packet::Close(code) => Message::Close(Some(CloseFrame {
                code: code.into(),
                reason: "".into(),
            })),
        };
        self.0.start_send_unpin(message).map_err(failure)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_flush_unpin(context).map_err(failure)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_close_unpin(context).map_err(failure)
    }
}

fn failure(error: Error) -> ConnectionError {
    match error {
        Error::Capacity(_) => ConnectionError::TooLarge,
        Error::Http(response) => status_error(&response),
        Error::Io(error) => ConnectionError::Io(error),
        error => ConnectionError::transport(error),
    }
}

/// The code of a close frame without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;

/// Size of the read buffer, and of the write buffer that gathers frames.
const BUFFER: usize = 16 * 1024;
