//! The browser's half of a session: one document (PROTOCOL.md sections 5 to 10). Its twin is `client/src/machine.ts`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::code::{Class, Code};
use crate::id::{DocumentId, Secret};
use crate::limits::Limits;
use crate::machine::inbox::{Accepted, Received};
use crate::machine::lanes::Lanes;
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
    /// When the current phase gives up, or tries again.
    deadline: Option<Instant>,
    hello_due: bool,
    confirm_due: bool,
    leave_due: Option<u64>,
    pong_due: Option<u64>,
    ping_due: Option<u64>,
    pings: VecDeque<(u64, Instant)>,
    nonce: u64,
    heard: Instant,
    suspicion: Option<Instant>,
    heartbeat: Duration,
    keep: Duration,
    hidden: bool,
    lost_at: Option<Instant>,
    failures: u32,
    gaps: u8,
    random: u64,
    actions: VecDeque<Action>,
    events: VecDeque<DocumentEvent>,
}

impl DocumentMachine {
    /// A document that has not started.
    pub fn new(options: DocumentOptions, now: Instant) -> Self {
        let lanes = Lanes::new(options.limits.normalised());
        let random = options.seed | 1;
        Self {
            options,
            lanes,
            in_hand: PerLane::default(),
            phase: DocumentPhase::Idle,
            incarnation: 0,
            attempt: 0,
            deadline: None,
            hello_due: false,
            confirm_due: false,
            leave_due: None,
            pong_due: None,
            ping_due: None,
            pings: VecDeque::new(),
            nonce: 0,
            heard: now,
            suspicion: None,
            heartbeat: Duration::from_secs(15),
            keep: Duration::from_secs(120),
            hidden: false,
            lost_at: None,
            failures: 0,
            gaps: 0,
            random,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    // ---- what happens to the page

    /// The page is ready: the first connection.
    pub fn start(&mut self, now: Instant) {
        if self.phase == DocumentPhase::Idle {
            self.connect(now);
        }
    }

    /// The page came online, became visible, or was shown again.
    pub fn handle_wake(&mut self, now: Instant) {
        match self.phase {
            DocumentPhase::Connected => self.suspect(now),
            DocumentPhase::Waiting | DocumentPhase::Resting | DocumentPhase::Left => self.connect(now),
            _ => {}
        }
    }

    /// The page was hidden or shown.
    pub fn handle_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    /// The page goes away (`pagehide`).
    pub fn handle_leave(&mut self) {
        let connection = self.attempt;
        match self.phase {
            DocumentPhase::Over => return,
            DocumentPhase::Connected => self.leave_due = Some(connection),
            DocumentPhase::Connecting | DocumentPhase::Hello | DocumentPhase::Offered => self.drop_connection(1000),
            _ => {}
        }
        self.enter(DocumentPhase::Left, None);
    }

    // ---- what the transport reports

    /// The connection is open: hello is due.
    pub fn handle_open(&mut self, connection: u64, now: Instant) {
        if connection == self.attempt && self.phase == DocumentPhase::Connecting {
            self.hello_due = true;
            self.enter(DocumentPhase::Hello, Some(now + ANSWER_DEADLINE));
        }
    }

    /// Bytes arrived. Those of an older connection are dropped.
    pub fn handle_frame(&mut self, connection: u64, bytes: Bytes, now: Instant) {
        let active = matches!(
            self.phase,
            DocumentPhase::Hello | DocumentPhase::Offered | DocumentPhase::Connected
        );
        if connection != self.attempt || !active {
            return;
        }
        self.heard = now;
        self.suspicion = None;
        let frame = Frame::decode(bytes, Sender::Server).map_err(Violation::from);
        if let Err(violation) = frame.and_then(|frame| self.handle(frame, now)) {
            self.handle_violation(violation, now);
        }
    }

    /// The connection is gone.
    pub fn handle_close(&mut self, connection: u64, code: u64, now: Instant) {
        let active = matches!(
            self.phase,
            DocumentPhase::Connecting | DocumentPhase::Hello | DocumentPhase::Offered | DocumentPhase::Connected
        );
        if connection == self.attempt && active {
            let end = End {
                code,
                reason: 0,
                retry_after: 0,
                text: String::new(),
            };
            self.handle_refusal(end, now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lanes.handle_timeout(now);
        let expired = self.deadline.is_some_and(|deadline| deadline <= now);
        match self.phase {
            DocumentPhase::Connecting | DocumentPhase::Hello | DocumentPhase::Offered if expired => {
                self.give_up_connection(now);
            }
            DocumentPhase::Waiting if expired => self.connect(now),
            DocumentPhase::Connected => self.check_silence(now),
            _ => {}
        }
    }

    // ---- the application

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

    /// Measures the round trip: the pong is an event.
    pub fn ping(&mut self) -> u64 {
        self.nonce += 1;
        self.ping_due = Some(self.nonce);
        self.nonce
    }

    // ---- outputs

    /// The next frame to write on a connection. `bulk_allowed`: the transport has little buffered.
    pub fn poll_transmit(&mut self, connection: u64, bulk_allowed: bool, now: Instant) -> Option<Frame> {
        if self.leave_due == Some(connection) {
            self.leave_due = None;
            self.actions.push_back(Action::Close(connection, 1000));
            return Some(Frame::Leave);
        }
        if connection != self.attempt {
            return None;
        }
        match self.phase {
            DocumentPhase::Hello if self.hello_due => Some(self.write_hello()),
            DocumentPhase::Offered if std::mem::take(&mut self.confirm_due) => Some(Frame::Confirm),
            DocumentPhase::Connected => self.poll_connected(bulk_allowed, now),
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
        match self.phase {
            DocumentPhase::Connected => {
                let silence = self.suspicion.unwrap_or(self.heard + 2 * self.heartbeat + SUSPICION);
                [Some(silence), self.lanes.ack_timeout()].into_iter().flatten().min()
            }
            _ => self.deadline,
        }
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

    // ---- frames

    fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        match (self.phase, frame) {
            (_, Frame::End(end)) => {
                self.handle_end(end, now);
                Ok(())
            }
            (DocumentPhase::Hello, Frame::Offer) => {
                self.confirm_due = true;
                self.enter(DocumentPhase::Offered, Some(now + ANSWER_DEADLINE));
                Ok(())
            }
            (DocumentPhase::Hello | DocumentPhase::Offered, Frame::Welcome(welcome)) => {
                self.handle_welcome(&welcome, now)
            }
            (DocumentPhase::Connected, Frame::Data(data)) => self.handle_data(data, now),
            (DocumentPhase::Connected, Frame::Ack(counts)) => self.lanes.handle_counts(&counts),
            (DocumentPhase::Connected, Frame::Ping { nonce, counts }) => {
                self.pong_due = Some(nonce);
                self.lanes.handle_counts(&counts)
            }
            (DocumentPhase::Connected, Frame::Pong { nonce, counts }) => {
                self.handle_pong(nonce, now);
                self.lanes.handle_counts(&counts)
            }
            _ => Err(Violation::Malformed),
        }
    }

    fn handle_welcome(&mut self, welcome: &Welcome, now: Instant) -> Result<(), Violation> {
        let outcome = match (self.incarnation, welcome.incarnation) {
            (0, 1) => Outcome::Opened,
            (0, 2..) => Outcome::Restored,
            (mine, theirs) if mine != 0 && mine == theirs => Outcome::Resumed,
            _ => return Err(Violation::Malformed),
        };
        self.lanes.handle_counts(&welcome.counts)?;
        self.lanes.rewind();
        self.incarnation = welcome.incarnation;
        self.heartbeat = Duration::from_millis(welcome.heartbeat);
        self.keep = Duration::from_millis(welcome.keep);
        self.failures = 0;
        self.lost_at = None;
        self.enter(DocumentPhase::Connected, None);
        self.heard = now;
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

    fn handle_pong(&mut self, nonce: u64, now: Instant) {
        while let Some((sent, at)) = self.pings.pop_front() {
            if sent == nonce {
                let round_trip = now.saturating_duration_since(at);
                self.events.push_back(DocumentEvent::Pong { nonce, round_trip });
                return;
            }
        }
    }

    fn handle_end(&mut self, end: End, now: Instant) {
        if end.reason == 0 {
            self.drop_connection(end.code);
            return self.handle_refusal(end, now);
        }
        let unacknowledged = self.lanes.unacknowledged();
        self.drop_connection(end.code);
        self.enter(DocumentPhase::Over, None);
        self.events.push_back(DocumentEvent::Ended {
            code: end.code,
            reason: end.reason,
            retry_after: Duration::from_millis(end.retry_after),
            text: end.text,
            unacknowledged,
        });
    }

    /// A connection is over, and the session perhaps not.
    fn handle_refusal(&mut self, end: End, now: Instant) {
        let was_welcomed = self.phase == DocumentPhase::Connected;
        self.lost_at.get_or_insert(now);
        match Class::of(end.code) {
            Class::Never => {
                self.enter(DocumentPhase::Over, None);
                self.events.push_back(DocumentEvent::Refused {
                    code: end.code,
                    text: end.text,
                    retry_at: None,
                });
            }
            Class::Later => {
                let retry_at = now + Duration::from_millis(end.retry_after).max(BACKOFF_BASE);
                self.enter(DocumentPhase::Waiting, Some(retry_at));
                let retry_at = Some(retry_at);
                self.events.push_back(DocumentEvent::Refused {
                    code: end.code,
                    text: end.text,
                    retry_at,
                });
            }
            Class::Now | Class::Ignore => self.reconnect(end.code, was_welcomed, now),
        }
    }

    fn handle_violation(&mut self, violation: Violation, now: Instant) {
        let code = violation.code() as u64;
        if violation == Violation::Gap {
            self.gaps += 1;
            if self.gaps < GAPS_IN_A_ROW {
                self.drop_connection(code);
                return self.reconnect(code, true, now);
            }
        }
        let code = if violation == Violation::Gap {
            Code::Malformed as u64
        } else {
            code
        };
        self.drop_connection(code);
        self.enter(DocumentPhase::Over, None);
        let text = "the server broke the protocol".to_owned();
        self.events.push_back(DocumentEvent::Refused {
            code,
            text,
            retry_at: None,
        });
    }

    // ---- connecting

    fn connect(&mut self, now: Instant) {
        self.attempt += 1;
        self.hello_due = false;
        self.confirm_due = false;
        self.actions.push_back(Action::Connect(self.attempt));
        self.enter(DocumentPhase::Connecting, Some(now + ANSWER_DEADLINE));
    }

    fn write_hello(&mut self) -> Frame {
        self.hello_due = false;
        Frame::Hello(Hello {
            secret: self.options.secret.clone(),
            document: self.options.document,
            incarnation: self.incarnation,
            attempt: self.attempt,
            counts: self.lanes.report(),
        })
    }

    /// The first attempt after a welcome at once, then with full jitter.
    fn reconnect(&mut self, code: u64, was_welcomed: bool, now: Instant) {
        let lost_at = *self.lost_at.get_or_insert(now);
        if self.hidden && now.saturating_duration_since(lost_at) > self.keep {
            self.enter(DocumentPhase::Resting, None);
            return self
                .events
                .push_back(DocumentEvent::Disconnected { code, retry_at: None });
        }
        let retry_at = now
            + if was_welcomed {
                Duration::ZERO
            } else {
                self.next_backoff()
            };
        self.enter(DocumentPhase::Waiting, Some(retry_at));
        self.events.push_back(DocumentEvent::Disconnected {
            code,
            retry_at: Some(retry_at),
        });
    }

    fn next_backoff(&mut self) -> Duration {
        let cap = if self.hidden { self.keep / 4 } else { BACKOFF_CAP };
        let exponential = BACKOFF_BASE * 2u32.pow(self.failures.min(16));
        self.failures += 1;
        exponential.min(cap).mul_f64(self.next_random())
    }

    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn give_up_connection(&mut self, now: Instant) {
        self.drop_connection(Code::Silent as u64);
        self.reconnect(1006, false, now);
    }

    fn drop_connection(&mut self, code: u64) {
        self.actions.push_back(Action::Close(self.attempt, code));
    }

    fn enter(&mut self, phase: DocumentPhase, deadline: Option<Instant>) {
        self.phase = phase;
        self.deadline = deadline;
        self.suspicion = None;
        self.pong_due = None;
        self.pings.clear();
    }

    // ---- silence

    /// Asks for a sign of life, unless it is being asked for already.
    fn suspect(&mut self, now: Instant) {
        if self.suspicion.is_none() {
            self.suspicion = Some(now + SUSPICION);
            self.ping();
        }
    }

    fn check_silence(&mut self, now: Instant) {
        match self.suspicion {
            Some(until) if until <= now => {
                self.drop_connection(Code::Silent as u64);
                self.reconnect(Code::Silent as u64, true, now);
            }
            None if self.heard + 2 * self.heartbeat + SUSPICION <= now => self.suspect(now),
            _ => {}
        }
    }

    // ---- writing

    fn poll_connected(&mut self, bulk_allowed: bool, now: Instant) -> Option<Frame> {
        if let Some(nonce) = self.pong_due.take() {
            return Some(Frame::Pong {
                nonce,
                counts: self.lanes.report(),
            });
        }
        if let Some(nonce) = self.ping_due.take() {
            self.pings.push_back((nonce, now));
            return Some(Frame::Ping {
                nonce,
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

const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const SUSPICION: Duration = Duration::from_secs(5);
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(10);
