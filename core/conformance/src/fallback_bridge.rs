//! Runs the suite over the fallback: converts WebSockets into HTTP requests, and forwards all other
//! requests unchanged.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use stillhere::connection::Packet;
use stillhere::wire::{Frame, Sender};
use stillhere::{ConnectionError, websocket};
use stillhere_client::{self as client, Endpoint, Fallback};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Starts a bridge to the server at `upstream` and returns its loopback address. Sessions reached
/// through it use the fallback: streamed if `wait` is `None`, polled with that wait otherwise. The
/// bridge runs until the runtime stops.
///
/// # Panics
/// Panics if no loopback port is free.
pub async fn start(upstream: SocketAddr, wait: Option<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("the listener listens");
            let bridge = Bridge { upstream, wait };
            // Both ends notice how the connection ended, so nothing else needs the result.
            tokio::spawn(async move { drop(bridge.serve(stream).await) });
        }
    });
    address
}

#[derive(Debug, Clone, Copy)]
struct Bridge {
    upstream: SocketAddr,
    wait: Option<Duration>,
}

/// The request line and headers, as received.
struct Head {
    bytes: Vec<u8>,
    text: String,
}

impl Head {
    async fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { bytes, text })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.text.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
    }

    /// Returns the subprotocol that a server would select, or `None` if this is not a request for a
    /// WebSocket with one of our subprotocols.
    fn protocol(&self) -> Option<&str> {
        let offered = || {
            self.header("sec-websocket-protocol")
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
        };
        let is_get = self.text.starts_with("GET ");
        let ours = offered().find(|protocol| *protocol == "stillhere.v1");
        ours.or_else(|| offered().find(|protocol| protocol.starts_with("stillhere.")))
            .filter(|_| is_get && self.header("upgrade").is_some())
    }

    fn path(&self) -> &str {
        self.text.split(' ').nth(1).unwrap_or_default()
    }
}

impl Bridge {
    async fn serve(self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let head = Head::read(&mut stream).await?;
        let Some(protocol) = head.protocol() else {
            let mut upstream = TcpStream::connect(self.upstream).await?;
            upstream.write_all(&head.bytes).await?;
            return tokio::io::copy_bidirectional(&mut stream, &mut upstream)
                .await
                .map(drop);
        };
        let key = derive_accept_key(head.header("sec-websocket-key").unwrap_or_default().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {key}\r\nsec-websocket-protocol: {protocol}\r\n\r\n"
        );
        // The server sees the connection before the browser does, as with a real WebSocket.
        let endpoint = self.endpoint(&head, protocol)?;
        let fallback = Fallback::open(&endpoint, self.wait).await.map_err(io::Error::other)?;
        stream.write_all(answer.as_bytes()).await?;
        let connection = Box::pin(websocket::connection(stream, Vec::new(), LARGEST_PACKET));
        let (to_browser, from_browser) = connection.split();
        carry(fallback, to_browser, from_browser).await
    }

    /// Returns the URL and headers of the POSTs that replace this request.
    fn endpoint(self, head: &Head, protocol: &str) -> io::Result<Endpoint> {
        let mut headers = HeaderMap::new();
        let copied: [HeaderName; 3] = [header::HOST, header::ORIGIN, header::COOKIE];
        for name in copied {
            if let Some(value) = head.header(name.as_str()) {
                headers.insert(name, HeaderValue::from_str(value).map_err(io::Error::other)?);
            }
        }
        let url = format!("http://{}{}", self.upstream, head.path());
        Ok(Endpoint {
            url: url.parse().map_err(io::Error::other)?,
            headers,
            protocol: protocol.to_owned(),
            packet_limit: LARGEST_PACKET,
        })
    }
}

/// Forwards packets in both directions until either side ends.
async fn carry(
    fallback: Fallback,
    mut to_browser: impl Sink<Packet, Error = ConnectionError> + Unpin,
    mut from_browser: impl Stream<Item = Result<Packet, ConnectionError>> + Unpin,
) -> io::Result<()> {
    let (mut to_server, mut from_server) = fallback.split();
    let up = async {
        while let Some(packet) = from_browser.next().await {
            let frame = match packet {
                Ok(Packet::Binary(bytes)) => bytes,
                // The fallback carries only frames. An empty one is Malformed, as a text message
                // is.
                Ok(Packet::Text(_)) => Bytes::new(),
                // This exceeds every limit of a session.
                Err(ConnectionError::TooLarge) => vec![0; LARGEST_PACKET + 1].into(),
                Ok(Packet::Close(_)) | Err(_) => break,
                Ok(_) => continue,
            };
            // A session that accepts no more packets may still send some.
            let _ = to_server.send(client::Packet::Frame(frame)).await;
        }
        // The client still posts what was queued. Then the server ends its stream.
        let _ = to_server.close().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        while let Some(Ok(packet)) = from_server.next().await {
            match packet {
                // The end and the close leave in one write, as from a real server.
                client::Packet::Frame(frame) if is_end(&frame) => {
                    to_browser.feed(Packet::Binary(frame)).await?;
                }
                client::Packet::Frame(frame) => to_browser.send(Packet::Binary(frame)).await?,
                client::Packet::Close(code) => {
                    to_browser.send(Packet::Close(code)).await?;
                    // A real server also keeps reading for a while after it closes a WebSocket.
                    tokio::time::sleep(LINGER).await;
                }
            }
        }
        to_browser.close().await
    };
    tokio::select! {
        done = down => done.map_err(io::Error::other),
        () = up => Ok(()),
    }
}

fn is_end(frame: &Bytes) -> bool {
    matches!(Frame::decode(frame.clone(), Sender::Server), Ok(Frame::End(_)))
}

/// Largest WebSocket message in bytes that the bridge accepts: above every limit in the cases.
const LARGEST_PACKET: usize = 512 * 1024;

/// How long to keep reading from the browser after the close.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Request as SocketRequest;

    /// Checks that the bridge does not forward WebSockets. If it did, every case would pass without
    /// testing the fallback.
    #[tokio::test]
    async fn frames_that_a_browser_sends_over_a_web_socket_arrive_as_a_post() {
        let upstream = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = upstream.local_addr().expect("it is bound");
        let bridge = start(address, None).await;
        let browser = tokio::spawn(async move { SocketRequest::new(bridge, "/stillhere/id").open().await.map(drop) });
        let (mut stream, _) = upstream.accept().await.expect("the listener accepts");
        let head = Head::read(&mut stream).await.expect("the client sends a request");
        assert!(head.text.starts_with("POST /stillhere/id HTTP/1.1"), "{}", head.text);
        assert_eq!(head.header("content-type"), Some("application/stillhere.v1"));
        assert_eq!(
            stream.read_u8().await.expect("the request has a body"),
            1,
            "the first byte is that of an opening POST"
        );
        browser.abort();
    }
}
