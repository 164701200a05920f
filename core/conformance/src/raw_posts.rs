//! A connection of the fallback on which a case sends exactly what it wants, POST by POST
//! (PROTOCOL.md, section 16).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use stillhere::wire::{Frame, Sender};
use tokio::net::TcpStream;

use crate::credentials::Credentials;
use crate::patience::within;

/// One connection over POSTs, without a state machine. Each POST has a TCP connection of its own.
#[derive(Debug)]
pub struct RawPosts {
    address: SocketAddr,
    path: String,
    token: [u8; 16],
    wait: u32,
}

/// The answer to a POST. Dropping it closes its TCP connection.
#[derive(Debug)]
pub struct PostAnswer {
    /// Status code, such as 200.
    pub status: u16,
    body: Incoming,
    rest: BytesMut,
}

impl RawPosts {
    /// Creates a connection with a token of its own. Its answers wait for `wait` milliseconds; with
    /// 0 it is streamed.
    pub fn new(address: SocketAddr, credentials: &Credentials, wait: u32) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut token = [0; 16];
        token[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Self {
            address,
            path: credentials.path().to_owned(),
            token,
            wait,
        }
    }

    /// Returns the same connection, whose next answers wait for `wait` milliseconds.
    pub fn waiting(self, wait: u32) -> Self {
        Self { wait, ..self }
    }

    /// Sends the opening POST with these packets.
    pub async fn open(&self, packets: &[u8]) -> PostAnswer {
        self.post(1, &[], packets).await
    }

    /// Sends a POST with this number and these packets.
    pub async fn send(&self, number: u32, packets: &[u8]) -> PostAnswer {
        self.post(2, &number.to_le_bytes(), packets).await
    }

    async fn post(&self, operation: u8, number: &[u8], packets: &[u8]) -> PostAnswer {
        let mut body = BytesMut::with_capacity(HEAD + packets.len());
        body.put_u8(operation);
        body.put_slice(&self.token);
        body.put_u32_le(self.wait);
        body.put_slice(number);
        body.put_slice(packets);
        let request = Request::post(&self.path)
            .header("host", self.address.to_string())
            .header("content-type", "application/stillhere.v1")
            .body(Full::new(body.freeze()));
        let request = request.expect("it is a request");
        let answer = async {
            connect(self.address)
                .await?
                .send_request(request)
                .await
                .map_err(io::Error::other)
        };
        let answer = within("an answer to a POST", answer)
            .await
            .expect("the connection holds");
        PostAnswer {
            status: answer.status().as_u16(),
            body: answer.into_body(),
            rest: BytesMut::new(),
        }
    }
}

impl PostAnswer {
    /// Returns the next piece of the body, or an empty one at its end.
    ///
    /// # Panics
    /// Panics if the body breaks off.
    pub async fn piece(&mut self) -> Bytes {
        let frame = within("the answer to go on", self.body.frame()).await;
        let piece = frame.map(|frame| frame.expect("the answer is complete").into_data());
        piece.and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the next frame, or `None` at the end of the answer. Skips what only keeps the answer
    /// alive.
    ///
    /// # Panics
    /// Panics if the body breaks off, or ends within a packet.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(packet) = next_packet(&mut self.rest) {
                return Some(Frame::decode(packet, Sender::Server).expect("the server sends frames"));
            }
            let piece = self.piece().await;
            if piece.is_empty() {
                assert!(self.rest.is_empty(), "the answer ends within a packet");
                return None;
            }
            self.rest.put(piece);
        }
    }

    /// Returns all frames up to the end of the answer.
    ///
    /// # Panics
    /// Panics when [`PostAnswer::frame`] does.
    pub async fn frames(mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// Returns true if the answer has status 200 and no packets.
    ///
    /// # Panics
    /// Panics when [`PostAnswer::frame`] does.
    pub async fn is_empty(self) -> bool {
        self.status == 200 && self.frames().await.is_empty()
    }
}

/// Encodes frames, each preceded by its length.
pub fn packed(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    frames.into_iter().flat_map(|frame| framed(&frame.to_bytes())).collect()
}

/// Bytes before the packets in a POST that sends.
pub const HEAD: usize = 25;

/// Opens a TCP connection to the server for requests.
async fn connect(address: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // The task ends when the sender and the answer are dropped.
    tokio::spawn(connection);
    Ok(requests)
}

fn framed(packet: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(u32::try_from(packet.len()).expect("the packet is within the limit"));
    bytes.put_slice(packet);
    bytes.freeze()
}

/// Takes the next packet if it has arrived in full and is not empty.
fn next_packet(rest: &mut BytesMut) -> Option<Bytes> {
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
