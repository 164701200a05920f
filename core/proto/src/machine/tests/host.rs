//! A session for the tests: the server's machine, a virtual clock, and connections that are mere
//! keys.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::harness::{LIMITS, PLENTY, counts, ms, only, secret};
use crate::code::Code;
use crate::id::DocumentId;
use crate::limits::Limits;
use crate::machine::{ConnectionKey, Event, Phase, SessionMachine, Timing};
use crate::message::Lane;
use crate::wire::{End, Frame, Hello, Welcome};

pub(super) const TIMING: Timing = Timing {
    heartbeat: Duration::from_secs(15),
    probe: Some(Duration::from_secs(2)),
    hello: Duration::from_secs(10),
    ending: Duration::from_secs(10),
};

pub(super) const KEEP: u64 = 120_000;

/// Returns the hello of a document that was never welcomed.
pub(super) fn hello(document: u8, attempt: u64) -> Hello {
    Hello {
        secret: secret(),
        document: DocumentId([document; 16]),
        incarnation: 0,
        attempt,
        counts: counts([0, 0], PLENTY),
    }
}

/// Returns the hello of a document that reconnects.
pub(super) fn hello_again(document: u8, incarnation: u64, attempt: u64, received: [u64; 2]) -> Hello {
    Hello {
        incarnation,
        counts: counts(received, PLENTY),
        ..hello(document, attempt)
    }
}

pub(super) struct Host {
    pub(super) machine: SessionMachine,
    pub(super) now: Instant,
    connections: u64,
}

impl Host {
    pub(super) fn new() -> Self {
        Self::with(LIMITS, TIMING)
    }

    pub(super) fn with(limits: Limits, timing: Timing) -> Self {
        let now = Instant::now();
        Self {
            machine: SessionMachine::new(limits, timing, 1, now),
            now,
            connections: 0,
        }
    }

    pub(super) fn taking_compressed() -> Self {
        Self::new().map(SessionMachine::taking_compressed)
    }

    /// Returns the session with its machine as `change` returns it.
    pub(super) fn map(self, change: impl FnOnce(SessionMachine) -> SessionMachine) -> Self {
        Self {
            machine: change(self.machine),
            ..self
        }
    }

    /// Returns a session with document 1 connected, and all output already consumed.
    pub(super) fn open() -> (Self, ConnectionKey) {
        Self::new().opened()
    }

    pub(super) fn opened(mut self) -> (Self, ConnectionKey) {
        let key = self.hello(&hello(1, 1));
        self.welcome(key);
        self.events();
        (self, key)
    }

    /// Opens a connection and sends this hello on it.
    pub(super) fn hello(&mut self, hello: &Hello) -> ConnectionKey {
        self.connections += 1;
        let key = ConnectionKey(self.connections);
        self.machine.handle_hello(key, hello, KEEP, self.now);
        key
    }

    pub(super) fn receive(&mut self, key: ConnectionKey, frame: impl Into<Frame>) {
        self.machine.handle_frame(key, frame.into().to_bytes(), self.now);
    }

    pub(super) fn receive_all<F: Into<Frame>>(&mut self, key: ConnectionKey, frames: impl IntoIterator<Item = F>) {
        frames.into_iter().for_each(|frame| self.receive(key, frame));
    }

    pub(super) fn close(&mut self, key: ConnectionKey) {
        self.machine.handle_closed(key, self.now);
    }

    pub(super) fn frames(&mut self, key: ConnectionKey) -> Vec<Frame> {
        std::iter::from_fn(|| self.machine.poll_transmit(key, self.now)).collect()
    }

    pub(super) fn frame(&mut self, key: ConnectionKey) -> Frame {
        only(self.frames(key))
    }

    pub(super) fn welcome(&mut self, key: ConnectionKey) -> Welcome {
        match self.frame(key) {
            Frame::Welcome(welcome) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    pub(super) fn end(&mut self, key: ConnectionKey) -> End {
        match self.frame(key) {
            Frame::End(end) => end,
            other => panic!("expected an end, got {other:?}"),
        }
    }

    /// Asserts that the connection ended with this code and the session did not end.
    pub(super) fn assert_refused(&mut self, key: ConnectionKey, code: Code) {
        let end = self.end(key);
        assert_eq!((end.code, end.reason), (code as u64, 0), "{end:?}");
        assert!(!self.machine.is_known(key));
    }

    /// Returns the nonce of the ping that must be the only pending frame.
    pub(super) fn ping(&mut self, key: ConnectionKey) -> u64 {
        match self.frame(key) {
            Frame::Ping { nonce, .. } => nonce,
            other => panic!("expected a ping, got {other:?}"),
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }

    pub(super) fn event(&mut self) -> Event {
        only(self.events())
    }

    pub(super) fn phase(&self) -> &Phase {
        self.machine.phase()
    }

    pub(super) fn send(&mut self, payload: impl Into<Bytes>) {
        self.send_on(Lane::Interactive, payload);
    }

    pub(super) fn send_on(&mut self, lane: Lane, payload: impl Into<Bytes>) {
        let payload = payload.into();
        assert!(self.machine.admits(lane, payload.len()));
        self.machine.send(lane, payload.into());
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.machine.take(self.now).map(|(_, received)| received.into_bytes())
    }

    pub(super) fn take_all(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.take()).collect()
    }

    /// Advances the clock and fires every timeout on the way. Writes nothing, as if all sockets
    /// were blocked.
    pub(super) fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            let (before, timers) = (self.now, at);
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            let again = self.machine.poll_timeout().is_some_and(|next| next <= self.now);
            assert!(!again || before < timers, "a timer is due again and again");
        }
        self.now = until;
    }

    /// Advances the clock to just before `duration`, runs the check, and then advances to it.
    pub(super) fn advance_with(&mut self, duration: Duration, mut check_before: impl FnMut(&mut Self)) {
        self.advance(duration - ms(1));
        check_before(self);
        self.advance(ms(1));
    }
}
