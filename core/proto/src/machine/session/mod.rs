//! The server's half of a session: phases, documents, the current connection (PROTOCOL.md sections 5, 6, 9 and 10).

mod attached;
mod newcomer;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::code::{Code, EndReason};
use crate::id::DocumentId;
use crate::limits::Limits;
use crate::machine::inbox::{Accepted, Received};
use crate::machine::lanes::Lanes;
use crate::machine::session::attached::{Attached, Ping};
use crate::machine::session::newcomer::{Newcomer, Offer};
use crate::machine::tail::Tail;
use crate::machine::{GAPS_IN_A_ROW, Violation};
use crate::message::{Lane, Message};
use crate::wire::{Counts, Data, End, Frame, Hello, Sender};

/// The waits of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A ping goes out when nothing was received for this long (with jitter, never longer). Twice as long without an answer is silence. Default 15 s.
    pub heartbeat: Duration,
    /// How long an incumbent may take to answer before its session is offered to a newcomer; `None` offers at once. Default 2 s.
    pub probe: Option<Duration>,
    /// How long a connection may take to say hello, and to confirm an offer. Default 10 s.
    pub hello: Duration,
    /// How long an ending session waits for its last messages to be acknowledged while it has a connection. Default 10 s.
    pub ending: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            probe: Some(Duration::from_secs(2)),
            hello: Duration::from_secs(10),
            ending: Duration::from_secs(10),
        }
    }
}

/// Tells the connections of one session apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u64);

/// Where a session is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Opened; no browser has come yet.
    Unconnected,
    /// A connection carries it.
    Open,
    /// The connection is gone, the session waits.
    SoftClosed(Cause),
    /// Its last messages are on their way.
    Ending(EndReason),
    /// Over.
    Closed(EndReason),
}

/// Why a session lost its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The transport ended.
    Lost,
    /// The page said that it goes away.
    Left,
    /// Two heartbeats passed without a sign of life.
    Silent,
    /// A sequence was skipped, or a pong showed that something was lost on the way.
    Gap,
    /// The application asked for it.
    Asked,
}

/// What the cause is called in a log line.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the connection was lost",
            Self::Left => "the page went away",
            Self::Silent => "the browser fell silent",
            Self::Gap => "a frame was missing",
            Self::Asked => "the application asked for it",
        })
    }
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Its first document connected.
    Opened,
    /// Its connection is gone.
    SoftClosed(Cause),
    /// Its document is back.
    Resumed {
        /// How long it was without a connection; zero for a takeover.
        gap: Duration,
        /// Messages that were sent to the browser and had not been acknowledged.
        replayed: usize,
    },
    /// Another document has taken it over.
    Restored {
        /// The new document's number.
        incarnation: u64,
    },
    /// It is over.
    Ended(EndReason),
}

/// The server's half of one session.
#[derive(Debug)]
pub struct SessionMachine {
    timing: Timing,
    lanes: Lanes,
    phase: Phase,
    /// When the phase or the link last changed.
    since: Instant,
    version: u64,
    document: Option<Document>,
    incarnation: u64,
    epoch: u64,
    /// Boxed, like the newcomer: a session without a connection is to be small.
    attached: Option<Box<Attached>>,
    /// Why the last one is gone, if none has come since.
    cause: Option<Cause>,
    newcomer: Option<Box<Newcomer>>,
    departing: Vec<Departing>,
    ending: Ending,
    nonce: u64,
    gaps: u8,
    duplicates: u64,
    reconnects: u64,
    last_lane: Lane,
    jitter: u64,
    events: VecDeque<Event>,
}

/// The document whose session this is.
#[derive(Debug)]
struct Document {
    id: DocumentId,
    attempt: u64,
}

/// A connection that still has to be told why it is over.
#[derive(Debug)]
struct Departing {
    key: ConnectionKey,
    ack: bool,
    end: End,
}

