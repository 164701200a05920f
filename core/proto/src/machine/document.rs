//! The browser's half of a session: one document (PROTOCOL.md sections 5 to 10). Its twin is `client/src/machine.ts`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::code::{Class, Code};
use crate::id::{DocumentId, Secret};
use crate::limits::Limits;
use crate::machine::inbox::{Accepted, Received};
use crate::machine::lanes::Lanes;
use crate::machine::tail::Tail;
use crate::machine::{GAPS_IN_A_ROW, Violation};
use crate::message::{Lane, Message, PerLane};
use crate::wire::{Data, End, Frame, Hello, Sender, Welcome};

/// What a document needs to know of its session: the ticket, and a seed for spreading its attempts.
#[derive(Debug, Clone)]
pub struct DocumentOptions {
    /// The session's secret.
    pub secret: Secret,
    /// This page load.
    pub document: DocumentId,
    /// The ticket's limits, and how much charge each lane of the outbox takes.
    pub limits: Limits,
    /// Spreads reconnections.
    pub seed: u64,
}

/// What the transport is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection and call it by this number.
    Connect(u64),
    /// Close this connection with this code.
    Close(u64, u64),
}

/// How a welcome is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The first document of the session.
    Opened,
    /// This document continues where it was.
    Resumed,
    /// The session lives on, but this is a new document.
    Restored,
}

/// What happened to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentEvent {
    /// The session is here.
    Welcomed {
        /// How.
        outcome: Outcome,
        /// Which document of the session this is.
        incarnation: u64,
    },
    /// The connection is gone; another is tried at `retry_at`, or when the page wakes.
    Disconnected {
        /// The close code, 1006 for none.
        code: u64,
        /// When it tries again.
        retry_at: Option<Instant>,
    },
    /// The server refused. Final if the class is [`Class::Never`].
    Refused {
        /// Why.
        code: u64,
        /// For a person.
        text: String,
        /// When it tries again.
        retry_at: Option<Instant>,
    },
    /// The session is over.
    Ended {
        /// The close code.
        code: u64,
        /// The reason's number.
        reason: u64,
        /// When a new session might be had.
        retry_after: Duration,
        /// For a person.
        text: String,
        /// Messages the server did not acknowledge.
        unacknowledged: usize,
    },
    /// A ping of [`DocumentMachine::ping`] was answered.
    Pong {
        /// The ping's.
        nonce: u64,
        /// From writing the ping to reading the pong.
        round_trip: Duration,
    },
}

/// Where a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentPhase {
    /// Not started.
    Idle,
    /// The transport is being opened.
    Connecting,
    /// Waiting for the answer to hello.
    Hello,
    /// Confirmed an offer, waiting for the welcome.
    Offered,
    /// Welcomed.
    Connected,
    /// Waiting before the next attempt.
    Waiting,
    /// Hidden for longer than the session is kept: quiet until shown.
    Resting,
    /// The page went away.
    Left,
    /// Nothing more will happen.
    Over,
}

/// A message was not taken into the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused {
    /// Too much waits for acknowledgement.
    #[error("the outbox is full")]
    OutboxFull,
    /// Above the session's message limit.
    #[error("the message is above the session's limit")]
    TooLarge,
    /// The session is over.
    #[error("the session is over")]
    SessionOver,
}

/// The browser's half of one session.
#[derive(Debug)]
pub struct DocumentMachine {
    options: DocumentOptions,
    lanes: Lanes,
    in_hand: PerLane<Option<u64>>,
    phase: DocumentPhase,
    incarnation: u64,
    /// Numbers hellos and connections alike.
    attempt: u64,
    /// The attempt whose connection is in use.
    connection: Option<u64>,
    /// Hello or confirm is to be written.
    is_due: bool,
    /// The connection is closed with this code once `leave` is written.
    leaving: Option<u64>,
    /// When the current phase gives up, or tries again.
    deadline: Option<Instant>,
    /// The server named the deadline of the wait.
    is_later: bool,
    pong_due: Option<u64>,
    ping_due: bool,
    /// Pings without an answer, and when one was written that stands for them.
    pings: VecDeque<(u64, Option<Instant>)>,
    nonce: u64,
    heard: Instant,
    tail: Tail,
    /// When the silence after a probe has lasted too long.
    probed_until: Option<Instant>,
    heartbeat: Duration,
    keep: Duration,
    hidden_at: Option<Instant>,
    lost_at: Instant,
    /// Waits before connections since the last one that lived.
    waits: u32,
    gaps: u8,
    random: u64,
    actions: VecDeque<Action>,
    events: VecDeque<DocumentEvent>,
}

