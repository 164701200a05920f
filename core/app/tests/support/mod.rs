//! A page within the process: the Rust client over in-memory connections that can be cut, and units
//! written by hand.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod room;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use stillhere::connection::Packet;
use stillhere::{Hub, PairEnd, SessionHandle, SessionRequest, connection_pair, run_connection_loop};
use stillhere_client::{
    Client, ClientBuilder, Connection, ConnectionError, Connector, Opening, Packet as ClientPacket, Ticket,
};
use tokio::task::AbortHandle;

/// A page and the means to cut its connection.
pub(crate) struct Page {
    pub(crate) client: Client,
    server: Arc<Mutex<Option<AbortHandle>>>,
    is_away: Arc<AtomicBool>,
    is_stalled: Arc<AtomicBool>,
}

impl Page {
    pub(crate) fn open(hub: &Hub, session: &SessionHandle) -> Self {
        let ticket = Ticket::parse(&session.ticket_json()).expect("the ticket is valid");
        let (server, is_away, is_stalled) = (Arc::default(), Arc::default(), Arc::default());
        let connector = Memory {
            hub: hub.clone(),
            id: session.id().to_string(),
            server: Arc::clone(&server),
            is_away: Arc::clone(&is_away),
            is_stalled: Arc::clone(&is_stalled),
        };
        let (client, driver) = ClientBuilder::new().seed(1).build(&ticket, connector);
        tokio::spawn(driver);
        Self {
            client,
            server,
            is_away,
            is_stalled,
        }
    }

    /// Lets nothing through any more, until the connection is cut.
    pub(crate) fn stall(&self) {
        self.is_stalled.store(true, Ordering::SeqCst);
    }

    /// Loses the connection. The client reconnects by itself.
    pub(crate) fn cut(&self) {
        self.is_stalled.store(false, Ordering::SeqCst);
        if let Some(task) = self.server.lock().expect("no test panics here").take() {
            task.abort();
        }
    }

    /// Loses the connection, and the network with it, until [`Page::come_back`].
    pub(crate) fn go_away(&self) {
        self.is_away.store(true, Ordering::SeqCst);
        self.cut();
    }

    pub(crate) fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
        self.client.wake();
    }

    pub(crate) async fn send(&self, unit: impl Into<stillhere::Message>) {
        self.client.send(unit).await.expect("the session is open");
    }

    pub(crate) async fn recv(&self) -> Vec<u8> {
        self.recv_for("a message").await
    }

    /// Waits for the next message, until which `what` has not happened.
    pub(crate) async fn recv_for(&self, what: &str) -> Vec<u8> {
        let message = soon(what, self.client.recv()).await;
        message.expect("the session is open").to_vec()
    }
}

struct Memory {
    hub: Hub,
    id: String,
    server: Arc<Mutex<Option<AbortHandle>>>,
    is_away: Arc<AtomicBool>,
    is_stalled: Arc<AtomicBool>,
}

impl Connector for Memory {
    fn connect(&mut self) -> Opening {
        if self.is_away.load(Ordering::SeqCst) {
            return Box::pin(async { Err(ConnectionError::Silent) });
        }
        let (server, page) = connection_pair(16);
        let request = SessionRequest::new(&self.id, [("sec-websocket-protocol", &b"stillhere.v1"[..])]);
        let accepted = self.hub.accept(&request).expect("our protocol was offered");
        let task = tokio::spawn(run_connection_loop(accepted, server));
        *self.server.lock().expect("no test panics here") = Some(task.abort_handle());
        let is_stalled = Arc::clone(&self.is_stalled);
        Box::pin(async move {
            let connection: Box<dyn Connection> = Box::new(End(page, is_stalled));
            Ok(connection)
        })
    }
}

struct End(PairEnd, Arc<AtomicBool>);

impl Connection for End {
    fn kind(&self) -> &'static str {
        "memory"
    }
}

impl Stream for End {
    type Item = Result<ClientPacket, ConnectionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.1.load(Ordering::SeqCst) {
            // What is cut next ends the connection, which the client then notices.
            return Poll::Pending;
        }
        self.0.poll_next_unpin(context).map(|packet| {
            Some(match packet? {
                Ok(Packet::Binary(bytes)) => Ok(ClientPacket::Frame(bytes)),
                Ok(Packet::Close(code)) => Ok(ClientPacket::Close(code)),
                _ => Err(ConnectionError::Silent),
            })
        })
    }
}

impl Sink<ClientPacket> for End {
    type Error = ConnectionError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready_unpin(context).map_err(|_| ConnectionError::Silent)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: ClientPacket) -> Result<(), Self::Error> {
        let packet = match packet {
            ClientPacket::Frame(bytes) => Packet::Binary(bytes),
            ClientPacket::Close(code) => Packet::Close(code),
        };
        self.0.start_send_unpin(packet).map_err(|_| ConnectionError::Silent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_flush_unpin(context).map_err(|_| ConnectionError::Silent)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_close_unpin(context).map_err(|_| ConnectionError::Silent)
    }
}

/// Fails instead of waiting for ever: after an hour on the paused clock.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waiting = tokio::time::timeout(Duration::from_secs(3600), future).await;
    waiting.unwrap_or_else(|_| panic!("this never happened: {what}"))
}

/// Appends a number in LEB128.
pub(crate) fn number(mut number: u64, unit: &mut Vec<u8>) {
    while number > 0x7f {
        unit.push(number as u8 | 0x80);
        number >>= 7;
    }
    unit.push(number as u8);
}

/// Reads a number in LEB128 from the start of the bytes.
pub(crate) fn take_number(bytes: &mut &[u8]) -> u64 {
    let length = bytes.iter().position(|byte| *byte < 0x80).expect("it ends") + 1;
    let (head, rest) = bytes.split_at(length);
    *bytes = rest;
    head.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f))
}

/// A call by the page, with a question in JSON.
pub(crate) fn call(id: u64, name: &str, question: &str) -> Vec<u8> {
    let mut unit = vec![4];
    number(id, &mut unit);
    unit.extend([0, name.len() as u8]);
    unit.extend(name.as_bytes());
    unit.push(0);
    unit.extend(question.as_bytes());
    unit
}

/// An event of the page, with a value in JSON.
pub(crate) fn event(name: &str, value: &str) -> Vec<u8> {
    [&[3, name.len() as u8], name.as_bytes(), &[0], value.as_bytes()].concat()
}

/// An answer by the page, in JSON.
pub(crate) fn answer(id: u64, value: &str) -> Vec<u8> {
    let mut unit = vec![5];
    number(id, &mut unit);
    unit.push(0);
    unit.extend(value.as_bytes());
    unit
}

pub(crate) fn failure(id: u64, code: u8, text: &str) -> Vec<u8> {
    let mut unit = vec![6];
    number(id, &mut unit);
    unit.push(code);
    unit.extend(text.as_bytes());
    unit
}

pub(crate) fn cancel(id: u64) -> Vec<u8> {
    let mut unit = vec![7];
    number(id, &mut unit);
    unit
}

/// A set of an observable, in JSON.
pub(crate) fn set(name: &str, of: u64, value: &str) -> Vec<u8> {
    let mut unit = [&[8, name.len() as u8], name.as_bytes()].concat();
    number(of, &mut unit);
    unit.push(0);
    unit.extend(value.as_bytes());
    unit
}

/// Returns the id of a call that the server made.
pub(crate) fn id_of_call(unit: &[u8]) -> u64 {
    assert_eq!(unit[0], 4, "a call: {unit:?}");
    take_number(&mut &unit[1..])
}
