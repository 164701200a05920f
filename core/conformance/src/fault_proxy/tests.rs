//! Tests of the proxy between real sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::ending::reset;
use super::link::{CHUNK_BYTES, MAX_QUEUED_BYTES};
use super::{ConnectionHandle, Direction, FaultProxy};

pub(super) const ID: &str = "AAECAwQFBgcICQoLDA0-_w";
const OTHER_ID: &str = "BBECAwQFBgcICQoLDA0-_w";
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long a test waits to see that nothing happens.
const NOTHING: Duration = Duration::from_millis(100);

/// A server behind a proxy.
struct Setup {
    server: TcpListener,
    proxy: FaultProxy,
}

/// One connection through the proxy, with both its ends.
struct Ends {
    client: TcpStream,
    server: TcpStream,
    connection: ConnectionHandle,
}

impl Setup {
    async fn start() -> Self {
        let server = TcpListener::bind(ANY_PORT).await.unwrap();
        let proxy = FaultProxy::start(ANY_PORT, server.local_addr().unwrap()).await.unwrap();
        Self { server, proxy }
    }

    async fn connect(&self) -> Ends {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (server, _) = self.server.accept().await.unwrap();
        let local = client.local_addr().unwrap();
        let is_ours = |connection: &ConnectionHandle| connection.client_address() == local;
        let open = self.proxy.wait_until(|open| open.iter().any(is_ours)).await;
        let connection = open.into_iter().find(is_ours).unwrap();
        Ends {
            client,
            server,
            connection,
        }
    }

    async fn connect_session(&self, session_id: &str) -> Ends {
        let mut ends = self.connect().await;
        let request = upgrade_request(session_id);
        ends.client.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read(&mut ends.server, request.len()).await, request.as_bytes());
        ends
    }
}

impl Ends {
    async fn assert_passing(&mut self) {
        self.client.write_all(b"up").await.unwrap();
        assert_eq!(read(&mut self.server, 2).await, b"up");
        self.server.write_all(b"down").await.unwrap();
        assert_eq!(read(&mut self.client, 4).await, b"down");
    }
}

pub(super) fn upgrade_request(session_id: &str) -> String {
    format!("GET /stillhere/{session_id}?v=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n")
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect()
}

async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Reads until the stream ends or breaks, and returns the bytes and the outcome.
async fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).await;
    (bytes, end.map(|_| ()))
}