impl DocumentMachine {
    /// A document that has not started.
    pub fn new(mut options: DocumentOptions, now: Instant) -> Self {
        options.limits = options.limits.normalised();
        let lanes = Lanes::new(options.limits);
        let tail = Tail::new(&lanes, now);
        // Neighbouring seeds must not give neighbouring numbers.
        let random = options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self {
            options,
            lanes,
            in_hand: PerLane::default(),
            phase: DocumentPhase::Idle,
            incarnation: 0,
            attempt: 0,
            connection: None,
            is_due: false,
            leaving: None,
            deadline: None,
            is_later: false,
            pong_due: None,
            ping_due: false,
            pings: VecDeque::new(),
            nonce: 0,
            heard: now,
            tail,
            probed_until: None,
            heartbeat: Duration::ZERO,
            keep: Duration::ZERO,
            hidden_at: None,
            lost_at: now,
            waits: 0,
            gaps: 0,
            random,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The page is ready: the first connection.
    pub fn start(&mut self, now: Instant) {
        if self.phase == DocumentPhase::Idle {
            self.connect(now);
        }
    }

    /// The page came online, became visible, or was shown again.
    pub fn handle_wake(&mut self, now: Instant) {
        match self.phase {
            // A probe that ran out while the page slept says nothing.
            DocumentPhase::Connected if self.probed_until.is_none_or(|until| until <= now) => self.probe(now),
            DocumentPhase::Waiting | DocumentPhase::Resting if self.is_later && self.deadline > Some(now) => {
                self.phase = DocumentPhase::Waiting;
            }
            DocumentPhase::Waiting | DocumentPhase::Resting | DocumentPhase::Left => self.connect(now),
            _ => {}
        }
    }

    /// Somebody wants a connection now, whatever was said about waiting.
    pub fn handle_retry(&mut self, now: Instant) {
        self.is_later = false;
        self.handle_wake(now);
    }

    /// The page was hidden or shown.
    pub fn handle_hidden(&mut self, hidden: bool, now: Instant) {
        if hidden {
            self.hidden_at.get_or_insert(now);
        } else if self.hidden_at.take().is_some() && self.phase != DocumentPhase::Left {
            self.handle_wake(now);
        }
    }

    /// The page goes away (`pagehide`). Nothing more happens until [`DocumentMachine::handle_wake`].
    pub fn handle_leave(&mut self) {
        if !matches!(
            self.phase,
            DocumentPhase::Idle | DocumentPhase::Left | DocumentPhase::Over
        ) {
            self.leave(LEFT);
            self.phase = DocumentPhase::Left;
        }
    }

    /// The connection is open: hello is due.
    pub fn handle_open(&mut self, connection: u64, now: Instant) {
        if self.connection == Some(connection) && self.phase == DocumentPhase::Connecting {
            self.expect_answer(DocumentPhase::Hello, now);
        }
    }

    /// Bytes arrived. Those of an older connection are dropped.
    pub fn handle_frame(&mut self, connection: u64, bytes: Bytes, now: Instant) {
        if self.connection != Some(connection) || self.leaving.is_some() {
            return;
        }
        let frame = Frame::decode(bytes, Sender::Server).map_err(Violation::from);
        if let Err(violation) = frame.and_then(|frame| self.handle(frame, now)) {
            self.handle_violation(violation, now);
        }
    }

    /// The connection is gone. `code` is the one it was closed with, 1006 for none.
    pub fn handle_close(&mut self, connection: u64, code: u64, now: Instant) {
        if self.connection != Some(connection) {
            return;
        }
        self.connection = None;
        if self.leaving.take().is_none() {
            self.judge(
                End {
                    code,
                    reason: 0,
                    retry_after: 0,
                    text: String::new(),
                },
                now,
            );
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lanes.handle_timeout(now);
        let expired = self.deadline.is_some_and(|deadline| deadline <= now);
        match self.phase {
            DocumentPhase::Connecting | DocumentPhase::Hello | DocumentPhase::Offered if expired => self.lose(now),
            DocumentPhase::Waiting if self.rest_at().is_some_and(|at| at <= now) => {
                self.phase = DocumentPhase::Resting;
            }
            DocumentPhase::Waiting if expired => self.connect(now),
            DocumentPhase::Connected => match self.probed_until {
                Some(until) if until <= now => self.lose(now),
                None if self.suspect_at() <= now => self.probe(now),
                None if self.ask_at().is_some_and(|at| at <= now) => drop(self.ping()),
                _ => {}
            },
            _ => {}
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// [`SendRefused`]; the message was not queued.
    pub fn send(&mut self, lane: Lane, message: impl Into<Message>) -> Result<(), SendRefused> {
        let message = message.into();
        if self.phase == DocumentPhase::Over {
            return Err(SendRefused::SessionOver);
        }
        if message.len() as u64 > self.options.limits.message {
            return Err(SendRefused::TooLarge);
        }
        if !self.lanes.admits(lane, message.len()) {
            return Err(SendRefused::OutboxFull);
        }
        self.lanes.push(lane, message);
        Ok(())
    }

    /// The next message of a lane. At most one is in hand: [`DocumentMachine::release`] it before the next.
    pub fn take(&mut self, lane: Lane) -> Option<Received> {
        if self.in_hand[lane].is_some() {
            return None;
        }
        let (received, held) = self.lanes.take_holding(lane)?;
        self.in_hand[lane] = Some(held);
        Some(received)
    }

    /// The message in hand has been dealt with: its credit comes back.
    pub fn release(&mut self, lane: Lane, now: Instant) {
        if let Some(held) = self.in_hand[lane].take() {
            self.lanes.release(lane, held, now);
        }
    }

    /// What was taken cannot be inflated: the session is over.
    pub fn handle_bad_payload(&mut self, too_large: bool) {
        if self.phase != DocumentPhase::Over {
            self.fail(if too_large {
                Violation::TooLarge
            } else {
                Violation::Malformed
            });
        }
    }

    /// Measures the round trip: the pong is an event.
    pub fn ping(&mut self) -> u64 {
        self.nonce += 1;
        self.pings.push_back((self.nonce, None));
        self.ping_due = true;
        self.nonce
    }

    /// The next frame to write on a connection. `bulk_allowed`: the transport has little buffered.
    pub fn poll_transmit(&mut self, connection: u64, bulk_allowed: bool, now: Instant) -> Option<Frame> {
        if self.connection != Some(connection) {
            return None;
        }
        if let Some(code) = self.leaving {
            self.drop_connection(code);
            return Some(Frame::Leave);
        }
        match self.phase {
            DocumentPhase::Connected => self.poll_connected(bulk_allowed, now),
            _ if self.is_due => Some(self.introduce(now)),
            _ => None,
        }
    }

    /// What the transport is to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<DocumentEvent> {
        self.events.pop_front()
    }

    /// When to call [`DocumentMachine::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let times = match self.phase {
            DocumentPhase::Connecting | DocumentPhase::Hello | DocumentPhase::Offered => [self.deadline, None, None],
            DocumentPhase::Connected => [
                self.probed_until.or_else(|| Some(self.suspect_at())),
                self.ask_at(),
                self.lanes.ack_timeout(),
            ],
            DocumentPhase::Waiting => [self.deadline, self.rest_at(), None],
            DocumentPhase::Idle | DocumentPhase::Resting | DocumentPhase::Left | DocumentPhase::Over => return None,
        };
        times.into_iter().flatten().min()
    }

    /// Where the document is.
    pub fn phase(&self) -> DocumentPhase {
        self.phase
    }

    /// The incarnation it was welcomed with; 0 if it never was.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Charge that waits for acknowledgement.
    pub fn outgoing(&self, lane: Lane) -> u64 {
        self.lanes.outgoing(lane)
    }

    /// Charge of what was received and not taken.
    pub fn incoming(&self, lane: Lane) -> u64 {
        self.lanes.incoming(lane)
    }

    /// Messages the server has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.lanes.unacknowledged()
    }

    fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        self.heard = now;
        self.probed_until = None;
        if let Frame::End(end) = frame {
            self.drop_connection(LEFT);
            self.judge(end, now);
            return Ok(());
        }
        if self.phase == DocumentPhase::Connected {
            self.waits = 0;
            return self.handle_connected(frame, now);
        }
        match (self.phase, frame) {
            _ if self.is_due => Err(Violation::Malformed),
            (DocumentPhase::Hello | DocumentPhase::Offered, Frame::Welcome(welcome)) => self.handle_welcome(&welcome),
            (DocumentPhase::Hello, Frame::Offer) if self.incarnation == 0 => {
                self.expect_answer(DocumentPhase::Offered, now);
                Ok(())
            }
            _ => Err(Violation::Malformed),
        }
    }

