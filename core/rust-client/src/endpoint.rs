//! The address of a session, and HTTP requests to it.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use stillhere_proto::Limits;
use stillhere_proto::wire::{DATA_HEADER_MAX, SUBPROTOCOL};
use tokio::net::TcpStream;
use url::Url;

use crate::connection::ConnectionError;

/// The address of a session, and the headers of requests to it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The session's URL, with the scheme `http` or `https`.
    pub url: Url,
    /// Headers of every request, such as `cookie` and `origin`. A `host` header replaces the URL's
    /// host.
    pub headers: HeaderMap,
    /// The subprotocol to offer.
    pub protocol: String,
    /// The largest packet to accept, in bytes.
    pub packet_limit: usize,
}

impl Endpoint {
    /// Creates the endpoint of a session with these limits.
    pub fn new(url: Url, headers: HeaderMap, limits: &Limits) -> Self {
        let fragment = usize::try_from(limits.fragment).unwrap_or(usize::MAX);
        Self {
            url,
            headers,
            protocol: SUBPROTOCOL.to_owned(),
            packet_limit: fragment.saturating_add(DATA_HEADER_MAX).max(LARGEST_CONTROL),
        }
    }

    pub(crate) fn authority(&self) -> String {
        authority(&self.url)
    }

    pub(crate) async fn dial(&self) -> Result<TcpStream, ConnectionError> {
        dial(&self.url).await
    }
}

/// Returns the path and the query of a URL.
pub(crate) fn target(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

fn authority(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}

async fn dial(url: &Url) -> Result<TcpStream, ConnectionError> {
    if url.scheme() != "http" {
        return Err(ConnectionError::TlsUnsupported);
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect(format!("{host}:{port}")).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends requests over one TCP connection, one after another.
pub(crate) struct Requests(SendRequest<Full<Bytes>>);

impl Requests {
    pub(crate) async fn open(url: &Url) -> Result<Self, ConnectionError> {
        let stream = dial(url).await?;
        let (requests, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(ConnectionError::transport)?;
        // The task ends when the sender and the pending answer are dropped.
        tokio::spawn(connection);
        Ok(Self(requests))
    }

    /// Sends a request and returns its answer, with any status, as soon as the head has arrived.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target(url).parse().unwrap_or_default();
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("gzip"));
        if let Ok(host) = authority(url).parse() {
            headers.entry(HOST).or_insert(host);
        }
        self.0.ready().await?;
        self.0.send_request(request).await
    }
}

/// Returns an error with the status of the answer and its `Retry-After` time.
pub(crate) fn status_error<T>(response: &Response<T>) -> ConnectionError {
    let retry_after = response.headers().get(RETRY_AFTER);
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    ConnectionError::Status {
        status: response.status().as_u16(),
        retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)),
    }
}

/// The body of an answer, in pieces. Decompresses gzip.
pub(crate) struct Body {
    body: Incoming,
    decoder: Option<GzDecoder<Vec<u8>>>,
    /// Bytes that were received and not yet decompressed.
    rest: Bytes,
}

impl Body {
    /// Reads a body. A body that was encoded more than once is returned as it arrived.
    pub(crate) fn new(response: Response<Incoming>) -> Self {
        let encodings: Vec<_> = response.headers().get_all(CONTENT_ENCODING).iter().collect();
        let decoder = (encodings == ["gzip"]).then(|| GzDecoder::new(Vec::new()));
        Self {
            body: response.into_body(),
            decoder,
            rest: Bytes::new(),
        }
    }

    /// Returns the next piece, which may be empty, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        if self.rest.is_empty() {
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(ConnectionError::transport)?;
            self.rest = frame.into_data().unwrap_or_default();
        }
        let Some(decoder) = &mut self.decoder else {
            return Ok(Some(std::mem::take(&mut self.rest)));
        };
        // A piece may inflate to about a thousand times its size.
        let piece = self.rest.split_to(self.rest.len().min(INFLATED_AT_ONCE));
        decoder.write_all(&piece)?;
        decoder.flush()?;
        Ok(Some(std::mem::take(decoder.get_mut()).into()))
    }
}

/// The largest frame without a payload is `end`, with a text of 512 bytes.
const LARGEST_CONTROL: usize = 1024;

/// Most bytes of gzip to inflate at once.
const INFLATED_AT_ONCE: usize = 1024;

/// Longest `Retry-After` time that the client respects.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
