//! Opens a WebSocket as a browser does.

use std::net::SocketAddr;

use stillhere::wire::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};

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
                    .insert(name, HeaderValue::from_str(value).expect("a header's value"));
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