    fn handle_connected(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        match frame {
            Frame::Data(data) => self.handle_data(data, now)?,
            Frame::Ack(counts) => self.lanes.handle_counts(&counts)?,
            Frame::Ping { nonce, counts } => {
                self.pong_due = Some(nonce);
                self.lanes.handle_counts(&counts)?;
            }
            Frame::Pong { nonce, counts } => {
                self.handle_pong(nonce, now);
                self.lanes.handle_counts(&counts)?;
                self.tail.handle_pong(nonce, &self.lanes)?;
            }
            _ => return Err(Violation::Malformed),
        }
        self.tail.handle_frame(&self.lanes, now);
        Ok(())
    }

    fn handle_welcome(&mut self, welcome: &Welcome) -> Result<(), Violation> {
        // The server has welcomed us: from here on its errors are final.
        self.enter(DocumentPhase::Connected);
        let outcome = match (self.incarnation, welcome.incarnation) {
            (0, 1) => Outcome::Opened,
            (0, 2..) => Outcome::Restored,
            (mine, theirs) if mine != 0 && mine == theirs => Outcome::Resumed,
            _ => return Err(Violation::Malformed),
        };
        let outbox = self.options.limits.outbox;
        if (Limits {
            outbox,
            ..welcome.limits
        }) != self.options.limits
        {
            return Err(Violation::Malformed);
        }
        self.lanes.handle_counts(&welcome.counts)?;
        self.lanes.rewind();
        self.tail = Tail::new(&self.lanes, self.heard);
        self.incarnation = welcome.incarnation;
        self.heartbeat = from_wire(welcome.heartbeat);
        self.keep = from_wire(welcome.keep);
        self.waits = 1;
        self.events.push_back(DocumentEvent::Welcomed {
            outcome,
            incarnation: self.incarnation,
        });
        Ok(())
    }