async fn assert_reset(stream: &mut TcpStream) {
    assert_eq!(read_all(stream).await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Asserts that a new connection is reset, possibly as early as during the connect.
async fn assert_new_one_is_reset(proxy: &FaultProxy) {
    match TcpStream::connect(proxy.address()).await {
        Ok(mut client) => assert_reset(&mut client).await,
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

async fn assert_closed(stream: &mut TcpStream) {
    let (bytes, end) = read_all(stream).await;
    assert_eq!((bytes.len(), end.map_err(|error| error.kind())), (0, Ok(())));
}

/// Asserts that neither bytes nor an end arrive.
async fn assert_nothing_comes(stream: &mut TcpStream) {
    assert!(timeout(NOTHING, stream.read_u8()).await.is_err());
}

/// Writes until the stream takes no more, and returns how many bytes it took.
async fn fill(stream: &mut TcpStream) -> usize {
    let chunk = vec![7; CHUNK_BYTES];
    let mut written = 0;
    while let Ok(count) = timeout(NOTHING, stream.write(&chunk)).await {
        written += count.unwrap();
    }
    written
}

#[tokio::test]
async fn bytes_pass_unaltered_both_ways_and_so_does_a_half_close() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    let sent = pattern(3_000_000);
    let echo = async {
        let (mut from, mut to) = ends.server.split();
        copy(&mut from, &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let (mut from, mut to) = ends.client.split();
    let send = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, _, end) = tokio::join!(echo, send, from.read_to_end(&mut received));
    end.unwrap();
    assert!(received == sent);
    ends.connection.wait_until_closed().await;
    assert_eq!(ends.connection.bytes_passed(Direction::ToUpstream), sent.len() as u64);
    assert_eq!(ends.connection.bytes_passed(Direction::ToClient), sent.len() as u64);
}

#[tokio::test]
async fn a_connection_is_known_by_its_session_id_before_the_server_sees_the_upgrade_request() {
    let setup = Setup::start().await;
    let ends = setup.connect_session(ID).await;
    assert_eq!(ends.connection.session_id().as_deref(), Some(ID));
    let numbers = setup
        .proxy
        .connections_of(ID)
        .iter()
        .map(ConnectionHandle::number)
        .collect::<Vec<_>>();
    assert_eq!(numbers, [ends.connection.number()]);
    assert!(setup.proxy.connections_of(OTHER_ID).is_empty());
}

#[tokio::test]
async fn an_upgrade_on_a_kept_alive_connection_is_recognised_even_if_its_bytes_come_one_by_one() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    let requests = format!(
        "GET /{OTHER_ID} HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /page HTTP/1.1\r\ncontent-length: 15\r\n\r\nno line's end: \
         \r\nPUT / HTTP/1.1\nTransfer-Encoding: gzip, chunked\n\n\
         4;a=b\r\n\r\n\r\n\r\n1F\r\n{:31}\r\n0\r\nA: b\r\n\r\n{}",
        "GET / HTTP/1.1",
        upgrade_request(ID)
    );
    for byte in requests.as_bytes() {
        assert_eq!(ends.connection.session_id(), None);
        ends.client.write_all(&[*byte]).await.unwrap();
        assert_eq!(read(&mut ends.server, 1).await, [*byte]);
    }
    assert_eq!(ends.connection.session_id().as_deref(), Some(ID));
    ends.assert_passing().await;
}

#[tokio::test]
async fn the_newest_connection_of_a_session_is_last() {
    let setup = Setup::start().await;
    let [first, other, second] = [
        setup.connect_session(ID).await,
        setup.connect_session(OTHER_ID).await,
        setup.connect_session(ID).await,
    ];
    let of_session = setup.proxy.wait_for_connections_of(ID, 2).await;
    let numbers = of_session.iter().map(ConnectionHandle::number).collect::<Vec<_>>();
    assert_eq!(numbers, [first.connection.number(), second.connection.number()]);

    first.connection.reset();
    assert_eq!(setup.proxy.connections_of(ID).len(), 1);
    assert!(other.connection.is_open());
    assert_eq!(setup.proxy.wait_for_connections(2).await.len(), 2);
}

#[tokio::test]
async fn a_fault_spares_the_other_connections() {
    let setup = Setup::start().await;
    let [mut broken, mut spared] = [setup.connect_session(ID).await, setup.connect_session(ID).await];
    broken.connection.reset();
    assert_reset(&mut broken.client).await;
    spared.assert_passing().await;
}

#[tokio::test]
async fn cut_closes_both_sides_in_order_even_if_bytes_are_unread() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.connection.silence();
    ends.client.write_all(b"unread").await.unwrap();
    ends.server.write_all(b"unread").await.unwrap();
    ends.connection.cut();
    assert!(!ends.connection.is_open());
    assert_closed(&mut ends.client).await;
    assert_closed(&mut ends.server).await;
    ends.connection.wait_until_closed().await;
}

#[tokio::test]
async fn reset_resets_both_sides() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.assert_passing().await;
    ends.connection.reset();
    assert!(!ends.connection.is_open());
    assert_reset(&mut ends.client).await;
    assert_reset(&mut ends.server).await;
    ends.connection.wait_until_closed().await;
    assert!(setup.proxy.connections().is_empty());
}

#[tokio::test]
async fn a_connection_told_to_end_obeys_no_further_faults() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.connection.reset();
    ends.connection.silence();
    ends.connection.resume();
    ends.connection.cut();
    assert_reset(&mut ends.client).await;
}

#[tokio::test]
async fn a_silenced_connection_passes_neither_bytes_nor_a_close_until_it_resumes() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.connection.silence();
    ends.client.write_all(b"late").await.unwrap();
    ends.client.shutdown().await.unwrap();
    assert_nothing_comes(&mut ends.server).await;
    ends.server.write_all(b"too").await.unwrap();
    assert_nothing_comes(&mut ends.client).await;
    assert!(ends.connection.is_open());

    ends.connection.resume();
    assert_eq!(read_all(&mut ends.server).await.0, b"late");
    assert_eq!(read(&mut ends.client, 3).await, b"too");
}

