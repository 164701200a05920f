//! The numbered POSTs of one connection, sent one at a time (PROTOCOL.md, section 16).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use stillhere_proto::wire::SUBPROTOCOL;

use crate::connection::ConnectionError;
use crate::endpoint::{Body, Endpoint, Requests, status_error};
use crate::random::random;

pub(crate) struct Posts {
    endpoint: Endpoint,
    headers: HeaderMap,
    token: [u8; 16],
    /// How long an answer may take; `None` for a streamed connection.
    wait: Option<Duration>,
    /// Number of the last POST that sends.
    number: u32,
    /// True once a frame was sent. Until then answers must not wait, because the hello would wait
    /// as long.
    has_sent: bool,
    /// Largest size in bytes of a POST with several frames.
    most: usize,
    requests: Option<Requests>,
}

impl Posts {
    pub(crate) fn new(endpoint: Endpoint, wait: Option<Duration>) -> Self {
        let mut headers = endpoint.headers.clone();
        let content_type = HeaderValue::from_str(&format!("application/{}", endpoint.protocol));
        if let Ok(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        Self {
            endpoint,
            headers,
            token: random(),
            wait,
            number: 0,
            has_sent: false,
            most: LARGEST,
            requests: None,
        }
    }

    pub(crate) fn is_streamed(&self) -> bool {
        self.wait.is_none()
    }

    pub(crate) fn packet_limit(&self) -> usize {
        self.endpoint.packet_limit
    }

    /// Opens the connection with as many of these frames as fit, and removes them from the queue.
    pub(crate) async fn open(&mut self, frames: &mut VecDeque<Bytes>) -> Result<Body, ConnectionError> {
        let mut packets = BytesMut::new();
        self.has_sent = take(frames, &mut packets, LARGEST_OPENING) > 0;
        let mut body = self.head(OPEN, !frames.is_empty());
        body.put(packets);
        let response = self.request(body.freeze()).await.map_err(Failure::into_error)?;
        if self.is_streamed() {
            // The streamed answer occupies its TCP connection until it ends.
            self.requests = None;
        }
        accept(response)
    }

    /// Sends as many of these frames as fit, and removes them from the queue.
    pub(crate) async fn send(&mut self, frames: &mut VecDeque<Bytes>) -> Result<Body, ConnectionError> {
        self.number += 1;
        loop {
            let all = frames.clone();
            let mut body = BytesMut::new();
            let count = take(frames, &mut body, self.most);
            self.has_sent |= count > 0;
            let mut post = self.head(SEND, !frames.is_empty());
            post.put_u32_le(self.number);
            post.put(body);
            let post = post.freeze();
            let response = match self.request(post.clone()).await {
                // Servers close idle TCP connections. A POST of a streamed connection may be
                // repeated.
                Err(Failure::Request(_)) if self.is_streamed() => self.request(post.clone()).await,
                done => done,
            };
            let response = response.map_err(Failure::into_error)?;
            if response.status() == StatusCode::PAYLOAD_TOO_LARGE && count > 1 {
                self.most = post.len() / 2;
                *frames = all;
                continue;
            }
            return accept(response);
        }
    }

    fn head(&self, operation: u8, is_urgent: bool) -> BytesMut {
        let wait = match self.wait {
            None => 0,
            Some(_) if is_urgent || !self.has_sent => 1,
            Some(wait) => u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1),
        };
        let mut body = BytesMut::new();
        body.put_u8(operation);
        body.put_slice(&self.token);
        body.put_u32_le(wait);
        body
    }

    async fn request(&mut self, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let mut requests = match self.requests.take() {
            Some(requests) => requests,
            None => Requests::open(&self.endpoint.url).await.map_err(Failure::Connection)?,
        };
        let sent = requests.send(Method::POST, &self.endpoint.url, self.headers.clone(), body);
        let response = sent.await.map_err(Failure::Request)?;
        self.requests = Some(requests);
        Ok(response)
    }
}

enum Failure {
    /// No TCP connection could be opened.
    Connection(ConnectionError),
    /// The request or its answer was lost.
    Request(hyper::Error),
}

impl Failure {
    fn into_error(self) -> ConnectionError {
        match self {
            Self::Connection(error) => error,
            Self::Request(error) => ConnectionError::transport(error),
        }
    }
}

/// Returns the body of an answer, if the answer comes from a stillhere server.
fn accept(response: Response<Incoming>) -> Result<Body, ConnectionError> {
    if response.status() != StatusCode::OK {
        return Err(status_error(&response));
    }
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .map_or(&[][..], HeaderValue::as_bytes);
    if kind.strip_prefix(b"application/") != Some(SUBPROTOCOL.as_bytes()) {
        let kind = String::from_utf8_lossy(&kind[..kind.len().min(LONGEST_NAME)]);
        return Err(ConnectionError::Foreign(kind.into_owned()));
    }
    Ok(Body::new(response))
}

/// Moves frames into a body, each preceded by its length, until the body is large enough or the
/// next frame would not fit. Returns the number of frames moved, which is at least one if there are
/// any.
fn take(frames: &mut VecDeque<Bytes>, body: &mut BytesMut, most: usize) -> usize {
    let mut count = 0;
    while let Some(frame) = frames.front() {
        if count > 0 && (body.len() >= ENOUGH || body.len() + 4 + frame.len() > most) {
            break;
        }
        body.put_u32_le(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        body.put_slice(frame);
        frames.pop_front();
        count += 1;
    }
    count
}

/// Operations of a POST.
const OPEN: u8 = 1;
const SEND: u8 = 2;

/// Most bytes that the server accepts in one POST, without the head.
const LARGEST: usize = 1024 * 1024 - 25;

/// Most bytes that the server accepts in a POST that opens a connection, without the head.
const LARGEST_OPENING: usize = 4096 - 21;

/// Size in bytes from which no further frame is added to a POST.
const ENOUGH: usize = 64 * 1024;

/// Most bytes of an unexpected content type to report.
const LONGEST_NAME: usize = 100;
