//! A page within the process: the Rust client over in-memory connections that can be cut, and units
//! written by hand.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod room;

use std::time::Duration;

use stillhere::{Hub, SessionHandle};
use stillhere_app::testing::{Network, connect};
use stillhere_client::Client;

/// A page and the means to cut its connection.
pub(crate) struct Page {
    pub(crate) client: Client,
    network: Network,
}

impl Page {
    pub(crate) fn open(hub: &Hub, session: &SessionHandle) -> Self {
        let (client, network) = connect(hub, session);
        Self { client, network }
    }

    /// Lets nothing through any more, until the connection is cut.
    pub(crate) fn stall(&self) {
        self.network.stall();
    }

    /// Loses the connection. The client reconnects by itself.
    pub(crate) fn cut(&self) {
        self.network.cut();
    }

    /// Loses the connection, and the network with it, until [`Page::come_back`].
    pub(crate) fn go_away(&self) {
        self.network.go_away();
    }

    pub(crate) fn come_back(&self) {
        self.network.come_back();
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
