//! One page: it connects, sends, and checks what it receives.

use std::io::Write as _;
use std::time::Instant;

use stillhere::wire::SUBPROTOCOL;
use stillhere_client::Ticket;
use tokio::time::timeout_at;

use super::document::{ACK_AFTER, Document};
use super::socket::{BINARY, CLOSE, Output, PING, PONG, Socket, TEXT};
use crate::process::Server;

pub(crate) struct Page {
    socket: Socket,
    dialect: Dialect,
}

/// How the server carries a message.
enum Dialect {
    /// As a binary WebSocket message.
    Bare,
    /// As a binary WebSocket message. The page acknowledges what it has received as often as a
    /// page of stillhere does.
    Acknowledged {
        unreported_since: Option<Instant>,
    },
    /// As socket.io's event `m` with one string, which needs a single WebSocket message. Bytes
    /// would need two.
    SocketIo,
    Stillhere(Box<Document>),
}

/// Writes a payload of this size into `out`. It differs from the one of any other number.
pub(crate) fn payload(number: usize, size: usize, out: &mut Vec<u8>) {
    out.clear();
    write!(out, "{number:016x}").expect("a vector has room");
    out.resize(size, b'a' + (number % 26) as u8);
}

impl Page {
    /// Connects, and waits until messages can be sent. A server with sessions needs a ticket.
    pub(crate) async fn connect(server: &Server, ticket: Option<&Ticket>) -> Self {
        if let Some(ticket) = ticket {
            return Self::greet(server, ticket, Document::new(ticket)).await;
        }
        if !server.speaks_socket_io() {
            return Self {
                socket: Socket::connect(server, "/ws", None).await,
                dialect: Dialect::Bare,
            };
        }
        let mut socket = Socket::connect(server, "/socket.io/?EIO=4&transport=websocket", None).await;
        socket
            .set_up(|packet, output| {
                match packet {
                    b"2" => output.queue(TEXT, &[b"3"]),
                    [b'0', ..] => output.queue(TEXT, &[b"40"]),
                    _ => assert!(packet.starts_with(b"40"), "the server accepts the connection"),
                }
                packet.starts_with(b"40")
            })
            .await;
        Self {
            socket,
            dialect: Dialect::SocketIo,
        }
    }

    async fn greet(server: &Server, ticket: &Ticket, mut document: Document) -> Self {
        let mut socket = Socket::connect(server, &ticket.url, Some(SUBPROTOCOL)).await;
        socket.output.queue(BINARY, &[&document.hello().to_bytes()]);
        socket.flush().await;
        socket
            .set_up(|welcome, _| {
                document.handle_welcome(welcome);
                true
            })
            .await;
        Self {
            socket,
            dialect: Dialect::Stillhere(Box::new(document)),
        }
    }

    /// Cuts the connection, and keeps what the page needs to resume.
    pub(crate) fn cut(self) -> Option<Box<Document>> {
        match self.dialect {
            Dialect::Stillhere(document) => Some(document),
            Dialect::Bare | Dialect::Acknowledged { .. } | Dialect::SocketIo => None,
        }
    }

    /// Resumes the session of a page that was cut.
    pub(crate) async fn resume(server: &Server, ticket: &Ticket, document: Box<Document>) -> Self {
        Self::greet(server, ticket, *document).await
    }

    /// Acknowledges messages from now on, if it sends nothing of its own accord.
    pub(crate) fn begin_to_acknowledge(&mut self) {
        if let Dialect::Bare = self.dialect {
            self.dialect = Dialect::Acknowledged { unreported_since: None };
        }
    }

    /// Queues a message.
    fn send(&mut self, payload: &[u8]) {
        let output = &mut self.socket.output;
        match &mut self.dialect {
            Dialect::Bare | Dialect::Acknowledged { .. } => output.queue(BINARY, &[payload]),
            Dialect::SocketIo => output.queue(TEXT, &[EVENT_BEGINS, payload, EVENT_ENDS]),
            Dialect::Stillhere(document) => document.send(payload, output),
        }
    }

