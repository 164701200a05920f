//! Checks the logs of all crates at all levels: [`logs_suite!`](crate::logs_suite) for an adapter's
//! tests.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use stillhere::wire::{Frame, SUBPROTOCOL};
use stillhere::{Hub, SessionHandle, SessionState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::Level;

use crate::application::echo;
use crate::credentials::Credentials;
use crate::patience::within;
use crate::raw_connection::hello;
use crate::server::{Server, credentials, wait_for_state, wait_until_disconnected};
use crate::socket::upgrade;

/// Creates a test that must be alone in its file, because it reads everything that its process
/// logs.
#[macro_export]
macro_rules! logs_suite {
    ($start:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn no_log_shows_a_secret_a_token_or_a_cookie() {
            $crate::logs::no_log_shows_a_secret_a_token_or_a_cookie($start).await;
        }
    };
}

/// Promise 6: no secret is logged. Reads what every crate of the server logs, down to the level
/// TRACE and including the `log` crate.
///
/// The client writes its bytes itself, because WebSocket libraries in this process may log what
/// they send.
///
/// # Panics
/// Panics if that does not hold.
pub async fn no_log_shows_a_secret_a_token_or_a_cookie<F, R>(start: F)
where
    F: Fn(Hub) -> R + Send + Sync + 'static,
    R: Future<Output = SocketAddr> + Send + 'static,
{
    let log = Log::of_this_process();
    let hub = Hub::builder()
        .principal(|request| (request.cookie("login")? == COOKIE).then(|| "ada".to_owned()))
        .build();
    let server = Server::start(hub, start).await;
    let session = server.hub.open_for("ada", echo);
    let credentials = credentials(&session);
    let client = Client {
        address: server.address,
        credentials: credentials.clone(),
    };

    client.resumes_over_web_sockets(&session).await;
    client.falls_back(&session).await;
    client.is_refused().await;
    session.abort("over");
    read_all(client.post(&sending(POLLED, 1, 2)).await).await;
    wait_until_disconnected(&server.hub).await;

    let log = log.text();
    assert!(
        log.contains("TRACE") && log.contains(&session.id().to_string()),
        "not everything is logged, so the test shows nothing: {log}"
    );
    let bytes = [credentials.secret.expose().as_slice(), &WRONG, &STREAMED, &POLLED];
    let shown: Vec<String> = bytes.into_iter().flat_map(shapes).chain([COOKIE.to_owned()]).collect();
    for shown in shown {
        if let Some(at) = log.find(&shown) {
            let around: String = log[..at]
                .chars()
                .rev()
                .take(2_000)
                .collect::<Vec<_>>()
                .iter()
                .rev()
                .collect();
            panic!("the log contains {shown}, after {around}");
        }
    }
}

/// A browser that controls every byte.
struct Client {
    address: SocketAddr,
    credentials: Credentials,
}

impl Client {
    async fn resumes_over_web_sockets(&self, session: &SessionHandle) {
        let whole = self.hello(0, 1);
        let opening = self.web_socket("", &web_socket_frame(0x82, &whole)).await;
        wait_for_state(session, SessionState::Open).await;
        drop(opening);
        wait_for_state(session, SessionState::SoftClosed).await;

        let whole = self.hello(1, 2);
        let (first, rest) = whole.split_at(10);
        let in_parts = [
            web_socket_frame(0x02, first),
            web_socket_frame(0x89, b"a ping between"),
            web_socket_frame(0x80, rest),
        ];
        let mut resuming = self.web_socket("", &[]).await;
        for byte in in_parts.concat() {
            resuming.write_all(&[byte]).await.expect("the connection holds");
            resuming.flush().await.expect("the connection holds");
        }
        wait_for_state(session, SessionState::Open).await;
        drop(resuming);
        wait_for_state(session, SessionState::SoftClosed).await;
    }

    async fn falls_back(&self, session: &SessionHandle) {
        let streamed = self.post(&opening(STREAMED, 0, &self.hello(1, 3))).await;
        wait_for_state(session, SessionState::Open).await;
        read_all(self.post(&sending(STREAMED, 0, 1)).await).await;
        drop(streamed);
        wait_for_state(session, SessionState::SoftClosed).await;

        read_all(self.post(&opening(POLLED, 1_000, &self.hello(1, 4))).await).await;
        read_all(self.post(&sending(POLLED, 1, 1)).await).await;
        wait_for_state(session, SessionState::Open).await;
    }

    /// Makes requests that are refused: by the secret, by the page's origin, and because the
    /// session does not exist.
    async fn is_refused(&self) {
        let right = web_socket_frame(0x82, &self.hello(1, 5));
        let wrong = web_socket_frame(0x82, &with_secret(self.hello(1, 6), WRONG));
        for (headers, hello) in [("", &wrong), ("origin: http://elsewhere.example\r\n", &right)] {
            let mut refused = self.web_socket(headers, hello).await;
            refused.shutdown().await.expect("the connection holds");
            read_all(refused).await;
        }
        read_all(
            self.post(&opening(STREAMED, 0, &with_secret(self.hello(1, 7), WRONG)))
                .await,
        )
        .await;
    }

    fn hello(&self, incarnation: u64, attempt: u64) -> Bytes {
        Frame::Hello(hello(&self.credentials, 1, incarnation, attempt)).to_bytes()
    }

    /// Opens a WebSocket and sends these bytes on it.
    async fn web_socket(&self, headers: &str, bytes: &[u8]) -> TcpStream {
        let headers = format!("sec-websocket-protocol: {SUBPROTOCOL}\r\ncookie: login={COOKIE}\r\n{headers}");
        let mut stream = upgrade(self.connect().await, self.credentials.path(), &headers).await;
        stream.write_all(bytes).await.expect("the connection holds");
        stream
    }

    async fn post(&self, body: &[u8]) -> TcpStream {
        let (path, address, length) = (self.credentials.path(), self.address, body.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/{SUBPROTOCOL}\r\n\
             content-length: {length}\r\ncookie: login={COOKIE}\r\n\r\n"
        );
        self.send(&[head.as_bytes(), body].concat()).await
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("the connection holds");
        stream
    }

    async fn send(&self, request: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request).await.expect("the connection holds");
        stream
    }
}