    fn handle_data(&mut self, data: Data, now: Instant) -> Result<(), Violation> {
        if self.lanes.handle_data(data, now)? != Accepted::Duplicate {
            self.gaps = 0;
        }
        Ok(())
    }

    /// The server answers only the newest of several pings, so a pong settles all before it.
    fn handle_pong(&mut self, nonce: u64, now: Instant) {
        let settled = self
            .pings
            .iter()
            .position(|ping| ping.0 == nonce)
            .map_or(0, |last| last + 1);
        for (nonce, written) in self.pings.drain(..settled) {
            let round_trip = now.saturating_duration_since(written.unwrap_or(now));
            self.events.push_back(DocumentEvent::Pong { nonce, round_trip });
        }
    }

    /// The server closed the connection, or said why it will.
    fn judge(&mut self, end: End, now: Instant) {
        let End {
            code,
            reason,
            retry_after,
            text,
        } = end;
        let retry_after = from_wire(retry_after);
        if reason != 0 {
            return self.end(code, reason, retry_after, text);
        }
        match Class::of(code) {
            Class::Never => {
                self.enter(DocumentPhase::Over);
                self.events.push_back(DocumentEvent::Refused {
                    code,
                    text,
                    retry_at: None,
                });
            }
            Class::Later => {
                let retry_at = self.retry(retry_after.max(LATER), now);
                self.events.push_back(DocumentEvent::Refused { code, text, retry_at });
            }
            Class::Now | Class::Ignore => self.reconnect(code, now),
        }
    }