    /// Waits for input, and passes each message that it brings to `on_message`.
    pub(crate) async fn receive(&mut self, mut on_message: impl FnMut(&[u8])) {
        while let Some(due) = self.dialect.ack_due() {
            if timeout_at(due.into(), self.socket.input.readable()).await.is_ok() {
                break;
            }
            self.acknowledge().await;
        }
        self.socket.input.readable().await;
        let Self {
            socket: Socket { input, output },
            dialect,
        } = self;
        let is_open = input.read(|opcode, payload| dialect.handle(opcode, payload, output, &mut on_message));
        assert!(is_open, "the server keeps the connection");
        if !output.is_empty() {
            self.socket.flush().await;
        }
    }

    async fn acknowledge(&mut self) {
        let output = &mut self.socket.output;
        match &mut self.dialect {
            Dialect::Stillhere(document) => document.acknowledge(output),
            Dialect::Acknowledged { unreported_since } => {
                if unreported_since.take().is_some() {
                    output.queue(BINARY, &[&[0; ACKNOWLEDGEMENT]]);
                }
            }
            Dialect::Bare | Dialect::SocketIo => {}
        }
        self.socket.flush().await;
    }

    /// Sends `count` messages, `in_flight` at a time, and waits for their echoes.
    pub(crate) async fn echo(&mut self, size: usize, in_flight: usize, count: usize) {
        let (mut sent, mut echoed) = (0, 0);
        let (mut next, mut expected) = (Vec::new(), Vec::new());
        while echoed < count {
            while sent < count && sent - echoed < in_flight {
                payload(sent, size, &mut next);
                self.send(&next);
                sent += 1;
            }
            self.socket.flush().await;
            self.receive(|message| {
                payload(echoed, size, &mut expected);
                assert!(message == expected, "each echo is what was sent");
                echoed += 1;
            })
            .await;
        }
    }

    /// Asks for a stream of `count` messages, and waits for all of them.
    pub(crate) async fn stream(&mut self, size: usize, count: usize) {
        let mut expected = Vec::new();
        payload(0, size, &mut expected);
        self.publish(format!("{count} {size}").as_bytes()).await;
        self.expect(&expected, count).await;
    }

    /// Sends one message.
    pub(crate) async fn publish(&mut self, payload: &[u8]) {
        self.send(payload);
        self.socket.flush().await;
    }

    /// Waits for `count` messages with this payload.
    pub(crate) async fn expect(&mut self, payload: &[u8], count: usize) {
        let mut received = 0;
        while received < count {
            self.receive(|message| {
                assert!(message == payload, "each message is what the server sends");
                received += 1;
            })
            .await;
        }
        assert_eq!(received, count, "no message arrives twice");
    }

    /// Acknowledges everything, and closes as a browser does.
    pub(crate) async fn close(mut self) {
        self.acknowledge().await;
        self.socket.output.queue(CLOSE, &[&1000u16.to_be_bytes()]);
        self.socket.flush().await;
        self.socket.input.readable().await;
        while self.socket.input.read(|_, _| {}) {
            self.socket.input.readable().await;
        }
    }
}

/// Bytes of an acknowledgement. Messages that a server sends to all pages are longer.
pub(crate) const ACKNOWLEDGEMENT: usize = 9;

const EVENT_BEGINS: &[u8] = b"42[\"m\",\"";
const EVENT_ENDS: &[u8] = b"\"]";

impl Dialect {
    fn ack_due(&self) -> Option<Instant> {
        match self {
            Self::Stillhere(document) => document.ack_due(),
            Self::Acknowledged { unreported_since } => unreported_since.map(|since| since + ACK_AFTER),
            Self::Bare | Self::SocketIo => None,
        }
    }

    fn handle(&mut self, opcode: u8, payload: &[u8], output: &mut Output, on_message: &mut impl FnMut(&[u8])) {
        match (self, opcode) {
            (_, PING) => output.queue(PONG, &[payload]),
            (Self::Bare, BINARY) => on_message(payload),
            (Self::Acknowledged { unreported_since }, BINARY) => {
                unreported_since.get_or_insert_with(Instant::now);
                on_message(payload);
            }
            (Self::Stillhere(document), BINARY) => document.handle_frame(payload, output, on_message),
            (Self::SocketIo, TEXT) if payload == b"2" => output.queue(TEXT, &[b"3"]),
            (Self::SocketIo, TEXT) => {
                let event = payload.strip_prefix(EVENT_BEGINS);
                let message = event.and_then(|event| event.strip_suffix(EVENT_ENDS));
                on_message(message.expect("the server sends the event"));
            }
            _ => panic!("the server sends messages, not a frame with opcode {opcode}"),
        }
    }
}
