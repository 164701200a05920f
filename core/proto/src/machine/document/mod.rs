//! The browser's half of a session: one document (PROTOCOL.md, sections 5 to 10). Its TypeScript
//! twin is `core/client/src/machine.ts`.

mod attempt;
mod backoff;
mod closing;
mod connected;
mod event;
mod phase;
mod pings;
mod presence;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::code::Code;
use crate::id::{DocumentId, Secret};
use crate::limits::Limits;
use crate::machine::Violation;
use crate::machine::inbox::Received;
use crate::machine::lanes::Lanes;
use crate::message::{Lane, Message, PerLane};
use crate::wire::{End, Frame, Sender};

use self::attempt::Step;
use self::backoff::Backoff;
pub use self::event::{Action, DocumentEvent, Outcome};
pub use self::phase::DocumentPhase;
use self::phase::Phase;
use self::pings::Pings;
use self::presence::Presence;

/// What a document knows about its session from the start.
#[derive(Debug, Clone)]
pub struct DocumentOptions {
    /// Secret of the session, from the ticket.
    pub secret: Secret,
    /// Identifies this page load.
    pub document: DocumentId,
    /// Limits of the session, from the ticket. `outbox` bounds the charge of each lane's outbox.
    pub limits: Limits,
    /// Seed of the jitter between attempts.
    pub seed: u64,
}

/// Why [`DocumentMachine::send`] did not queue a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendRefused {
    /// Too many bytes wait for acknowledgement.
    #[error("the outbox is full")]
    OutboxFull,
    /// The message is longer than the session allows.
    #[error("the message is longer than the session's limit")]
    TooLarge,
    /// The session has ended.
    #[error("the session has ended")]
    SessionOver,
}

/// The browser's half of one session.
#[derive(Debug)]
pub struct DocumentMachine {
    options: DocumentOptions,
    lanes: Lanes,
    /// Charge of the message of each lane that was taken and not released.
    in_hand: PerLane<Option<u64>>,
    phase: Phase,
    /// Number of this document within the session; 0 before the first welcome.
    incarnation: u64,
    /// Number of attempts so far, which is also the number of the last connection.
    attempts: u64,
    pings: Pings,
    presence: Presence,
    backoff: Backoff,
    /// Number of connections in a row that ended by a gap without progress.
    gaps: u8,
    actions: VecDeque<Action>,
    events: VecDeque<DocumentEvent>,
}

impl DocumentMachine {
    /// Creates a document that has not started.
    pub fn new(mut options: DocumentOptions, now: Instant) -> Self {
        options.limits = options.limits.normalised();
        Self {
            lanes: Lanes::new(options.limits),
            in_hand: PerLane::default(),
            phase: Phase::Idle,
            incarnation: 0,
            attempts: 0,
            pings: Pings::default(),
            presence: Presence::new(now),
            backoff: Backoff::new(options.seed),
            gaps: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            options,
        }
    }

    /// Makes the first attempt to connect, once the page is ready.
    pub fn start(&mut self, now: Instant) {
        if let Phase::Idle = self.phase {
            self.connect(now);
        }
    }

    /// Handles a page that came online, became visible, or was shown again.
    pub fn handle_wake(&mut self, now: Instant) {
        match &mut self.phase {
            // A probe that timed out while the page was suspended proves nothing.
            Phase::Connected(connected) if connected.probed_until.is_none_or(|until| until <= now) => {
                connected.probe(&mut self.pings, now);
            }
            Phase::Waiting(wait) if wait.is_later && wait.retry_at > now => wait.is_resting = false,
            Phase::Waiting(_) | Phase::Left(_) => self.connect(now),
            Phase::Idle | Phase::Attempting(_) | Phase::Connected(_) | Phase::Over(_) => {}
        }
    }

    /// Connects now, even if the server asked for a wait.
    pub fn handle_retry(&mut self, now: Instant) {
        if let Phase::Waiting(wait) = &mut self.phase {
            wait.is_later = false;
        }
        self.handle_wake(now);
    }

    /// Handles a page that was hidden or shown.
    pub fn handle_hidden(&mut self, hidden: bool, now: Instant) {
        let is_back = self.presence.handle_hidden(hidden, now);
        if is_back && !matches!(self.phase, Phase::Left(_)) {
            self.handle_wake(now);
        }
    }

    /// Handles a page that goes away (`pagehide`). The machine does nothing more until
    /// [`DocumentMachine::handle_wake`].
    pub fn handle_leave(&mut self) {
        if !matches!(self.phase, Phase::Idle | Phase::Left(_) | Phase::Over(_)) {
            self.phase = Phase::Left(self.leave(LEFT));
        }
    }

    /// Handles a connection that has opened: hello becomes due.
    pub fn handle_open(&mut self, connection: u64, now: Instant) {
        if let Phase::Attempting(attempt) = &mut self.phase
            && attempt.connection == connection
            && attempt.step == Step::Opening
        {
            attempt.begin(Step::Hello, now);
        }
    }