#[tokio::test]
async fn a_silenced_connection_hides_even_a_reset() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.connection.silence();
    reset(ends.client);
    assert_nothing_comes(&mut ends.server).await;
    assert!(ends.connection.is_open());
    ends.connection.resume();
    assert_reset(&mut ends.server).await;
}

#[tokio::test]
async fn silence_stops_a_transfer_that_is_under_way() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    fill(&mut ends.server).await;
    ends.connection.silence();
    let passed = ends.connection.bytes_passed(Direction::ToClient);
    let mut received = Vec::new();
    assert!(timeout(NOTHING, ends.client.read_to_end(&mut received)).await.is_err());
    assert_eq!(received.len() as u64, passed);
}

#[tokio::test]
async fn a_black_hole_swallows_what_comes_and_hides_closes() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.connection.black_hole();
    // More than sockets buffer, so the bytes must be read.
    let sent = vec![0; 30_000_000];
    ends.client.write_all(&sent).await.unwrap();
    ends.server.write_all(&sent).await.unwrap();
    ends.client.shutdown().await.unwrap();
    assert_nothing_comes(&mut ends.server).await;
    assert_nothing_comes(&mut ends.client).await;
    assert_eq!(ends.connection.bytes_passed(Direction::ToUpstream), 0);

    ends.connection.resume();
    assert_closed(&mut ends.server).await;
    ends.server.write_all(b"after").await.unwrap();
    drop(ends.server);
    assert!(read_all(&mut ends.client).await.0.ends_with(b"after"));
}

#[tokio::test]
async fn a_stall_delays_everything_and_loses_nothing() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    let start = Instant::now();
    ends.connection.stall(NOTHING);
    ends.assert_passing().await;
    assert!(start.elapsed() >= NOTHING);
    assert!(ends.connection.is_open());

    ends.connection.stall(Duration::MAX);
    ends.client.write_all(b"up").await.unwrap();
    assert_nothing_comes(&mut ends.server).await;
    ends.connection.resume();
    assert_eq!(read(&mut ends.server, 2).await, b"up");
}

#[tokio::test]
async fn cut_after_passes_exactly_so_many_bytes_and_resets_both_sides() {
    for direction in [Direction::ToUpstream, Direction::ToClient] {
        let setup = Setup::start().await;
        for count in [0, 1, 5, 4095, 16_384, 16_385, 99_999] {
            let mut ends = setup.connect().await;
            ends.assert_passing().await;
            let passed = match direction {
                Direction::ToUpstream => 2,
                Direction::ToClient => 4,
            };
            assert!(ends.connection.wait_until_passed(direction, passed).await);
            ends.connection.cut_after(direction, count as u64);
            let (sender, receiver) = match direction {
                Direction::ToUpstream => (&mut ends.client, &mut ends.server),
                Direction::ToClient => (&mut ends.server, &mut ends.client),
            };
            let sent = pattern(100_000);
            // Fails if the reset arrives before the write has finished.
            let (_, (received, end)) = tokio::join!(sender.write_all(&sent), read_all(receiver));
            assert_eq!(received.len(), count);
            assert!(received == sent[..count]);
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
            // A write may have noticed the reset first; then the next operation finds a broken
            // pipe.
            assert!(sender.read_u8().await.is_err());
            ends.connection.wait_until_closed().await;
            assert_eq!(ends.connection.bytes_passed(direction), passed + count as u64);
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn cut_after_is_exact_even_if_the_receiver_has_not_begun_to_read() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    let sent = pattern(3_000_000);
    ends.connection.cut_after(Direction::ToClient, sent.len() as u64);
    ends.server.write_all(&sent).await.unwrap();
    assert_reset(&mut ends.server).await;
    let (received, end) = read_all(&mut ends.client).await;
    assert_eq!(received.len(), sent.len());
    assert!(received == sent);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn waiting_for_bytes_that_will_not_come_ends_with_the_connection() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.assert_passing().await;
    assert!(ends.connection.wait_until_passed(Direction::ToClient, 4).await);
    let connection = ends.connection.clone();
    let (reached, ()) = tokio::join!(connection.wait_until_passed(Direction::ToClient, 5), async {
        ends.connection.cut();
    });
    assert!(!reached);
}

#[tokio::test]
async fn a_delay_holds_each_byte_back_and_keeps_their_order() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    setup.proxy.set_delay(NOTHING);
    let start = Instant::now();
    ends.assert_passing().await;
    assert!(start.elapsed() >= 2 * NOTHING);

    let sent = pattern(3_000_000);
    let mut received = Vec::new();
    let send = async {
        ends.server.write_all(&sent[..2_000_000]).await.unwrap();
        setup.proxy.set_delay(Duration::ZERO);
        ends.server.write_all(&sent[2_000_000..]).await.unwrap();
        drop(ends.server);
    };
    let (_, end) = tokio::join!(send, ends.client.read_to_end(&mut received));
    end.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn a_delay_applies_once_to_all_bytes_in_transit() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    setup.proxy.set_delay(NOTHING);
    let start = Instant::now();
    let sent = pattern(MAX_QUEUED_BYTES);
    let (_, received) = tokio::join!(ends.client.write_all(&sent), read(&mut ends.server, sent.len()));
    assert!(received == sent);
    // One after the other, the chunks would take at least twice this time.
    assert!(start.elapsed() < NOTHING * (MAX_QUEUED_BYTES / CHUNK_BYTES / 2) as u32);
}

#[tokio::test]
async fn a_receiver_that_does_not_read_holds_the_sender_back() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    // With a buffer that grows this would never end.
    let written = fill(&mut ends.client).await;
    drop(ends.client);
    assert_eq!(read_all(&mut ends.server).await.0.len(), written);
}