    fn handle_violation(&mut self, violation: Violation, now: Instant) {
        let is_gap = violation == Violation::Gap;
        self.gaps += u8::from(is_gap);
        let is_repaired = violation == Violation::Loss || is_gap && self.gaps < GAPS_IN_A_ROW;
        if self.phase == DocumentPhase::Connected && !is_repaired {
            return self.fail(if is_gap { Violation::Malformed } else { violation });
        }
        // Before the welcome an error costs the connection only.
        self.drop_connection(violation.code() as u64);
        self.reconnect(violation.code() as u64, now);
    }

    /// The server broke the protocol.
    fn fail(&mut self, violation: Violation) {
        let code = violation.code() as u64;
        self.leave(code);
        self.end(
            code,
            violation.reason().number(),
            Duration::ZERO,
            "the server broke the protocol".to_owned(),
        );
    }

    fn end(&mut self, code: u64, reason: u64, retry_after: Duration, text: String) {
        self.enter(DocumentPhase::Over);
        let unacknowledged = self.lanes.unacknowledged();
        self.events.push_back(DocumentEvent::Ended {
            code,
            reason,
            retry_after,
            text,
            unacknowledged,
        });
    }

    fn connect(&mut self, now: Instant) {
        self.drop_connection(LEFT);
        self.pings.clear();
        self.ping_due = false;
        self.attempt += 1;
        self.connection = Some(self.attempt);
        self.actions.push_back(Action::Connect(self.attempt));
        self.enter(DocumentPhase::Connecting);
        self.deadline = Some(now + ANSWER_DEADLINE);
    }

    /// Hello or confirm is due; the answer is waited for.
    fn expect_answer(&mut self, phase: DocumentPhase, now: Instant) {
        self.enter(phase);
        self.is_due = true;
        self.deadline = Some(now + ANSWER_DEADLINE);
    }

    fn introduce(&mut self, now: Instant) -> Frame {
        self.is_due = false;
        self.deadline = Some(now + ANSWER_DEADLINE);
        if self.phase == DocumentPhase::Offered {
            return Frame::Confirm;
        }
        Frame::Hello(Hello {
            secret: self.options.secret.clone(),
            document: self.options.document,
            incarnation: self.incarnation,
            attempt: self.attempt,
            counts: self.lanes.report(),
        })
    }

    /// The connection in use has been silent for too long.
    fn lose(&mut self, now: Instant) {
        self.drop_connection(Code::Silent as u64);
        self.reconnect(Code::Silent as u64, now);
    }

    fn reconnect(&mut self, code: u64, now: Instant) {
        let retry_at = self.retry(Duration::ZERO, now);
        self.events.push_back(DocumentEvent::Disconnected { code, retry_at });
        if retry_at == Some(now) {
            self.connect(now);
        }
    }

    /// Waits for the next attempt, not less than `least`. When it is due, unless the page rests.
    fn retry(&mut self, least: Duration, now: Instant) -> Option<Instant> {
        if self.phase == DocumentPhase::Connected {
            self.lost_at = now;
            // Connections that end right after their welcome must not follow each other without a pause.
            if now.saturating_duration_since(self.heard) >= SHORT_LIFE {
                self.waits = 0;
            }
        }
        let rest_at = self.rest_at();
        let cap = self.backoff_cap();
        let retry_at = now + self.next_backoff(cap).max(least);
        self.is_later = !least.is_zero();
        // The attempt at once is made even by a page hidden for long.
        let is_resting = rest_at.is_some_and(|at| at <= now) && self.waits > 1;
        self.enter(if is_resting {
            DocumentPhase::Resting
        } else {
            DocumentPhase::Waiting
        });
        self.deadline = Some(retry_at);
        (!is_resting).then_some(retry_at)
    }