async fn read_all(mut stream: TcpStream) {
    let mut answer = Vec::new();
    // A server may reset a connection that it no longer needs.
    let _ = within("the answer's end", stream.read_to_end(&mut answer)).await;
    assert!(!answer.is_empty(), "the server answers");
}

fn with_secret(hello: Bytes, secret: [u8; 32]) -> Bytes {
    let mut hello = hello.to_vec();
    hello[1..33].copy_from_slice(&secret);
    hello.into()
}

/// Returns a frame from a client, which masks it, with a payload below 126 bytes.
fn web_socket_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("it is small");
    let mask = [0x12, 0x34, 0x56, 0x78];
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [first, 0x80 | length].into_iter().chain(mask).chain(masked).collect()
}

/// Returns a POST that opens a connection (PROTOCOL.md, section 16).
fn opening(token: [u8; 16], wait: u32, hello: &[u8]) -> Vec<u8> {
    let length = u32::try_from(hello.len()).expect("it is small").to_le_bytes();
    [&[1], &token[..], &wait.to_le_bytes(), &length, hello].concat()
}

/// Returns a POST that sends nothing on a connection.
fn sending(token: [u8; 16], wait: u32, number: u32) -> Vec<u8> {
    [&[2], &token[..], &wait.to_le_bytes(), &number.to_le_bytes()].concat()
}

/// Returns how the beginning and the end of these bytes would appear in a log.
fn shapes(bytes: &[u8]) -> Vec<String> {
    let encoded = URL_SAFE_NO_PAD.encode(bytes);
    let mut shapes = vec![encoded[..8].to_owned(), encoded[encoded.len() - 8..].to_owned()];
    for part in [&bytes[..6], &bytes[bytes.len() - 6..]] {
        let (mut hex, mut escaped) = (String::new(), format!("{:?}", Bytes::copy_from_slice(part)));
        for byte in part {
            write!(hex, "{byte:02x}").expect("writing to a string succeeds");
        }
        let decimal = part.iter().map(u8::to_string).collect::<Vec<_>>();
        escaped = escaped.trim_start_matches("b\"").trim_end_matches('"').to_owned();
        shapes.extend([hex.to_uppercase(), hex, decimal.join(", "), decimal.join(","), escaped]);
        shapes.push(String::from_utf8_lossy(part).into_owned());
    }
    shapes
}

/// Everything that this process logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Starts to record, for the rest of the process.
    fn of_this_process() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const COOKIE: &str = "ada-has-logged-in-with-this";

const WRONG: [u8; 32] = *b"a secret that was never anyone's";

const STREAMED: [u8; 16] = *b"a token streamed";

const POLLED: [u8; 16] = *b"a polled token..";
