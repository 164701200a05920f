//! The browser's half of the protocol as the simulation drives it, in Rust or in TypeScript.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stillhere_proto::Lane;
use stillhere_proto::Limits;
use stillhere_proto::machine::{
    Action, DocumentEvent, DocumentMachine, DocumentOptions, DocumentPhase, Outcome, SendRefused,
};
use stillhere_proto::{DocumentId, Secret};

use crate::pipe::Time;

/// What a page needs to connect to the session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) secret: [u8; 32],
    pub(crate) document: [u8; 16],
    pub(crate) limits: Limits,
    pub(crate) seed: u64,
}

/// An event of a document, without details in which the two implementations may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Welcomed {
        outcome: Outcome,
        incarnation: u64,
    },
    Disconnected {
        code: u64,
    },
    Refused {
        code: u64,
    },
    Ended {
        code: u64,
        reason: u64,
        unacknowledged: usize,
    },
    Pong,
}

/// One document. Times are microseconds since the start of the schedule.
pub(crate) trait Browser {
    fn start(&mut self, now: Time);
    fn open(&mut self, connection: u64, now: Time);
    fn frame(&mut self, connection: u64, bytes: Bytes, now: Time);
    fn close(&mut self, connection: u64, code: u64, now: Time);
    fn timeout(&mut self, now: Time);
    fn wake(&mut self, now: Time);
    fn hidden(&mut self, hidden: bool, now: Time);
    fn leave(&mut self, now: Time);
    fn send(&mut self, lane: Lane, payload: Bytes, now: Time) -> Result<(), SendRefused>;
    /// Takes a message. With `hold`, its credit is returned only on release.
    fn take(&mut self, lane: Lane, hold: bool, now: Time) -> Option<Bytes>;
    fn release(&mut self, lane: Lane, now: Time);
    /// Returns at most `most` frames to write.
    fn transmit(&mut self, connection: u64, bulk_allowed: bool, most: usize, now: Time) -> Vec<Bytes>;
    fn poll_action(&mut self) -> Option<Action>;
    fn poll_event(&mut self) -> Option<Seen>;
    fn next_timeout(&self) -> Option<Time>;
    fn phase(&self) -> DocumentPhase;
    /// Returns the charge in a lane's outbox.
    fn outgoing(&self, lane: Lane) -> u64;
    /// Returns the charge that waits in the inboxes of both lanes.
    fn incoming(&self) -> u64;
}

/// The implementation in Rust.
#[derive(Debug)]
pub(crate) struct RustBrowser {
    machine: DocumentMachine,
    base: Instant,
    events: VecDeque<Seen>,
}

impl RustBrowser {
    pub(crate) fn new(ticket: Ticket, base: Instant) -> Self {
        let options = DocumentOptions {
            secret: Secret::from_bytes(ticket.secret),
            document: DocumentId(ticket.document),
            limits: ticket.limits,
            seed: ticket.seed,
        };
        Self {
            machine: DocumentMachine::new(options, base),
            base,
            events: VecDeque::new(),
        }
    }

    fn at(&self, now: Time) -> Instant {
        self.base + Duration::from_micros(now)
    }
}

impl Browser for RustBrowser {
    fn start(&mut self, now: Time) {
        self.machine.start(self.at(now));
    }

    fn open(&mut self, connection: u64, now: Time) {
        self.machine.handle_open(connection, self.at(now));
    }

    fn frame(&mut self, connection: u64, bytes: Bytes, now: Time) {
        self.machine.handle_frame(connection, bytes, self.at(now));
    }

    fn close(&mut self, connection: u64, code: u64, now: Time) {
        self.machine.handle_close(connection, code, self.at(now));
    }

    fn timeout(&mut self, now: Time) {
        self.machine.handle_timeout(self.at(now));
    }

    fn wake(&mut self, now: Time) {
        self.machine.handle_wake(self.at(now));
    }

    fn hidden(&mut self, hidden: bool, now: Time) {
        self.machine.handle_hidden(hidden, self.at(now));
    }

    fn leave(&mut self, _now: Time) {
        self.machine.handle_leave();
    }

    fn send(&mut self, lane: Lane, payload: Bytes, _now: Time) -> Result<(), SendRefused> {
        self.machine.send(lane, payload)
    }

    fn take(&mut self, lane: Lane, hold: bool, now: Time) -> Option<Bytes> {
        let received = self.machine.take(lane)?;
        if !hold {
            self.machine.release(lane, self.at(now));
        }
        Some(received.into_bytes())
    }

    fn release(&mut self, lane: Lane, now: Time) {
        self.machine.release(lane, self.at(now));
    }

    fn transmit(&mut self, connection: u64, bulk_allowed: bool, most: usize, now: Time) -> Vec<Bytes> {
        let now = self.at(now);
        let frames = std::iter::from_fn(|| self.machine.poll_transmit(connection, bulk_allowed, now));
        frames.take(most).map(|frame| frame.to_bytes()).collect()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.machine.poll_action()
    }

    fn poll_event(&mut self) -> Option<Seen> {
        if let Some(event) = self.machine.poll_event() {
            self.events.push_back(match event {
                DocumentEvent::Welcomed { outcome, incarnation } => Seen::Welcomed { outcome, incarnation },
                DocumentEvent::Disconnected { code, .. } => Seen::Disconnected { code },
                DocumentEvent::Refused { code, .. } => Seen::Refused { code },
                DocumentEvent::Ended {
                    code,
                    reason,
                    unacknowledged,
                    ..
                } => Seen::Ended {
                    code,
                    reason,
                    unacknowledged,
                },
                DocumentEvent::Pong { .. } => Seen::Pong,
                other => panic!("the simulation does not know {other:?}"),
            });
        }
        self.events.pop_front()
    }

    fn next_timeout(&self) -> Option<Time> {
        let timeout = self.machine.poll_timeout()?;
        Some(timeout.saturating_duration_since(self.base).as_nanos().div_ceil(1000) as Time)
    }

    fn phase(&self) -> DocumentPhase {
        self.machine.phase()
    }

    fn outgoing(&self, lane: Lane) -> u64 {
        self.machine.outgoing(lane)
    }

    fn incoming(&self) -> u64 {
        Lane::ALL.iter().map(|lane| self.machine.incoming(*lane)).sum()
    }
}
