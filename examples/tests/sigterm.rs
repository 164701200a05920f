//! After SIGTERM, the demo tells every browser when to reconnect and ends within its deadline, on
//! each framework.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use stillhere::code::Code;
use stillhere::machine::Outcome;
use stillhere_conformance::browser::Browser;
use stillhere_conformance::http;
use stillhere_conformance::program::Program;
use stillhere_examples::Demo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CLIENTS: usize = 500;

/// Time that connections get after the deadline: for the hub to send the reason, and for actix,
/// which checks once a second.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_are_drained_on_axum() {
    drain(env!("CARGO_BIN_EXE_axum")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_are_drained_on_actix() {
    drain(env!("CARGO_BIN_EXE_actix")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_are_drained_on_warp() {
    drain(env!("CARGO_BIN_EXE_warp")).await;
}

async fn drain(path: &str) {
    let mut demo = Program::start(path, &[]).await;
    let _idle = (kept_alive(demo.address).await, half_a_request(demo.address).await);
    let clients: Vec<_> = stream::iter(0..CLIENTS)
        .map(|_| connect(demo.address))
        .buffer_unordered(32)
        .collect()
        .await;

    demo.terminate().await;
    let began = Instant::now();
    let mut hints = BTreeSet::new();
    for client in &clients {
        let end = client.session_end().await;
        assert_eq!((end.code, end.unacknowledged), (Code::Draining as u64, 0), "{end:?}");
        hints.insert(end.retry_after);
    }
    let status = demo.exit().await;

    assert_eq!(status.code(), Some(0));
    assert!(
        began.elapsed() < Demo::DEFAULT_DRAIN + LAST_WORDS,
        "{:?}",
        began.elapsed()
    );
    assert_spread(&hints);
}

/// Opens a client and waits until it has been answered.
async fn connect(address: SocketAddr) -> Browser {
    let ticket = http::get(address, "/ticket/echo", &[]).await.body;
    let ticket = String::from_utf8(ticket).expect("a ticket is text");
    let client = Browser::connect(address, &ticket);
    client.wait_for_outcome(Outcome::Opened).await;
    client.send("hello").expect("the session is open");
    assert_eq!(client.recv().await.payload, "hello");
    client
}

/// Opens a connection that stays open after a request, which must not keep the demo running.
async fn kept_alive(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the demo listens");
    let request = b"GET /nothing HTTP/1.1\r\nhost: here\r\n\r\n";
    stream.write_all(request).await.expect("the connection holds");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("the demo answers");
    assert_eq!(&answer, b"HTTP/1.1 404");
    stream
}

/// Sends a request that is never completed. axum and warp would wait for the rest forever.
async fn half_a_request(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the demo listens");
    stream.write_all(b"GET /").await.expect("the connection holds");
    stream
}

/// Asserts that clients do not all reconnect at the same time.
fn assert_spread(hints: &BTreeSet<Duration>) {
    assert_eq!(hints.len(), CLIENTS, "each client gets its own time: {hints:?}");
    let (first, last) = (
        hints.first().expect("there are hints"),
        hints.last().expect("there are hints"),
    );
    assert!(*first >= Duration::from_secs(1), "{first:?}");
    assert!(*last - *first > Demo::DEFAULT_DRAIN / 2, "from {first:?} to {last:?}");
}
