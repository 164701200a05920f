//! The client's end of a WebSocket, leaner than a library's: frames are read where they lie, and
//! masked with zeros.

use std::cell::RefCell;
use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::Server;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Most bytes that one read takes.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    /// What one read brought: one buffer for all sockets, because thousands of them are idle.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

pub(crate) struct Socket {
    pub(crate) input: Input,
    pub(crate) output: Output,
}

pub(crate) struct Input {
    stream: TcpStream,
    /// The beginning of a frame whose rest has not arrived.
    partial: Vec<u8>,
}

/// Frames that are not written yet.
#[derive(Default)]
pub(crate) struct Output(Vec<u8>);

impl Socket {
    /// Connects to this path, and upgrades as a browser does.
    pub(crate) async fn connect(server: &Server, path: &str, subprotocol: Option<&str>) -> Self {
        let address = server.address;
        let subprotocol = subprotocol.map_or(String::new(), |name| format!("sec-websocket-protocol: {name}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocol}\r\n"
        );
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP stream");
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = Vec::new();
        let end = loop {
            let read = stream.read_buf(&mut answer).await.expect("the server answers");
            assert_ne!(read, 0, "the server answers");
            if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{path} is a WebSocket's");
        Self {
            input: Input {
                stream,
                partial: answer.split_off(end),
            },
            output: Output::default(),
        }
    }

    /// Passes frames to `on_frame`, which may queue answers, until it returns true.
    pub(crate) async fn set_up(&mut self, mut on_frame: impl FnMut(&[u8], &mut Output) -> bool) {
        let mut is_done = false;
        // The first frame may have arrived together with the answer to the upgrade.
        while self
            .input
            .read(|_, payload| is_done |= on_frame(payload, &mut self.output))
        {
            self.flush().await;
            if is_done {
                return;
            }
            self.input.readable().await;
        }
        panic!("the server keeps the connection");
    }

    /// Writes what is queued.
    pub(crate) async fn flush(&mut self) {
        let Self { input, output } = self;
        input.stream.write_all(&output.0).await.expect("the server reads");
        output.0.clear();
    }
}

impl Input {
    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) {
        self.stream.readable().await.expect("the connection holds");
    }

    /// Reads once, and passes each frame that is complete to `on_frame`, by opcode and payload.
    /// Returns false once the server has closed the connection.
    pub(crate) fn read(&mut self, mut on_frame: impl FnMut(u8, &[u8])) -> bool {
        READ.with_borrow_mut(|buffer| {
            let read = match self.stream.try_read(buffer) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => panic!("the connection holds: {error}"),
            };
            if self.partial.is_empty() {
                let consumed = parse(&buffer[..read], &mut on_frame);
                self.partial.extend_from_slice(&buffer[consumed..read]);
            } else {
                self.partial.extend_from_slice(&buffer[..read]);
                let consumed = parse(&self.partial, &mut on_frame);
                self.partial.drain(..consumed);
            }
            true
        })
    }
}

/// Returns how many bytes the complete frames have.
fn parse(bytes: &[u8], on_frame: &mut impl FnMut(u8, &[u8])) -> usize {
    let mut rest = bytes;
    while let Some((opcode, payload, after)) = frame(rest) {
        on_frame(opcode, payload);
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Splits off the first frame (RFC 6455, section 5.2).
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    assert!(
        first & 0xf0 == 0x80 && second & 0x80 == 0,
        "a server sends whole, unmasked frames"
    );
    let (length, rest) = match second {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length), rest)
        }
        length => (u64::from(length), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((first & 0x0f, payload, rest))
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Queues a frame whose payload is made of these parts.
    pub(crate) fn queue(&mut self, opcode: u8, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.0.push(0x80 | opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length), _) if length < 126 => self.0.push(0x80 | length),
            (_, Ok(length)) => {
                self.0.push(0x80 | 126);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                self.0.push(0x80 | 127);
                self.0.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        self.0.extend_from_slice(&[0; 4]);
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }
}
