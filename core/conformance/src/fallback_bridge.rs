//! Runs the suite over the fallback: turns WebSockets into HTTP requests, and forwards everything
//! else unchanged.

use std::future::pending;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::write::GzDecoder;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::CONTENT_ENCODING;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use stillhere::wire::{Frame, Sender};
use stillhere::{ConnectionError, Packet, websocket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Listens on a free port of the loopback interface while the runtime lives. Through it, WebSocket
/// clients reach the sessions of the server at `upstream` over the fallback: streamed if `wait` is
/// `None`, and polled otherwise.
///
/// # Panics
/// Panics if the loopback interface has no free port.
pub async fn start(upstream: SocketAddr, wait: Option<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("the listener listens");
            let bridge = Bridge { upstream, wait };
            // The two ends of a connection learn how it ends; nobody else needs to.
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

/// The lines of a request as they arrived.
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

    /// Returns the subprotocol that a server selects, if this is a WebSocket request that offers
    /// one of ours.
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

    /// Returns 16 random bytes.
    fn nonce(&self) -> [u8; 16] {
        let key = self.header("sec-websocket-key").unwrap_or_default();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(key)
            .unwrap_or_default();
        bytes.try_into().unwrap_or_default()
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
        // The server knows the connection before the browser does, as with a WebSocket of its own.
        let (packets, queued) = mpsc::unbounded_channel();
        let opened = self.open(&head, protocol, queued).await?;
        stream.write_all(answer.as_bytes()).await?;
        let config = WebSocketConfig::default()
            .max_frame_size(Some(LARGEST_PACKET))
            .max_message_size(Some(LARGEST_PACKET));
        let connection = Box::pin(websocket::connection(stream, Vec::new(), config).await);
        let (to_browser, from_browser) = connection.split();
        self.carry(opened, packets, to_browser, from_browser).await
    }
}

/// One connection of the fallback.
struct Exchange {
    bridge: Bridge,
    requests: SendRequest<Full<Bytes>>,
    template: Parts,
    token: [u8; 16],
    /// Number of the last POST.
    number: u32,
    /// Whether the browser has sent something.
    has_spoken: bool,
    /// Packets from the browser, each preceded by its length.
    queued: UnboundedReceiver<Bytes>,
    /// How many polls in a row carried nothing in either direction.
    idle: u32,
}

impl Bridge {
    async fn carry(
        self,
        (exchange, answer): (Exchange, Received),
        packets: UnboundedSender<Bytes>,
        mut to_browser: impl Sink<Packet, Error = ConnectionError> + Unpin,
        from_browser: impl Stream<Item = Result<Packet, ConnectionError>> + Unpin,
    ) -> io::Result<()> {
        let down = async {
            let code = match self.wait {
                None => exchange.stream(answer, &mut to_browser).await?,
                Some(_) => exchange.poll(answer, &mut to_browser).await?,
            };
            if let Some(code) = code {
                to_browser.send(Packet::Close(code)).await.map_err(io::Error::other)?;
                // The server keeps reading for as long over a WebSocket.
                tokio::time::sleep(LINGER).await;
            }
            to_browser.close().await.map_err(io::Error::other)
        };
        // What the browser sent before it went is still forwarded, and then the exchange ends.
        let queueing = async {
            queue(from_browser, packets).await;
            pending::<()>().await;
        };
        tokio::select! {
            done = down => done,
            () = queueing => Ok(()),
        }
    }

    async fn open(
        self,
        head: &Head,
        protocol: &str,
        queued: UnboundedReceiver<Bytes>,
    ) -> io::Result<(Exchange, Received)> {
        let host = head.header("host").unwrap_or_default();
        let mut template = Request::post(head.path())
            .header("content-type", format!("application/{protocol}"))
            .header("accept-encoding", "gzip")
            .header("host", host);
        for name in ["origin", "cookie"] {
            if let Some(value) = head.header(name) {
                template = template.header(name, value);
            }
        }
        let (template, ()) = template.body(()).map_err(io::Error::other)?.into_parts();
        let mut exchange = Exchange {
            bridge: self,
            requests: connect(self.upstream).await?,
            template,
            token: head.nonce(),
            number: 0,
            has_spoken: false,
            queued,
            idle: 0,
        };
        let opening = exchange.header(1);
        let answer = exchange.post(opening).await?;
        // A streamed answer occupies its connection.
        exchange.requests = connect(self.upstream).await?;
        Ok((exchange, answer))
    }
}

/// Opens a TCP connection to the server for requests.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // The task ends when the sender and the answer are dropped.
    tokio::spawn(connection);
    Ok(requests)
}

