//! An attempt to connect: from opening the transport to the welcome (PROTOCOL.md, section 6).

use std::time::{Duration, Instant};

use crate::limits::Limits;
use crate::machine::Violation;
use crate::machine::tail::Tail;
use crate::wire::{Frame, Hello, Welcome};

use super::connected::Connected;
use super::event::{Action, DocumentEvent, Outcome};
use super::phase::Phase;
use super::{DocumentMachine, LEFT, from_wire};

/// A connection on which the server has not welcomed the document yet.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) connection: u64,
    pub(super) step: Step,
    /// The hello or the confirm of this step is still to be written.
    pub(super) is_due: bool,
    /// When the document gives up this connection.
    pub(super) deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The transport is opening the connection.
    Opening,
    /// The connection is open, and the document sends its hello.
    Hello,
    /// The server offered a session of another document, and this document confirms.
    Offered,
}

impl Attempt {
    /// Begins a step in which the document writes a frame and expects an answer.
    pub(super) fn begin(&mut self, step: Step, now: Instant) {
        self.step = step;
        self.is_due = true;
        self.deadline = now + ANSWER_DEADLINE;
    }
}

impl DocumentMachine {
    pub(super) fn connect(&mut self, now: Instant) {
        self.close_connection(LEFT);
        self.pings.clear();
        self.attempts += 1;
        self.actions.push_back(Action::Connect(self.attempts));
        self.phase = Phase::Attempting(Attempt {
            connection: self.attempts,
            step: Step::Opening,
            is_due: false,
            deadline: now + ANSWER_DEADLINE,
        });
    }

    /// Returns the hello or the confirm, if one is due.
    pub(super) fn poll_attempt(&mut self, now: Instant) -> Option<Frame> {
        let Phase::Attempting(attempt) = &mut self.phase else {
            return None;
        };
        if !std::mem::take(&mut attempt.is_due) {
            return None;
        }
        attempt.deadline = now + ANSWER_DEADLINE;
        if attempt.step == Step::Offered {
            return Some(Frame::Confirm);
        }
        Some(Frame::Hello(Hello {
            secret: self.options.secret.clone(),
            document: self.options.document,
            incarnation: self.incarnation,
            attempt: attempt.connection,
            counts: self.lanes.report(),
        }))
    }

    pub(super) fn handle_answer(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let Phase::Attempting(attempt) = &mut self.phase else {
            return Ok(());
        };
        match (attempt.step, frame) {
            _ if attempt.is_due => Err(Violation::Malformed),
            (Step::Hello | Step::Offered, Frame::Welcome(welcome)) => {
                let connection = attempt.connection;
                self.handle_welcome(connection, &welcome, now)
            }
            (Step::Hello, Frame::Offer) if self.incarnation == 0 => {
                attempt.begin(Step::Offered, now);
                Ok(())
            }
            _ => Err(Violation::Malformed),
        }
    }

    fn handle_welcome(&mut self, connection: u64, welcome: &Welcome, now: Instant) -> Result<(), Violation> {
        let outcome = self.outcome_of(welcome);
        let outcome = outcome.and_then(|outcome| self.lanes.handle_counts(&welcome.counts).map(|()| outcome));
        self.lanes.rewind();
        // Even an invalid welcome counts: from here on, violations end the session.
        self.phase = Phase::Connected(Connected {
            connection,
            heartbeat: from_wire(welcome.heartbeat),
            heard: now,
            tail: Tail::new(&self.lanes, now),
            pong_due: None,
            probed_until: None,
        });
        let outcome = outcome?;
        self.incarnation = welcome.incarnation;
        self.presence.keep = Some(from_wire(welcome.keep));
        self.backoff.waits = 1;
        self.events.push_back(DocumentEvent::Welcomed {
            outcome,
            incarnation: self.incarnation,
        });
        Ok(())
    }

    fn outcome_of(&self, welcome: &Welcome) -> Result<Outcome, Violation> {
        let outbox = self.options.limits.outbox;
        let limits = Limits {
            outbox,
            ..welcome.limits
        };
        match (self.incarnation, welcome.incarnation) {
            _ if limits != self.options.limits => Err(Violation::Malformed),
            (0, 1) => Ok(Outcome::Opened),
            (0, 2..) => Ok(Outcome::Restored),
            (mine, theirs) if mine != 0 && mine == theirs => Ok(Outcome::Resumed),
            _ => Err(Violation::Malformed),
        }
    }
}

/// Longest time for the transport to open, for the answer to hello, and for the answer to confirm.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