/// What an ending session tells and how long it waits.
#[derive(Debug, Default)]
struct Ending {
    retry_after: u64,
    deadline: Option<Instant>,
    unacknowledged: usize,
}

impl SessionMachine {
    /// A session that waits for its first browser. `seed` only spreads heartbeats.
    pub fn new(limits: Limits, timing: Timing, seed: u64, now: Instant) -> Self {
        Self {
            timing,
            lanes: Lanes::with_compressed(limits.normalised(), false),
            phase: Phase::Unconnected,
            since: now,
            version: 0,
            document: None,
            incarnation: 0,
            epoch: 0,
            attached: None,
            cause: None,
            newcomer: None,
            departing: Vec::new(),
            ending: Ending::default(),
            nonce: 0,
            gaps: 0,
            duplicates: 0,
            reconnects: 0,
            last_lane: Lane::Bulk,
            jitter: seed | 1,
            events: VecDeque::new(),
        }
    }

    /// The same session, taking compressed messages too. One that does not ends as [`EndReason::Malformed`] when it is sent one.
    #[must_use]
    pub fn taking_compressed(self) -> Self {
        let limits = *self.lanes.limits();
        Self {
            lanes: Lanes::new(limits),
            ..self
        }
    }

    /// A connection said hello with the right secret. `keep` is what the welcome tells: how long the session is kept without a connection, in ms.
    pub fn handle_hello(&mut self, key: ConnectionKey, hello: &Hello, keep: u64, now: Instant) {
        if let Phase::Closed(reason) = &self.phase {
            let end = end_of_session(reason, self.ending.retry_after);
            return self.depart(key, false, end);
        }
        if hello.incarnation == 0 && hello.counts.received != Counts::default().received {
            return self.refuse(key, Code::Malformed, "counts of a document that was never welcomed");
        }
        let known = self
            .document
            .as_ref()
            .is_some_and(|document| document.id == hello.document);
        if hello.incarnation != 0 && (hello.incarnation != self.incarnation || !known) {
            return self.refuse(key, Code::Superseded, "this session was opened by another document");
        }
        if known {
            return self.handle_return(key, hello, keep, now);
        }
        if self.document.is_none() {
            return self.handle_first(key, hello, keep, now);
        }
        if let Phase::Ending(reason) = &self.phase {
            let end = end_of_session(reason, self.ending.retry_after);
            return self.depart(key, false, end);
        }
        self.handle_newcomer(key, hello, keep, now);
    }

    /// Bytes that arrived on a connection, after its hello.
    pub fn handle_frame(&mut self, key: ConnectionKey, bytes: Bytes, now: Instant) {
        let frame = Frame::decode(bytes, Sender::Client);
        if self.is_attached(key) {
            let result = frame
                .map_err(Violation::from)
                .and_then(|frame| self.handle_current(frame, now));
            if let Err(violation) = result {
                self.handle_violation(key, violation, now);
            }
        } else if self.newcomer.as_ref().is_some_and(|newcomer| newcomer.key == key) {
            match frame {
                Ok(Frame::Confirm) => self.handle_confirm(now),
                Ok(Frame::Leave) => self.newcomer = None,
                _ => self.handle_violation(key, Violation::Malformed, now),
            }
        }
    }

    /// Something arrived that is no frame at all: text, or more than the transport takes.
    pub fn handle_unreadable(&mut self, key: ConnectionKey, too_large: bool, now: Instant) {
        let violation = if too_large {
            Violation::TooLarge
        } else {
            Violation::Malformed
        };
        self.handle_violation(key, violation, now);
    }

    /// A transport with a keep-alive of its own has found that its peer gives no sign of life.
    pub fn handle_silent(&mut self, key: ConnectionKey, now: Instant) {
        if self.is_attached(key) {
            self.detach(Cause::Silent, now);
            self.refuse(key, Code::Silent, "two heartbeats without a sign of life");
        }
    }

