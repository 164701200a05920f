//! Measures what a peer makes a server hold, in live bytes of the process:
//! [`memory_suite!`](crate::memory_suite) for an adapter's tests.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

pub use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stillhere::wire::{Frame, SUBPROTOCOL};
use stillhere::{Hub, PlainOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::application::never_reads;
use crate::patience::within;
use crate::raw_connection::{hello, received};
use crate::server::{Server, credentials, wait_until_disconnected};
use crate::socket::upgrade;

/// Creates a test that must be alone in its file, because it counts what its process allocates.
#[macro_export]
macro_rules! memory_suite {
    ($start:ident) => {
        #[global_allocator]
        static ALLOCATOR: &$crate::memory::StatsAlloc<std::alloc::System> = &$crate::memory::INSTRUMENTED_SYSTEM;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_peer_that_never_reads_holds_little_whatever_it_sends() {
            $crate::memory::a_peer_that_never_reads_holds_little_whatever_it_sends($start).await;
        }
    };
}

/// Promise 6: a peer cannot make anything grow without bound, such as the answers to a flood of
/// pings that it does not read: before a hello, after the welcome, and in a plain session.
///
/// # Panics
/// Panics if that does not hold.
pub async fn a_peer_that_never_reads_holds_little_whatever_it_sends<F, R>(start: F)
where
    F: Fn(Hub) -> R + Send + Sync + 'static,
    R: Future<Output = SocketAddr> + Send + 'static,
{
    let server = Server::start(Hub::new(), start).await;
    let session = server.hub.open(never_reads);
    let credentials = credentials(&session);
    let hello = Frame::Hello(hello(&credentials, 1, 0, 1));
    let ack = Frame::Ack(received(0));
    let plain = server.hub.open_plain(PlainOptions::default(), never_reads);
    let plain = format!("/stillhere/{}", plain.id());

    let mut silent = Peer::connect(server.address, credentials.path(), Some(SUBPROTOCOL)).await;
    let held = silent.flood(&[]).await;
    assert!(held < BOUND, "{held} bytes before the hello");
    drop(silent);
    wait_until_disconnected(&server.hub).await;

    let mut welcomed = Peer::connect(server.address, credentials.path(), Some(SUBPROTOCOL)).await;
    welcomed.write(&masked(BINARY, &hello.to_bytes())).await;
    // An occasional acknowledgement shows that the client is alive.
    let held = welcomed.flood(&masked(BINARY, &ack.to_bytes())).await;
    assert!(held < BOUND, "{held} bytes after the welcome");
    drop(welcomed);
    wait_until_disconnected(&server.hub).await;

    let message = server.hub.session_options().limits.message as usize;
    let held = Peer::connect(server.address, &plain, None).await.flood(&[]).await;
    assert!(held < 2 * message + BOUND, "{held} bytes in a plain session");
}

/// The client's end of a WebSocket from which nothing is read once it is open.
struct Peer(TcpStream);

impl Peer {
    async fn connect(address: SocketAddr, path: &str, protocol: Option<&str>) -> Self {
        let socket = TcpSocket::new_v4().expect("the system has sockets left");
        // A small buffer in the kernel, so that the server has to keep the rest itself.
        socket
            .set_recv_buffer_size(4096)
            .expect("a socket's buffer can be small");
        let stream = within("a connection", socket.connect(address)).await;
        let stream = stream.expect("the server listens");
        let protocol = protocol.map_or_else(String::new, |name| format!("sec-websocket-protocol: {name}\r\n"));
        Self(upgrade(stream, path, &protocol).await)
    }

    async fn write(&mut self, bytes: &[u8]) {
        let written = within("the server reads the frame", self.0.write_all(bytes)).await;
        written.expect("the server reads");
    }

    /// Sends pings until the server accepts no more, closes, or has accepted many times what it may
    /// hold. Returns by how many bytes the process grew.
    async fn flood(&mut self, between: &[u8]) -> usize {
        let mut pings = masked(PING, &[b'x'; 125]).repeat(400);
        pings.extend(between);
        let before = live_bytes();
        let mut most = 0;
        for _ in 0..FLOOD / pings.len() {
            let Ok(Ok(())) = tokio::time::timeout(STALLED, self.0.write_all(&pings)).await else {
                break;
            };
            most = most.max(live_bytes().saturating_sub(before));
        }
        most
    }
}

/// Returns a WebSocket frame of a client, with a mask of 0.
fn masked(code: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
    let head = [0x80 | code, 0x80 | length.expect("the frame is short"), 0, 0, 0, 0];
    [&head, payload].concat()
}

fn live_bytes() -> usize {
    let stats = INSTRUMENTED_SYSTEM.stats();
    assert!(stats.bytes_allocated > 0, "the program's allocator counts");
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Limit in addition to the messages of a plain session. Frameworks have buffers of their own (up
/// to 600 kB were measured on actix). Without a bound the growth is above 2 MB, because the kernel
/// takes the rest.
const BOUND: usize = 1024 * 1024;

/// Far more than the kernel buffers.
const FLOOD: usize = 8 << 20;

/// A server that accepts nothing for this long has stopped reading.
const STALLED: Duration = Duration::from_secs(1);

const BINARY: u8 = 2;
const PING: u8 = 9;