#[tokio::test]
async fn the_peers_own_reset_and_close_are_passed_on() {
    let setup = Setup::start().await;
    let mut ends = setup.connect().await;
    ends.assert_passing().await;
    reset(ends.server);
    assert_reset(&mut ends.client).await;
    ends.connection.wait_until_closed().await;

    let mut ends = setup.connect().await;
    ends.server.write_all(b"last").await.unwrap();
    drop(ends.server);
    assert_eq!(read_all(&mut ends.client).await.0, b"last");
    assert!(ends.connection.is_open());
    drop(ends.client);
    ends.connection.wait_until_closed().await;
    setup.proxy.wait_for_connections(0).await;
}

#[tokio::test]
async fn new_connections_can_be_refused_and_allowed_again() {
    let setup = Setup::start().await;
    let mut before = setup.connect().await;
    setup.proxy.refuse_new(true);
    assert_new_one_is_reset(&setup.proxy).await;
    before.assert_passing().await;
    setup.proxy.refuse_new(false);
    setup.connect().await.assert_passing().await;
}

#[tokio::test]
async fn new_connections_go_to_a_new_upstream() {
    let mut setup = Setup::start().await;
    let mut before = setup.connect().await;
    let successor = TcpListener::bind(ANY_PORT).await.unwrap();
    setup.proxy.set_upstream(successor.local_addr().unwrap());
    setup.server = successor;
    setup.connect().await.assert_passing().await;
    before.assert_passing().await;
}

#[tokio::test]
async fn without_an_upstream_a_client_is_reset() {
    let setup = Setup::start().await;
    drop(setup.server);
    assert_new_one_is_reset(&setup.proxy).await;
    setup.proxy.wait_for_connections(0).await;
}

#[tokio::test]
async fn dropping_the_last_handle_closes_all_connections_and_the_listener() {
    let Setup { server, proxy } = Setup::start().await;
    let address = proxy.address();
    let setup = Setup {
        server,
        proxy: proxy.clone(),
    };
    let [mut passing, mut silenced] = [setup.connect().await, setup.connect().await];
    silenced.connection.silence();
    drop(setup.proxy);
    passing.assert_passing().await;

    drop(proxy);
    assert_closed(&mut passing.client).await;
    assert_closed(&mut passing.server).await;
    assert_closed(&mut silenced.server).await;
    silenced.connection.wait_until_closed().await;
    assert_eq!(
        TcpStream::connect(address).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}