    /// A connection is gone.
    pub fn handle_closed(&mut self, key: ConnectionKey, now: Instant) {
        self.departing.retain(|departing| departing.key != key);
        if self.is_attached(key) {
            self.detach(Cause::Lost, now);
        } else if self.newcomer.as_ref().is_some_and(|newcomer| newcomer.key == key) {
            self.newcomer = None;
        }
    }

    /// Time has passed: whatever is due by [`SessionMachine::poll_timeout`] happens.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lanes.handle_timeout(now);
        self.check_heartbeat(now);
        self.check_newcomer(now);
        let over = self.ending.deadline.is_some_and(|deadline| deadline <= now) && self.attached.is_some();
        if let (true, Phase::Ending(reason)) = (over, &self.phase) {
            let reason = reason.clone();
            self.enter_closed(reason, now);
        }
    }

    /// Whether a message of `size` wire bytes may be queued on `lane` now.
    pub fn admits(&self, lane: Lane, size: usize) -> bool {
        self.lanes.admits(lane, size)
    }

    /// Queues a message that [`SessionMachine::admits`] has admitted.
    pub fn send(&mut self, lane: Lane, message: Message) {
        self.lanes.push(lane, message);
    }

    /// The next message: those of an earlier document first, the lanes in turn.
    pub fn take(&mut self, now: Instant) -> Option<(Lane, Received)> {
        let lane = self.next_lane()?;
        self.last_lane = lane;
        self.lanes.take(lane, now).map(|received| (lane, received))
    }

    /// The incarnation whose message [`SessionMachine::take`] would give.
    pub fn next_incarnation(&self) -> Option<u64> {
        self.lanes.next_incarnation(self.next_lane()?)
    }

    fn next_lane(&self) -> Option<Lane> {
        let [interactive, bulk] = Lane::ALL.map(|lane| self.lanes.next_incarnation(lane));
        match (interactive, bulk) {
            (Some(i), Some(b)) if i == b && self.last_lane == Lane::Interactive => Some(Lane::Bulk),
            (Some(i), Some(b)) => Some(if i <= b { Lane::Interactive } else { Lane::Bulk }),
            (Some(_), None) => Some(Lane::Interactive),
            (None, Some(_)) => Some(Lane::Bulk),
            (None, None) => None,
        }
    }

    /// What was taken cannot be inflated.
    pub fn handle_bad_payload(&mut self, too_large: bool, now: Instant) {
        let violation = if too_large {
            Violation::TooLarge
        } else {
            Violation::Malformed
        };
        self.enter_closed(violation.reason(), now);
    }

    /// Ends the session once what was sent has been acknowledged. Nothing can be sent from now on.
    pub fn close(&mut self, reason: EndReason, now: Instant) {
        self.close_with(reason, Duration::ZERO, self.timing.ending, now);
    }

    /// [`SessionMachine::close`] with a hint when to try again and a wait of its own.
    pub fn close_with(&mut self, reason: EndReason, retry_after: Duration, wait: Duration, now: Instant) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Closed(_)) {
            return;
        }
        self.ending.retry_after = millis(retry_after);
        self.ending.deadline = Some(now + wait);
        self.timing.ending = wait;
        self.dismiss_newcomer(&reason);
        self.enter(Phase::Ending(reason), now);
        self.close_if_delivered(now);
    }

    /// Ends the session now, whatever is on its way.
    pub fn abort(&mut self, reason: EndReason, now: Instant) {
        self.enter_closed(reason, now);
    }

    /// Drops the connection and keeps the session.
    pub fn soft_close(&mut self, now: Instant) {
        if let Some(attached) = &self.attached {
            let key = attached.key;
            self.detach(Cause::Asked, now);
            self.refuse(key, Code::Replaced, "the server asks for a new connection");
        }
    }

    /// The next frame to write on a connection. After an [`Frame::End`] the connection is to be closed with its code.
    pub fn poll_transmit(&mut self, key: ConnectionKey, now: Instant) -> Option<Frame> {
        if let Some(position) = self.departing.iter().position(|departing| departing.key == key) {
            return Some(self.poll_departing(position));
        }
        if self.is_attached(key) {
            return self.poll_attached(now);
        }
        let newcomer = self.newcomer.as_mut().filter(|newcomer| newcomer.key == key)?;
        if !matches!(newcomer.offer, Offer::Due(_)) {
            return None;
        }
        newcomer.offer = Offer::Sent(now);
        Some(Frame::Offer)
    }

    /// Whether a connection still has a part in the session: it carries it, wants it, or has to be told its end.
    pub fn is_known(&self, key: ConnectionKey) -> bool {
        self.is_attached(key)
            || self.newcomer.as_ref().is_some_and(|newcomer| newcomer.key == key)
            || self.is_departing(key)
    }

    /// Whether a connection is over and only has to be told why.
    pub fn is_departing(&self, key: ConnectionKey) -> bool {
        self.departing.iter().any(|departing| departing.key == key)
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        event
    }

    /// When to call [`SessionMachine::handle_timeout`]. Only while there is a connection: a session without one needs no timer of its own.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let newcomer = self
            .newcomer
            .as_ref()
            .and_then(|newcomer| newcomer.deadline(&self.timing));
        let Some(attached) = &self.attached else {
            return newcomer;
        };
        let heartbeat = Some(attached.heartbeat_deadline(&self.timing, &self.lanes));
        [newcomer, heartbeat, self.lanes.ack_timeout(), self.ending.deadline]
            .into_iter()
            .flatten()
            .min()
    }

    /// Where the session is in its life.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// When the phase or the link last changed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Changes with every change of phase, link or document.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether a connection carries the session.
    pub fn has_connection(&self) -> bool {
        self.attached.is_some()
    }

    /// Why no connection carries the session, if it has lost one.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Whether a document was ever welcomed.
    pub fn has_document(&self) -> bool {
        self.document.is_some()
    }

    /// Which document of the session is the current one; 0 before the first.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Which connection of the session is, or was, the current one; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How often its document, or another, connected again.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Data frames that had arrived before and were dropped.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Whether a message can be taken.
    pub fn has_message(&self) -> bool {
        self.lanes.has_message()
    }

    /// Charge waiting in a lane's outbox.
    pub fn outgoing(&self, lane: Lane) -> u64 {
        self.lanes.outgoing(lane)
    }

    /// Charge waiting in a lane's inbox.
    pub fn incoming(&self, lane: Lane) -> u64 {
        self.lanes.incoming(lane)
    }

    /// Charge buffered both ways, without what other sessions share, and [`SessionMachine::spare`].
    pub fn owned(&self) -> u64 {
        self.lanes.owned()
    }

    /// Bytes that are allocated for more than is buffered at present.
    pub fn spare(&self) -> u64 {
        self.lanes.spare()
    }

    /// Messages the browser has not acknowledged; after the end, those it never did.
    pub fn unacknowledged(&self) -> usize {
        if matches!(self.phase, Phase::Closed(_)) {
            self.ending.unacknowledged
        } else {
            self.lanes.unacknowledged()
        }
    }

    /// The limits the session was opened with.
    pub fn limits(&self) -> &Limits {
        self.lanes.limits()
    }

    /// Whether a frame with counts should go out without waiting.
    pub fn is_ack_due(&self) -> bool {
        self.attached.is_some() && self.lanes.is_ack_due()
    }

    /// Its own document is back, or never got its welcome.
    fn handle_return(&mut self, key: ConnectionKey, hello: &Hello, keep: u64, now: Instant) {
        let document = self.document.as_mut().expect("a known document is there");
        if hello.attempt <= document.attempt {
            return self.refuse(key, Code::Stale, "this document has said hello again since");
        }
        if self.lanes.handle_counts(&hello.counts).is_err() {
            return self.refuse(key, Code::Malformed, "counts that this document cannot have");
        }
        document.attempt = hello.attempt;
        let replayed = self.lanes.unacknowledged();
        let gap = if self.attached.is_some() {
            Duration::ZERO
        } else {
            now.saturating_duration_since(self.since)
        };
        self.attach(key, keep, now);
        self.events.push_back(Event::Resumed { gap, replayed });
        self.close_if_delivered(now);
    }

    /// The first document of the session: nobody is displaced.
    fn handle_first(&mut self, key: ConnectionKey, hello: &Hello, keep: u64, now: Instant) {
        if self.lanes.handle_counts(&hello.counts).is_err() {
            return self.refuse(key, Code::Malformed, "counts of a document that was never welcomed");
        }
        self.incarnation = 1;
        self.lanes.begin(1);
        self.document = Some(Document {
            id: hello.document,
            attempt: hello.attempt,
        });
        self.attach(key, keep, now);
        self.events.push_back(Event::Opened);
        self.close_if_delivered(now);
    }

    /// A connection becomes the one that carries the session.
    fn attach(&mut self, key: ConnectionKey, keep: u64, now: Instant) {
        if let Some(old) = self.attached.take() {
            self.refuse(old.key, Code::Replaced, "this document has a newer connection");
        }
        if self.epoch > 0 {
            self.reconnects += 1;
        }
        self.epoch += 1;
        self.cause = None;
        self.lanes.rewind();
        let quiet = self.next_quiet();
        self.attached = Some(Box::new(Attached {
            key,
            keep,
            welcome_due: true,
            heard: now,
            quiet,
            ping: Ping::None,
            pong_due: None,
            tail: Tail::new(&self.lanes, now),
        }));
        if let Phase::Ending(_) = self.phase {
            self.ending.deadline = Some(now + self.timing.ending);
            self.changed(now);
        } else {
            self.enter(Phase::Open, now);
        }
        self.probe_again(now);
    }

    fn handle_current(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let attached = self.attached.as_mut().expect("the current connection is attached");
        attached.heard = now;
        if let Ping::Outstanding { .. } = attached.ping {
            attached.ping = Ping::None;
        }
        match frame {
            Frame::Data(data) => self.handle_data(data, now)?,
            Frame::Ack(counts) => self.handle_counts(&counts, now)?,
            Frame::Ping { nonce, counts } => {
                attached.pong_due = Some(nonce);
                self.handle_counts(&counts, now)?;
            }
            Frame::Pong { nonce, counts } => {
                self.handle_counts(&counts, now)?;
                self.handle_pong(nonce)?;
            }
            Frame::Leave => self.detach(Cause::Left, now),
            Frame::Hello(_) | Frame::Confirm | Frame::Offer | Frame::Welcome(_) | Frame::End(_) => {
                return Err(Violation::Malformed);
            }
        }
        if let Some(attached) = &mut self.attached {
            attached.tail.handle_frame(&self.lanes, now);
        }
        Ok(())
    }

    fn handle_pong(&mut self, nonce: u64) -> Result<(), Violation> {
        self.settle_probe(nonce);
        self.attached
            .as_mut()
            .map_or(Ok(()), |attached| attached.tail.handle_pong(nonce, &self.lanes))
    }

    fn handle_counts(&mut self, counts: &Counts, now: Instant) -> Result<(), Violation> {
        self.lanes.handle_counts(counts)?;
        self.close_if_delivered(now);
        Ok(())
    }

    fn handle_data(&mut self, data: Data, now: Instant) -> Result<(), Violation> {
        match self.lanes.handle_data(data, now)? {
            Accepted::New { .. } => self.gaps = 0,
            Accepted::Duplicate => self.duplicates += 1,
        }
        Ok(())
    }

    /// From the hello that is accepted on, all that comes is judged alike: whether the welcome is written by then is a matter of chance.
    fn handle_violation(&mut self, key: ConnectionKey, violation: Violation, now: Instant) {
        if !self.is_attached(key) {
            if self.newcomer.take_if(|newcomer| newcomer.key == key).is_some() {
                self.refuse(key, violation.code(), "");
            }
            return;
        }
        self.gaps += u8::from(violation == Violation::Gap);
        let text = match violation {
            Violation::Gap if self.gaps < GAPS_IN_A_ROW => "a sequence was skipped",
            Violation::Loss => "what was sent before a ping has not come",
            _ => return self.enter_closed_with(violation.text(), violation.reason(), now),
        };
        self.detach(Cause::Gap, now);
        self.refuse(key, Code::Gap, text);
    }

    fn detach(&mut self, cause: Cause, now: Instant) {
        self.attached = None;
        self.cause = Some(cause);
        self.lanes.rest();
        if self.phase == Phase::Open {
            self.enter(Phase::SoftClosed(cause), now);
            self.events.push_back(Event::SoftClosed(cause));
        } else {
            self.changed(now);
        }
        if let Some(newcomer) = &mut self.newcomer {
            newcomer.probe = None;
            newcomer.offer_unless_probing(now);
        }
        self.welcome_if_confirmed(now);
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.changed(now);
    }

    fn changed(&mut self, now: Instant) {
        self.since = now;
        self.version += 1;
    }

    fn close_if_delivered(&mut self, now: Instant) {
        if let Phase::Ending(reason) = &self.phase
            && self.lanes.is_delivered()
        {
            let reason = reason.clone();
            self.enter_closed(reason, now);
        }
    }

    fn enter_closed(&mut self, reason: EndReason, now: Instant) {
        self.enter_closed_with(None, reason, now);
    }

    /// The one place where a session becomes Closed. The connection that carries it is told `text`, if there is one, and else the reason.
    fn enter_closed_with(&mut self, text: Option<&str>, reason: EndReason, now: Instant) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.dismiss_newcomer(&reason);
        if let Some(attached) = self.attached.take() {
            let mut end = End {
                code: reason.code() as u64,
                ..end_of_session(&reason, self.ending.retry_after)
            };
            if let Some(text) = text {
                end.text = text.to_owned();
            }
            self.depart(attached.key, !attached.welcome_due, end);
        }
        self.ending.unacknowledged = self.lanes.unacknowledged();
        self.lanes.clear_outgoing();
        self.enter(Phase::Closed(reason.clone()), now);
        self.events.push_back(Event::Ended(reason));
    }

    /// Lets go of what was received: the application will not read it.
    pub fn discard_received(&mut self) {
        self.lanes.clear_incoming();
    }

    fn depart(&mut self, key: ConnectionKey, ack: bool, end: End) {
        self.departing.push(Departing { key, ack, end });
    }

    /// Ends a connection and nothing else.
    fn refuse(&mut self, key: ConnectionKey, code: Code, text: &str) {
        self.refuse_for(key, code, None, text);
    }

    fn refuse_for(&mut self, key: ConnectionKey, code: Code, retry_after: Option<Duration>, text: &str) {
        let retry_after = retry_after.map_or(0, millis);
        self.depart(
            key,
            false,
            End {
                code: code as u64,
                reason: 0,
                retry_after,
                text: text.to_owned(),
            },
        );
    }

    fn is_attached(&self, key: ConnectionKey) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.key == key)
    }

    fn poll_departing(&mut self, position: usize) -> Frame {
        if std::mem::take(&mut self.departing[position].ack)
            && let Some(ack) = self.lanes.poll_last_ack()
        {
            return ack;
        }
        Frame::End(self.departing.swap_remove(position).end)
    }
}

/// What a connection is told whose session is over, through no fault of its own.
pub fn end_of_session(reason: &EndReason, retry_after: u64) -> End {
    let text = match reason {
        EndReason::Closed(text) | EndReason::Aborted(text) => text.to_string(),
        reason => reason.to_string(),
    };
    End {
        code: reason.code_for_others() as u64,
        reason: reason.number(),
        retry_after,
        text,
    }
}

/// A duration as the wire carries it.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(crate::wire::NUMBER_LIMIT - 1, |ms| {
        ms.min(crate::wire::NUMBER_LIMIT - 1)
    })
}
