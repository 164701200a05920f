//! A WebSocket as a connection: against another implementation, and when its peer misbehaves or
//! disappears.

#[path = "support/octets.rs"]
mod octets;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use stillhere::connection::Packet;
use stillhere::websocket::connection;
use stillhere::{Connection, ConnectionError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use octets::octets;

const LIMIT: usize = 100_000;

fn connected(limit: usize) -> (impl Connection + Unpin, DuplexStream) {
    let (ours, peer) = duplex(1 << 16);
    (Box::pin(connection(ours, Vec::new(), limit)), peer)
}

/// Returns the connection, and a client of another implementation behind a pipe of this many bytes.
async fn with_client(pipe: usize) -> (impl Connection + Unpin, WebSocketStream<DuplexStream>) {
    let (ours, peer) = duplex(pipe);
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let client = WebSocketStream::from_raw_socket(peer, Role::Client, Some(config)).await;
    (Box::pin(connection(ours, Vec::new(), LIMIT)), client)
}

/// Returns a frame from a client, whose mask is not 0.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    octets(first, [0x5a, 0x01, 0xff, 0x13], payload)
}

/// Numbers that depend only on the seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// A size that is often next to a boundary of the format or of a buffer.
    fn size(&mut self) -> usize {
        const EDGES: [usize; 10] = [0, 1, 125, 126, 4096, 5120, 16_384, 20_480, 65_535, 65_536];
        match self.below(3) {
            0 => EDGES[self.below(EDGES.len())] + self.below(3),
            1 => self.below(300),
            _ => self.below(LIMIT),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let first = self.below(256);
        (0..self.size()).map(|index| (first + index * 7) as u8).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn another_implementation_reads_what_is_written_and_is_read() {
    for seed in 1..60 {
        let mut random = Random(seed);
        let pipe = 1 + random.below(100_000);
        let (mut ours, client) = with_client(pipe).await;
        let messages: Vec<_> = (0..12).map(|_| Bytes::from(random.payload())).collect();
        let messages = &messages;

        let echo = async move {
            let mut echoed = 0;
            while echoed < messages.len() {
                match ours.next().await.expect("no end").expect("no error") {
                    Packet::Binary(bytes) => {
                        ours.feed(Packet::Binary(bytes)).await.expect("it is open");
                        echoed += 1;
                    }
                    packet => assert_eq!(packet, Packet::Other),
                }
                if random.below(3) > 0 || echoed == messages.len() {
                    ours.flush().await.expect("it is open");
                }
            }
            assert_eq!(
                ours.next().await.expect("the close").expect("no error"),
                Packet::Close(1000)
            );
            assert!(ours.next().await.is_none());
        };
        let (mut sink, mut stream) = client.split();
        let send = async move {
            for message in messages {
                sink.send(Message::Ping(Bytes::from_static(b"?")))
                    .await
                    .expect("it is open");
                let (head, tail) = (message.slice(..message.len() / 3), message.slice(message.len() / 3..));
                if message.len() % 2 == 0 {
                    sink.send(Message::Binary(message.clone())).await.expect("it is open");
                } else {
                    let head = Frame::message(head, OpCode::Data(Data::Binary), false);
                    let tail = Frame::message(tail, OpCode::Data(Data::Continue), true);
                    sink.send(Message::Frame(head)).await.expect("it is open");
                    sink.send(Message::Ping(Bytes::new())).await.expect("it is open");
                    sink.send(Message::Frame(tail)).await.expect("it is open");
                }
            }
            sink
        };
        let receive = async move {
            for message in messages {
                let received = loop {
                    match stream.next().await.expect("no end").expect("no error") {
                        Message::Binary(bytes) => break bytes,
                        message => assert!(message.is_pong(), "seed {seed}: {message:?}"),
                    }
                };
                assert!(received == *message, "seed {seed}, {} bytes", message.len());
            }
            stream
        };
        let browser = async {
            let (mut sink, mut stream) = tokio::join!(send, receive);
            let close = CloseFrame {
                code: 1000.into(),
                reason: "bye".into(),
            };
            sink.send(Message::Close(Some(close))).await.expect("it is open");
            while stream.next().await.is_some() {}
        };
        timeout(Duration::from_secs(60), async { tokio::join!(echo, browser) })
            .await
            .unwrap_or_else(|_| panic!("seed {seed} with a pipe of {pipe} bytes hangs"));
    }
}

#[tokio::test]
async fn a_stream_is_read_the_same_however_its_bytes_arrive() {
    let message: Vec<u8> = (0..30_000).map(|index| index as u8).collect();
    let stream = [
        frame(0x82, b"short"),
        frame(0x82, &message),
        frame(0x01, "zweigetei".as_bytes()),
        frame(0x89, b"ping"),
        frame(0x80, "lt: ä".as_bytes()),
        frame(0x82, b""),
        frame(0x88, &[0x03, 0xe8]),
    ]
    .concat();
    let expected = [
        Packet::Binary(Bytes::from_static(b"short")),
        Packet::Binary(message.into()),
        Packet::Other,
        Packet::Text(Bytes::from_static("zweigeteilt: ä".as_bytes())),
        Packet::Binary(Bytes::new()),
        Packet::Close(1000),
    ];
    let whole = stream.len();
    for (piece, read_before) in [
        (1, 0),
        (3, 1),
        (7, 20),
        (1000, 6),
        (20_479, 0),
        (20_480, 2),
        (20_481, 10),
        (whole, 0),
        (1, whole),
    ] {
        let (ours, mut peer) = duplex(piece);
        let (before, after) = stream.split_at(read_before);
        let mut ours = Box::pin(connection(ours, before.to_vec(), LIMIT));
        let writing = async { peer.write_all(after).await.expect("it is read") };
        let reading = async {
            for packet in &expected {
                let read = ours.next().await.expect("no end").expect("no error");
                assert_eq!(read, *packet, "in pieces of {piece} bytes");
            }
        };
        timeout(Duration::from_secs(60), async { tokio::join!(reading, writing) })
            .await
            .expect("everything arrives");
    }
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_is_told_the_code_for_it() {
    let unmasked = vec![0x82, 1, 7];
    let too_long: [u8; 126] = [0; 126];
    let broken = [
        (unmasked, 1002),
        (frame(0xc2, b"a reserved bit"), 1002),
        (frame(0x83, b"an unknown opcode"), 1002),
        (frame(0x8b, b"an unknown control frame"), 1002),
        (frame(0x09, b"a fragmented ping"), 1002),
        (frame(0x89, &too_long), 1002),
        (frame(0x80, b"a continuation of nothing"), 1002),
        (
            [frame(0x02, b"a fragment"), frame(0x82, b"not its continuation")].concat(),
            1002,
        ),
        (frame(0x88, &[3]), 1002),
        (frame(0x88, &[0x03, 0xe8, 0xff]), 1007),
        (frame(0x81, &[0xff]), 1007),
        ([frame(0x01, &[0xc3]), frame(0x80, &[0xc3])].concat(), 1007),
    ];
    for (bytes, code) in broken {
        let (mut connection, mut peer) = connected(1000);
        peer.write_all(&bytes).await.expect("there is room");
        let read = connection.next().await;
        assert!(
            matches!(read, Some(Err(ConnectionError::Failed(_)))),
            "{bytes:?}: {read:?}"
        );
        connection.close().await.expect("it can still be written");
        let mut close = [0; 4];
        peer.read_exact(&mut close).await.expect("the close has arrived");
        assert_eq!(close[..2], [0x88, 2], "{bytes:?}");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_ping_is_answered_while_nothing_else_is_written() {
    let (mut connection, mut peer) = connected(1000);
    let answered = async {
        peer.write_all(&frame(0x89, b"anybody?")).await.expect("there is room");
        let mut pong = [0; 10];
        peer.read_exact(&mut pong).await.expect("the pong has arrived");
        assert_eq!(&pong, b"\x8a\x08anybody?");
        drop(peer);
    };
    let reading = async {
        while let Some(Ok(packet)) = connection.next().await {
            assert_eq!(packet, Packet::Other);
        }
    };
    timeout(Duration::from_secs(10), async { tokio::join!(answered, reading) })
        .await
        .expect("it is answered");
}

#[tokio::test]
async fn codes_that_no_close_frame_may_have_are_answered_as_a_protocol_error() {
    for (code, answer) in [
        (1000, 1000),
        (4101, 4101),
        (1005, 1002),
        (1006, 1002),
        (999, 1002),
        (5000, 1002),
    ] {
        let (mut connection, mut peer) = connected(1000);
        peer.write_all(&frame(0x88, &u16::to_be_bytes(code)))
            .await
            .expect("there is room");
        assert_eq!(
            connection.next().await.expect("the close").expect("no error"),
            Packet::Close(code)
        );
        assert!(connection.next().await.is_none());
        let mut close = [0; 4];
        peer.read_exact(&mut close).await.expect("the answer has arrived");
        assert_eq!(close[2..], u16::to_be_bytes(answer), "the answer to {code}");
    }
}

#[tokio::test]
async fn a_message_whose_fragments_exceed_the_limit_together_is_too_large() {
    let (mut connection, mut peer) = connected(1000);
    let fragments = [frame(0x02, &[0; 600]), frame(0x00, &[0; 400]), frame(0x80, &[0; 1])].concat();
    peer.write_all(&fragments).await.expect("there is room");
    assert!(matches!(connection.next().await, Some(Err(ConnectionError::TooLarge))));
    drop(peer);

    let (mut connection, mut peer) = connected(1000);
    let fragments = [frame(0x02, &[0; 600]), frame(0x80, &[0; 400])].concat();
    peer.write_all(&fragments).await.expect("there is room");
    assert!(matches!(connection.next().await, Some(Ok(Packet::Binary(_)))));
}

#[tokio::test]
async fn a_connection_that_failed_may_be_used_and_closed_and_fails_again() {
    let (mut connection, peer) = connected(1000);
    drop(peer);
    let flood = async {
        while connection
            .send(Packet::Binary(Bytes::from_static(&[0; 1 << 16])))
            .await
            .is_ok()
        {}
    };
    timeout(Duration::from_secs(10), flood)
        .await
        .expect("the flood fails in time");
    assert!(connection.next().await.is_none_or(|next| next.is_err()));
    assert!(connection.send(Packet::Close(1000)).await.is_err());
    assert!(connection.close().await.is_err());
}

#[tokio::test]
async fn after_a_packet_above_the_limit_the_rest_is_read_and_dropped() {
    let (mut connection, mut peer) = connected(1000);
    // A masked binary frame of 1001 bytes.
    let header = [0x82, 0x80 | 126, 0x03, 0xe9, 0, 0, 0, 0];
    peer.write_all(&header).await.expect("there is room");

    assert!(matches!(connection.next().await, Some(Err(ConnectionError::TooLarge))));
    for _ in 0..3 {
        peer.write_all(&[0; 5000]).await.expect("there is room");
        assert!(matches!(connection.next().await, Some(Ok(Packet::Other))));
    }
    connection
        .send(Packet::Close(4108))
        .await
        .expect("it can still be written");
    let mut close = [0; 4];
    peer.read_exact(&mut close).await.expect("the close has arrived");
    assert_eq!(close, [0x88, 2, 0x10, 0x0c]);
    drop(peer);
    let rest = async { while connection.next().await.is_some() {} };
    timeout(Duration::from_secs(10), rest)
        .await
        .expect("the rest ends in time");
}

/// Counts the writes, and takes at most so many bytes in each.
#[derive(Clone)]
struct Writes(Arc<Mutex<Vec<Vec<u8>>>>, usize);

impl AsyncRead for Writes {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Writes {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .take(self.1)
            .collect();
        let written = bytes.len();
        self.0.lock().expect("no panic").push(bytes);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Sends messages of these sizes and flushes once. Returns what each write took.
async fn written(sizes: &[usize], most: usize) -> Vec<Vec<u8>> {
    let writes = Writes(Arc::default(), most);
    let mut connection = Box::pin(connection(writes.clone(), Vec::new(), LIMIT));
    for size in sizes {
        let message = vec![*size as u8; *size];
        connection
            .feed(Packet::Binary(message.into()))
            .await
            .expect("it takes all");
    }
    connection.flush().await.expect("it takes all");
    drop(connection);
    Arc::into_inner(writes.0)
        .expect("the connection is gone")
        .into_inner()
        .expect("no panic")
}

#[tokio::test]
async fn messages_of_any_size_take_one_write() {
    for sizes in [
        &[16_384][..],
        &[10, 16_384, 10],
        &[64; 100],
        &[5000, 5000, 60],
        &[65_000],
    ] {
        assert_eq!(written(sizes, usize::MAX).await.len(), 1, "{sizes:?}");
    }
    assert_eq!(written(&[16_384; 8], usize::MAX).await.len(), 2, "64 KiB at a time");
}

#[tokio::test]
async fn a_stream_is_written_the_same_however_much_each_write_takes() {
    let sizes = [10, 5000, 0, 4096, 4095, 20_000, 125, 126, 65_536];
    let whole = written(&sizes, usize::MAX).await.concat();
    for most in [3, 11, 4096, 5000, 10_000] {
        assert!(written(&sizes, most).await.concat() == whole, "{most} bytes at a time");
    }
}
