//! Opens a WebSocket as a browser does, or upgrades a TCP connection for a case that writes its own
//! bytes.

use std::net::SocketAddr;

use stillhere::wire::SUBPROTOCOL;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};

use crate::patience::within;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A WebSocket request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Address of the server.
    pub address: SocketAddr,
    /// Path, with its leading slash.
    pub path: String,
    /// Subprotocols to offer, separated by commas.
    pub protocols: Option<String>,
    /// Origin of the page, or `None` for a client that is not a browser.
    pub origin: Option<String>,
    /// Value of the `Cookie` header.
    pub cookie: Option<String>,
    /// Value of the `Host` header, if it is not the address.
    pub host: Option<String>,
}

impl Request {
    /// Creates a request that offers our subprotocol and has no origin.
    pub fn new(address: SocketAddr, path: &str) -> Self {
        Self {
            address,
            path: path.to_owned(),
            protocols: Some(SUBPROTOCOL.to_owned()),
            origin: None,
            cookie: None,
            host: None,
        }
    }

    /// Returns the request with these cookies.
    pub fn with_cookie(self, cookie: &str) -> Self {
        Self {
            cookie: Some(cookie.to_owned()),
            ..self
        }
    }

    /// Returns the request with these subprotocols.
    pub fn offering(self, protocols: &str) -> Self {
        Self {
            protocols: Some(protocols.to_owned()),
            ..self
        }
    }

    /// Returns the request without a subprotocol.
    pub fn offering_nothing(self) -> Self {
        Self {
            protocols: None,
            ..self
        }
    }

    /// Returns the request from a page of this origin.
    pub fn from_origin(self, origin: &str) -> Self {
        Self {
            origin: Some(origin.to_owned()),
            ..self
        }
    }

    /// Returns the request to this host.
    pub fn to_host(self, host: &str) -> Self {
        Self {
            host: Some(host.to_owned()),
            ..self
        }
    }

    pub(crate) async fn open(&self) -> Result<Socket, tungstenite::Error> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{}{}", self.address, self.path).into_client_request()?;
        let optional = [
            (header::SEC_WEBSOCKET_PROTOCOL, &self.protocols),
            (header::ORIGIN, &self.origin),
            (header::COOKIE, &self.cookie),
            (header::HOST, &self.host),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                request
                    .headers_mut()
                    .insert(name, HeaderValue::from_str(value).expect("the header's value is valid"));
            }
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .write_buffer_size(16 * 1024)
            .max_message_size(None)
            .max_frame_size(None);
        let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        Ok(socket)
    }
}

/// Sends an upgrade request on a TCP connection and reads the answer. `headers` are further header
/// lines, each with its line break.
///
/// # Panics
/// Panics if the server does not upgrade the connection.
pub async fn upgrade(mut stream: TcpStream, path: &str, headers: &str) -> TcpStream {
    let address = stream.peer_addr().expect("the stream is connected");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads the request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = within("the answer to the upgrade request", stream.read_u8()).await;
        head.push(byte.expect("the server answers"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}