    fn backoff_cap(&self) -> Duration {
        match self.hidden_at {
            None => BACKOFF_CAP,
            Some(_) if self.incarnation == 0 => UNKNOWN_CAP,
            Some(_) => (self.keep / 4).min(HIDDEN_CAP),
        }
    }

    /// The first attempt at once, then exponentially later with full jitter.
    fn next_backoff(&mut self, cap: Duration) -> Duration {
        let waits = self.waits;
        self.waits += 1;
        if waits == 0 {
            return Duration::ZERO;
        }
        let exponential = BACKOFF_BASE.mul_f64(BACKOFF_GROWTH.powi((waits - 1).min(64) as i32));
        exponential.min(cap).mul_f64(self.next_random())
    }

    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From when on a hidden page without a connection is quiet.
    fn rest_at(&self) -> Option<Instant> {
        let hidden_at = self.hidden_at.filter(|_| self.incarnation != 0)?;
        Some(hidden_at.max(self.lost_at) + self.keep)
    }

    /// The connection in use, if any, is closed and no longer ours.
    fn drop_connection(&mut self, code: u64) {
        if let Some(connection) = self.connection.take() {
            self.actions.push_back(Action::Close(connection, code));
        }
        self.leaving = None;
    }

    /// Closes, after `leave` where the server has welcomed us.
    fn leave(&mut self, code: u64) {
        if self.phase == DocumentPhase::Connected {
            self.leaving = Some(code);
        } else {
            self.drop_connection(code);
        }
    }

    fn enter(&mut self, phase: DocumentPhase) {
        self.phase = phase;
        self.is_due = false;
        self.deadline = None;
        self.probed_until = None;
        self.pong_due = None;
    }

    fn suspect_at(&self) -> Instant {
        self.heard + 2 * self.heartbeat + PATIENCE
    }

    /// When to ask whether what was written last has come.
    fn ask_at(&self) -> Option<Instant> {
        let at = self.tail.deadline(&self.lanes, self.heartbeat);
        at.filter(|_| !self.ping_due && self.probed_until.is_none())
    }

    /// Asks for a sign of life.
    fn probe(&mut self, now: Instant) {
        self.ping();
        self.probed_until = Some(now + PATIENCE);
    }

    fn poll_connected(&mut self, bulk_allowed: bool, now: Instant) -> Option<Frame> {
        if let Some(nonce) = self.pong_due.take() {
            return Some(Frame::Pong {
                nonce,
                counts: self.lanes.report(),
            });
        }
        if std::mem::take(&mut self.ping_due) {
            for (_, written) in &mut self.pings {
                written.get_or_insert(now);
            }
            self.tail.ask(self.nonce, &self.lanes, now);
            return Some(Frame::Ping {
                nonce: self.nonce,
                counts: self.lanes.report(),
            });
        }
        if let Some(ack) = self.lanes.poll_due_ack(now) {
            return Some(ack);
        }
        self.lanes
            .poll_data(bulk_allowed)
            .map(Frame::Data)
            .or_else(|| self.lanes.poll_riding_ack())
    }
}

/// A duration as the server names it, bounded so that no clock overflows.
fn from_wire(ms: u64) -> Duration {
    Duration::from_millis(ms).min(CENTURY)
}

/// For the transport to open, for the answer to hello, for the answer to confirm.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Silence after a ping, and beyond two heartbeats, that is too long.
const PATIENCE: Duration = Duration::from_secs(5);
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_GROWTH: f64 = 1.2;
/// For a page that is seen.
const BACKOFF_CAP: Duration = Duration::from_secs(3);
/// Upper bound on a quarter of `keep`, which may be unlimited.
const HIDDEN_CAP: Duration = Duration::from_secs(300);
/// For a hidden page that does not know `keep`.
const UNKNOWN_CAP: Duration = Duration::from_secs(10);
/// A code of class *later* is obeyed for at least so long.
const LATER: Duration = Duration::from_millis(500);
/// A connection that was welcomed and then silent for less than this is not replaced at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The close code of a page that goes by itself.
const LEFT: u64 = 1000;