impl Exchange {
    /// Forwards the answer to the first POST, which carries everything. Its end is the end of the
    /// connection. Returns the close code, if the server gave one.
    async fn stream(
        mut self,
        answer: Received,
        to_browser: &mut (impl Sink<Packet, Error = ConnectionError> + Unpin),
    ) -> io::Result<Option<u16>> {
        let mut code = None;
        let reading = read(answer, to_browser, &mut code);
        let posting = async {
            while let Some(first) = self.queued.recv().await {
                let answer = self.send(Some(first)).await?;
                answer.body.collect().await.map_err(io::Error::other)?;
            }
            io::Result::Ok(())
        };
        tokio::select! {
            biased;
            read = reading => drop(read?),
            posted = posting => posted?,
        }
        Ok(code)
    }

    /// Forwards the answers to all POSTs, each of which carries what is available.
    async fn poll(
        mut self,
        mut answer: Received,
        to_browser: &mut (impl Sink<Packet, Error = ConnectionError> + Unpin),
    ) -> io::Result<Option<u16>> {
        let mut code = None;
        loop {
            let has_read = read(answer, to_browser, &mut code).await?;
            if code.is_some() {
                return Ok(code);
            }
            let first = match tokio::time::timeout(PAUSE, self.queued.recv()).await {
                Ok(None) => {
                    // Leaves a request whose answer nobody reads, as browsers do that disappear.
                    let _ = tokio::time::timeout(VANISHING, self.send(None)).await;
                    return Ok(None);
                }
                Ok(first) => first,
                Err(_) => None,
            };
            self.idle = if has_read || first.is_some() { 0 } else { self.idle + 1 };
            answer = self.send(first).await?;
        }
    }

    /// Sends a POST with this packet and all that are queued.
    async fn send(&mut self, first: Option<Bytes>) -> io::Result<Received> {
        self.number += 1;
        self.has_spoken |= first.is_some();
        let mut packets = BytesMut::new();
        let mut next = first;
        while let Some(packet) = next {
            packets.put(packet);
            next = if packets.len() < ENOUGH {
                self.queued.try_recv().ok()
            } else {
                None
            };
        }
        let mut body = self.header(2);
        body.put_u32_le(self.number);
        body.put(packets);
        self.post(body).await
    }

    fn header(&self, operation: u8) -> BytesMut {
        let wait = match self.bridge.wait {
            None => 0,
            // A thousand idle browsers would otherwise keep a small machine busy with polls.
            Some(wait) if self.has_spoken && self.queued.is_empty() => {
                (wait * (1 + self.idle / 10)).min(LONGEST_WAIT).as_millis()
            }
            // The remaining packets, and the hello, would otherwise wait for the length of an
            // answer.
            Some(_) => 1,
        };
        let mut body = BytesMut::new();
        body.put_u8(operation);
        body.put_slice(&self.token);
        body.put_u32_le(u32::try_from(wait).unwrap_or(u32::MAX));
        body
    }

    async fn post(&mut self, body: BytesMut) -> io::Result<Received> {
        let body = Full::new(body.freeze());
        let response = match self.try_post(body.clone()).await {
            // Servers close connections that are idle for long. A browser then sends the request
            // again.
            Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {
                self.requests = connect(self.bridge.upstream).await?;
                self.try_post(body).await
            }
            done => done,
        };
        let response = response.map_err(io::Error::other)?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(response.status().to_string()));
        }
        Ok(Received::new(response))
    }

    async fn try_post(&mut self, body: Full<Bytes>) -> hyper::Result<Response<Incoming>> {
        self.requests.ready().await?;
        let request = Request::from_parts(self.template.clone(), body);
        self.requests.send_request(request).await
    }
}

/// The body of an answer, read as a browser reads it.
struct Received {
    body: Incoming,
    decoder: Option<GzDecoder<Vec<u8>>>,
}

