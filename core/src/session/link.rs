//! The connections of a session: each registers, exchanges frames with the machine, and leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use crate::session::host::Home;
use crate::session::shared::{Shared, Touched};
use stillhere_proto::machine::{ConnectionKey, SessionMachine};
use stillhere_proto::wire::{Frame, Hello, millis};

/// What a connection should write next.
pub(crate) enum Transmit {
    Frame(Frame),
    /// Nothing, until something changes or this time is reached.
    Nothing {
        until: Option<Instant>,
    },
    /// The connection no longer has a part in the session.
    Over,
}

impl Shared {
    /// Adds a connection. `waker` is woken when it may have something to write.
    pub(crate) fn register(&self, waker: Arc<AtomicWaker>) -> ConnectionKey {
        let mut inner = self.lock();
        let key = ConnectionKey(inner.next_connection);
        inner.next_connection += 1;
        // A session rarely has two connections at once, so the vector gets no spare capacity.
        inner.connections.reserve_exact(1);
        inner.connections.push((key, waker));
        key
    }

    /// Removes a connection and reports its end to the machine.
    pub(crate) fn unregister(self: &Arc<Self>, key: ConnectionKey) {
        self.change(|inner, now| {
            inner.connections.retain(|(known, _)| *known != key);
            if inner.connections.is_empty() {
                inner.connections = Vec::new();
            }
            inner.machine.handle_closed(key, now);
        });
    }

    /// Handles the first frame of a connection. A function that starts runs in this home.
    pub(crate) fn handle_hello(self: &Arc<Self>, key: ConnectionKey, hello: &Hello, home: Home) {
        let keep = self.keep();
        self.touch_at(home, |inner| {
            inner.machine.handle_hello(key, hello, keep, crate::clock::now());
            ((), Touched::Machine { awake: None })
        });
    }

    /// Does the same as [`Shared::update`], but does not wake the connection `key`: the caller is
    /// that connection and polls the machine afterwards.
    pub(crate) fn update_from(self: &Arc<Self>, key: ConnectionKey, change: impl FnOnce(&mut SessionMachine, Instant)) {
        self.touch(|inner| {
            change(&mut inner.machine, crate::clock::now());
            ((), Touched::Machine { awake: Some(key) })
        });
    }

    /// Returns what the connection should write next. Takes a frame out of the machine, which
    /// affects nobody but this connection.
    pub(crate) fn poll_transmit(&self, key: ConnectionKey, now: Instant) -> Transmit {
        let machine = &mut self.lock().machine;
        match machine.poll_transmit(key, now) {
            Some(frame) => Transmit::Frame(frame),
            None if machine.is_known(key) => Transmit::Nothing {
                until: machine.poll_timeout(),
            },
            None => Transmit::Over,
        }
    }

    /// Returns how long the session is kept without a connection, in milliseconds, as browsers are
    /// told.
    fn keep(&self) -> u64 {
        let host = self.host.upgrade();
        host.map_or(0, |host| millis(host.keep(&self.snapshot())))
    }

    /// Returns how long a connection may take to send its hello.
    pub(crate) fn hello_deadline(&self) -> Duration {
        self.options.timing.hello
    }
}