    /// Handles bytes that arrived. Those of an older connection are dropped.
    pub fn handle_frame(&mut self, connection: u64, bytes: Bytes, now: Instant) {
        let is_leaving = matches!(self.phase, Phase::Left(_) | Phase::Over(_));
        if self.phase.connection() != Some(connection) || is_leaving {
            return;
        }
        let frame = Frame::decode(bytes, Sender::Server).map_err(Violation::from);
        if let Err(violation) = frame.and_then(|frame| self.handle(frame, now)) {
            self.handle_violation(violation, now);
        }
    }

    fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        if let Phase::Connected(connected) = &mut self.phase {
            connected.heard = now;
            connected.probed_until = None;
        }
        if let Frame::End(end) = frame {
            self.close_connection(LEFT);
            self.handle_end(end, now);
            return Ok(());
        }
        match self.phase {
            Phase::Connected(_) => self.handle_connected(frame, now),
            _ => self.handle_answer(frame, now),
        }
    }

    /// Handles the end of a connection. `code` is its close code, or 1006 if it had none.
    pub fn handle_close(&mut self, connection: u64, code: u64, now: Instant) {
        if self.phase.connection() != Some(connection) {
            return;
        }
        if let Phase::Left(leaving) | Phase::Over(leaving) = &mut self.phase {
            *leaving = None;
            return;
        }
        let end = End {
            code,
            reason: 0,
            retry_after: 0,
            text: String::new(),
        };
        self.handle_end(end, now);
    }

    /// Performs what is due. Call it at the time that [`DocumentMachine::poll_timeout`] returns.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lanes.handle_timeout(now);
        let rests = self.presence.rest_at().is_some_and(|at| at <= now);
        match &mut self.phase {
            Phase::Attempting(attempt) if attempt.deadline <= now => self.lose(Code::Silent, now),
            Phase::Waiting(wait) if rests => wait.is_resting = true,
            Phase::Waiting(wait) if wait.retry_at <= now && !wait.is_resting => self.connect(now),
            _ => self.check_silence(now),
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// Returns [`SendRefused`] if the message was not queued.
    pub fn send(&mut self, lane: Lane, message: impl Into<Message>) -> Result<(), SendRefused> {
        let message = message.into();
        if let Phase::Over(_) = self.phase {
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

    /// Returns the next message of a lane. Call [`DocumentMachine::release`] before you take
    /// another message of this lane.
    pub fn take(&mut self, lane: Lane) -> Option<Received> {
        if self.in_hand[lane].is_some() {
            return None;
        }
        let (received, held) = self.lanes.take_holding(lane)?;
        self.in_hand[lane] = Some(held);
        Some(received)
    }

    /// Releases the message that was taken, and with it the credit that it holds.
    pub fn release(&mut self, lane: Lane, now: Instant) {
        if let Some(held) = self.in_hand[lane].take() {
            self.lanes.release(lane, held, now);
        }
    }

    /// Ends the session because a message that was taken cannot be inflated.
    pub fn handle_bad_payload(&mut self, too_large: bool) {
        if !matches!(self.phase, Phase::Over(_)) {
            self.fail(if too_large {
                Violation::TooLarge
            } else {
                Violation::Malformed
            });
        }
    }

    /// Asks for a ping. Returns the nonce of the [`DocumentEvent::Pong`] that reports the round
    /// trip.
    pub fn ping(&mut self) -> u64 {
        self.pings.ask()
    }

    /// Returns the next frame to write on a connection. Set `bulk_allowed` while the transport has
    /// little buffered.
    pub fn poll_transmit(&mut self, connection: u64, bulk_allowed: bool, now: Instant) -> Option<Frame> {
        if self.phase.connection() != Some(connection) {
            return None;
        }
        match self.phase {
            Phase::Attempting(_) => self.poll_attempt(now),
            Phase::Connected(_) => self.poll_connected(bulk_allowed, now),
            _ => self.poll_leave().then_some(Frame::Leave),
        }
    }

    /// Returns the next instruction to the transport.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<DocumentEvent> {
        self.events.pop_front()
    }

    /// Returns when to call [`DocumentMachine::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (first, second) = match &self.phase {
            Phase::Attempting(attempt) => (attempt.deadline, None),
            Phase::Connected(connected) => (connected.timeout(&self.lanes, &self.pings), self.lanes.ack_timeout()),
            Phase::Waiting(wait) if !wait.is_resting => (wait.retry_at, self.presence.rest_at()),
            Phase::Idle | Phase::Waiting(_) | Phase::Left(_) | Phase::Over(_) => return None,
        };
        Some(second.map_or(first, |second| second.min(first)))
    }

    /// Returns the phase of the document.
    pub fn phase(&self) -> DocumentPhase {
        self.phase.public()
    }

    /// Returns the incarnation that the document was welcomed with, or 0 before the first welcome.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Returns the charge of the messages that wait for acknowledgement.
    pub fn outgoing(&self, lane: Lane) -> u64 {
        self.lanes.outgoing(lane)
    }

    /// Returns the charge of the messages that were received and not taken.
    pub fn incoming(&self, lane: Lane) -> u64 {
        self.lanes.incoming(lane)
    }

    /// Returns the number of messages that the server has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.lanes.unacknowledged()
    }
}

/// Converts a duration from the wire, bounded so that no clock overflows.
fn from_wire(ms: u64) -> Duration {
    Duration::from_millis(ms).min(CENTURY)
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Close code of a page that leaves by itself.
const LEFT: u64 = 1000;