impl Received {
    /// A body with several encodings, even `identity`, is passed on as it is, as Chromium does.
    fn new(response: Response<Incoming>) -> Self {
        let encodings: Vec<_> = response.headers().get_all(CONTENT_ENCODING).iter().collect();
        let decoder = (encodings == ["gzip"]).then(|| GzDecoder::new(Vec::new()));
        Self {
            body: response.into_body(),
            decoder,
        }
    }

    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let Some(frame) = self.body.frame().await else {
            return Ok(None);
        };
        let data = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
        let Some(decoder) = &mut self.decoder else {
            return Ok(Some(data));
        };
        decoder.write_all(&data)?;
        decoder.flush()?;
        Ok(Some(std::mem::take(decoder.get_mut()).into()))
    }
}

/// Queues what the browser sends until it is gone.
async fn queue(
    mut from_browser: impl Stream<Item = Result<Packet, ConnectionError>> + Unpin,
    packets: UnboundedSender<Bytes>,
) {
    while let Some(packet) = from_browser.next().await {
        let packet = match packet {
            Ok(Packet::Binary(bytes)) => framed(&bytes),
            // The fallback carries only frames. An empty one is malformed, as a text message is.
            Ok(Packet::Text(_)) => framed(&[]),
            // Announces more than was read, because the server judges a packet by its announced
            // length.
            Err(ConnectionError::TooLarge) => Bytes::from_static(&[0xff; 4]),
            Ok(Packet::Close(_)) | Err(_) => return,
            Ok(_) => continue,
        };
        // A session that takes no more may still send something.
        let _ = packets.send(packet);
    }
}

pub(crate) fn framed(packet: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(u32::try_from(packet.len()).expect("within the limit"));
    bytes.put_slice(packet);
    bytes.freeze()
}

/// Forwards the packets of one answer, and returns true if there were any. Sets `code` to that of
/// an `end` among them.
async fn read(
    mut answer: Received,
    to_browser: &mut (impl Sink<Packet, Error = ConnectionError> + Unpin),
    code: &mut Option<u16>,
) -> io::Result<bool> {
    let mut rest = BytesMut::new();
    let mut has_read = false;
    while let Some(chunk) = answer.chunk().await? {
        rest.extend_from_slice(&chunk);
        while let Some(packet) = next_packet(&mut rest) {
            has_read = true;
            if let Ok(Frame::End(end)) = Frame::decode(packet.clone(), Sender::Server) {
                // The close is sent together with the end, as a server does.
                *code = u16::try_from(end.code).ok();
                to_browser
                    .feed(Packet::Binary(packet))
                    .await
                    .map_err(io::Error::other)?;
                return Ok(has_read);
            }
            to_browser
                .send(Packet::Binary(packet))
                .await
                .map_err(io::Error::other)?;
        }
    }
    Ok(has_read)
}

/// Returns the next complete packet. Skips empty ones.
pub(crate) fn next_packet(rest: &mut BytesMut) -> Option<Bytes> {
    loop {
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        if rest.len() < 4 + length {
            return None;
        }
        rest.advance(4);
        if length > 0 {
            return Some(rest.split_to(length).freeze());
        }
    }
}

/// Largest WebSocket message that is read, in bytes. It is above every limit that the cases set.
const LARGEST_PACKET: usize = 512 * 1024;

/// Size in bytes from which a POST takes no more packets.
const ENOUGH: usize = 64 * 1024;

/// Pause between two polls, so that the browser's answer to the first travels with the second.
const PAUSE: Duration = Duration::from_millis(5);

/// Longest wait of a poll, however long nothing has happened.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Time after which a browser that is gone abandons a request.
const VANISHING: Duration = Duration::from_millis(50);

/// How long the bridge reads from the browser after the close.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Request as SocketRequest;

    /// If the bridge let WebSockets through, every case would pass and prove nothing.
    #[tokio::test]
    async fn what_a_browser_says_over_a_web_socket_comes_as_a_post() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = upstream.local_addr().expect("it is bound");
        let bridge = start(address, None).await;
        let browser = tokio::spawn(async move { SocketRequest::new(bridge, "/stillhere/id").open().await.map(drop) });
        let (mut stream, _) = upstream.accept().await.expect("it listens");
        let head = Head::read(&mut stream).await.expect("a request");
        assert!(head.text.starts_with("POST /stillhere/id HTTP/1.1"), "{}", head.text);
        assert_eq!(head.header("content-type"), Some("application/stillhere.v1"));
        assert_eq!(stream.read_u8().await.expect("a body"), 1, "it opens");
        browser.abort();
    }
}
