//! The server's half of a session as a state machine (PROTOCOL.md, sections 5, 6, 9 and 10).

mod attached;
mod durable;
mod ending;
mod hello;
mod newcomer;
mod phase;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::code::Code;
use crate::id::DocumentId;
use crate::limits::Limits;
use crate::machine::Violation;
use crate::machine::inbox::Received;
use crate::machine::lanes::{Lanes, NextAck};
use crate::machine::session::attached::Attached;
use crate::machine::session::ending::{Departing, Ending};
use crate::machine::session::newcomer::{Newcomer, Offer};
use crate::message::{Lane, Message, PerLane};
use crate::wire::{DataRef, Frame, Sender};

use durable::GENERATION;
pub use phase::{Cause, ConnectionKey, Event, Phase, Timing};

/// The server's half of one session.
#[derive(Debug)]
pub struct SessionMachine {
    timing: Arc<Timing>,
    lanes: Lanes,
    phase: Phase,
    /// When the phase or the connection last changed.
    since: Instant,
    version: u64,
    document: Option<Document>,
    epoch: u64,
    /// Boxed, like the newcomer, so that a session without a connection is small.
    attached: Option<Box<Attached>>,
    /// Why the last connection was lost, if none has replaced it.
    cause: Option<Cause>,
    newcomer: Option<Box<Newcomer>>,
    news: Option<Box<News>>,
    /// Present once the session closes.
    ending: Option<Box<Ending>>,
    nonce: u64,
    gaps: u8,
    duplicates: u32,
    last_lane: Lane,
    jitter: u32,
}

/// What a connection writes next.
#[derive(Debug)]
pub enum Transmit<'a> {
    /// A data frame, which stays in the outbox until the peer acknowledges it.
    Data(DataRef<'a>),
    /// Any other frame.
    Frame(Frame),
}

impl Transmit<'_> {
    /// Returns the frame, with a clone of its payload.
    pub fn into_frame(self) -> Frame {
        match self {
            Self::Data(data) => Frame::Data(data.to_data()),
            Self::Frame(frame) => frame,
        }
    }
}

/// What others have not been told yet. Rarely present, so that an idle session is small.
#[derive(Debug, Default)]
struct News {
    /// For the application.
    events: VecDeque<Event>,
    /// For connections that have ended.
    departing: Vec<Departing>,
}

/// The document that the session belongs to.
#[derive(Debug)]
struct Document {
    id: DocumentId,
    attempt: u64,
}

impl SessionMachine {
    /// Creates an unconnected session. `seed` spreads the heartbeats of many sessions, which can
    /// share their limits and timing.
    pub fn new(limits: impl Into<Arc<Limits>>, timing: impl Into<Arc<Timing>>, seed: u64, now: Instant) -> Self {
        let limits = limits.into();
        let normalised = limits.normalised();
        let limits = if *limits == normalised {
            limits
        } else {
            normalised.into()
        };
        Self {
            timing: timing.into(),
            lanes: Lanes::with_compressed(limits, false),
            phase: Phase::Unconnected,
            since: now,
            version: 0,
            document: None,
            epoch: 0,
            attached: None,
            cause: None,
            newcomer: None,
            news: None,
            ending: None,
            nonce: 0,
            gaps: 0,
            duplicates: 0,
            last_lane: Lane::Bulk,
            jitter: seed as u32 | 1,
        }
    }

    /// Makes the session accept compressed messages. Without this, receiving one ends the session
    /// as [`EndReason::Malformed`](crate::EndReason::Malformed).
    #[must_use]
    pub fn taking_compressed(mut self) -> Self {
        self.lanes.take_compressed();
        self
    }

    /// Handles a packet that arrived on a connection after its hello.
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

    /// Handles a packet that cannot be a frame: text, or one above the transport's limit.
    pub fn handle_unreadable(&mut self, key: ConnectionKey, too_large: bool, now: Instant) {
        let violation = if too_large {
            Violation::TooLarge
        } else {
            Violation::Malformed
        };
        self.handle_violation(key, violation, now);
    }

    /// Handles the loss of a connection whose transport has found its peer silent by its own
    /// keep-alive.
    pub fn handle_silent(&mut self, key: ConnectionKey, now: Instant) {
        if self.is_attached(key) {
            self.detach(Cause::Silent, now);
            self.refuse(key, Code::Silent, "nothing was received for two heartbeats");
        }
    }

    /// Handles the end of a connection.
    pub fn handle_closed(&mut self, key: ConnectionKey, now: Instant) {
        if let Some(news) = &mut self.news {
            news.departing.retain(|departing| departing.key != key);
        }
        self.drop_old_news();
        if self.is_attached(key) {
            self.detach(Cause::Lost, now);
        } else if self.newcomer.as_ref().is_some_and(|newcomer| newcomer.key == key) {
            self.newcomer = None;
        }
    }

    /// Performs what is due. Call it at the time that [`SessionMachine::poll_timeout`] returns.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lanes.handle_timeout(now);
        self.check_heartbeat(now);
        self.check_newcomer(now);
        let deadline = self.ending_deadline();
        let over = deadline.is_some_and(|deadline| deadline <= now) && self.attached.is_some();
        if let (true, Phase::Ending(reason)) = (over, &self.phase) {
            let reason = reason.clone();
            self.enter_closed(reason, now);
        }
    }

    /// Returns true if a message of `size` wire bytes may be queued on `lane` now.
    pub fn admits(&self, lane: Lane, size: usize) -> bool {
        self.lanes.admits(lane, size)
    }

    /// Queues a message that [`SessionMachine::admits`] has admitted.
    pub fn send(&mut self, lane: Lane, message: Message) {
        self.lanes.push(lane, message);
    }

    /// Takes the next message. Messages of an earlier document come first, and the lanes alternate.
    pub fn take(&mut self, now: Instant) -> Option<(Lane, Received)> {
        self.take_at(|| now)
    }

    /// Does the same as [`SessionMachine::take`]. Asks for the time only if it matters, which is
    /// rare.
    #[inline]
    pub fn take_at(&mut self, now: impl FnOnce() -> Instant) -> Option<(Lane, Received)> {
        let lane = self.next_lane()?;
        self.last_lane = lane;
        self.lanes.take(lane, now).map(|received| (lane, received))
    }

    /// Returns the incarnation of the message that [`SessionMachine::take`] would return.
    #[inline]
    pub fn next_incarnation(&self) -> Option<u64> {
        self.lanes.next_incarnation(self.next_lane()?)
    }

    #[inline]
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

    /// Returns the next frame to write on a connection. After a [`Frame::End`] the connection must
    /// be closed with its code.
    pub fn poll_transmit(&mut self, key: ConnectionKey, now: Instant) -> Option<Frame> {
        self.poll_transmit_ref(key, now).map(Transmit::into_frame)
    }

    /// Does the same as [`SessionMachine::poll_transmit`], and leaves the payload of a data frame
    /// in the outbox.
    pub fn poll_transmit_ref(&mut self, key: ConnectionKey, now: Instant) -> Option<Transmit<'_>> {
        if self.is_departing(key) {
            return self.poll_departing(key).map(Transmit::Frame);
        }
        if self.is_attached(key) {
            return self.poll_attached(now);
        }
        let newcomer = self.newcomer.as_mut().filter(|newcomer| newcomer.key == key)?;
        if !matches!(newcomer.offer, Offer::Due(_)) {
            return None;
        }
        newcomer.offer = Offer::Sent(now);
        Some(Transmit::Frame(Frame::Offer))
    }

    /// Returns another data frame for the connection that has just been given one. Nothing goes
    /// before it unless the time or anything else has changed.
    pub fn poll_more_data(&mut self) -> Option<DataRef<'_>> {
        self.lanes.poll_data(true)
    }

    /// Returns true if a connection still has a part in the session: it carries the session, asks
    /// for it, or has to be told why it ends.
    pub fn is_known(&self, key: ConnectionKey) -> bool {
        self.is_attached(key)
            || self.newcomer.as_ref().is_some_and(|newcomer| newcomer.key == key)
            || self.is_departing(key)
    }

    /// Returns the next event that the application has not seen.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.news.as_mut()?.events.pop_front();
        self.drop_old_news();
        event
    }

    fn drop_old_news(&mut self) {
        self.news
            .take_if(|news| news.events.is_empty() && news.departing.is_empty());
    }

    fn note(&mut self, event: Event) {
        self.news.get_or_insert_default().events.push_back(event);
    }

    /// Returns when to call [`SessionMachine::handle_timeout`]. A session without a connection
    /// needs no timer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let newcomer = self
            .newcomer
            .as_ref()
            .and_then(|newcomer| newcomer.deadline(&self.timing));
        let Some(attached) = &self.attached else {
            return newcomer;
        };
        let heartbeat = Some(attached.heartbeat_deadline(&self.timing, &self.lanes));
        [newcomer, heartbeat, self.lanes.ack_timeout(), self.ending_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the current phase.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Returns when the phase or the connection last changed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Returns a number that increases with every change of phase, connection or document.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns true if a connection carries the session.
    pub fn has_connection(&self) -> bool {
        self.attached.is_some()
    }

    /// Returns why the last connection was lost, while no other has replaced it.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Returns true if a document was ever welcomed.
    pub fn has_document(&self) -> bool {
        self.document.is_some()
    }

    /// Returns the number of the current document, from 1; 0 before the first.
    pub fn incarnation(&self) -> u64 {
        self.lanes.incarnation()
    }

    /// Returns the number of the current or last connection, from 1; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns how many times a document has reconnected, or another one has taken over.
    /// Counts from the last opening of a durable session.
    pub fn reconnects(&self) -> u64 {
        let (generation, connections) = (self.epoch >> GENERATION, self.epoch % (1 << GENERATION));
        connections.saturating_sub(u64::from(generation == 0))
    }

    /// Returns the number of data frames that were dropped because they had arrived before.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.into()
    }

    /// Returns true if a message can be taken.
    pub fn has_message(&self) -> bool {
        self.lanes.has_message()
    }

    /// Returns the last sequence of each lane that was queued for the current document.
    pub fn queued(&self) -> PerLane<u64> {
        self.lanes.queued()
    }

    /// Returns the last sequence of each lane that was written on the current connection or
    /// acknowledged before.
    pub fn written(&self) -> PerLane<u64> {
        self.lanes.written()
    }

    /// Returns how many data frames have not been written on the current connection.
    pub fn unsent(&self) -> usize {
        self.lanes.unsent()
    }

    /// Returns the last sequence of each lane that the browser has acknowledged.
    pub fn acknowledged(&self) -> PerLane<u64> {
        self.lanes.acknowledged()
    }

    /// Returns the charge in a lane's outbox.
    pub fn outgoing(&self, lane: Lane) -> u64 {
        self.lanes.outgoing(lane)
    }

    /// Returns the charge in a lane's inbox.
    pub fn incoming(&self, lane: Lane) -> u64 {
        self.lanes.incoming(lane)
    }

    /// Returns the charge buffered in both directions, without bytes shared with other sessions,
    /// plus [`SessionMachine::spare`].
    pub fn owned(&self) -> u64 {
        self.lanes.owned()
    }

    /// Returns the number of bytes that are allocated and unused.
    pub fn spare(&self) -> u64 {
        self.lanes.spare()
    }

    /// Counts messages that were still to be queued when the session ended.
    pub fn count_undelivered(&mut self, messages: usize) {
        if let Some(ending) = &mut self.ending {
            ending.unacknowledged += messages;
        }
    }

    /// Returns the number of messages that the browser has not acknowledged. After the end of the
    /// session it no longer changes.
    pub fn unacknowledged(&self) -> usize {
        if matches!(self.phase, Phase::Closed(_)) {
            self.ending.as_ref().map_or(0, |ending| ending.unacknowledged)
        } else {
            self.lanes.unacknowledged()
        }
    }

    /// Returns the limits that the session was opened with.
    pub fn limits(&self) -> &Limits {
        self.lanes.limits()
    }

    /// Returns when the next acknowledgement is written at the latest.
    #[inline]
    pub fn next_ack(&self) -> NextAck {
        self.lanes.next_ack()
    }

    /// Returns true if an acknowledgement should be written without delay.
    pub fn is_ack_due(&self) -> bool {
        self.attached.is_some() && self.lanes.is_ack_due()
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.changed(now);
    }

    fn changed(&mut self, now: Instant) {
        self.since = now;
        self.version += 1;
    }

    /// Drops the messages that were received and not taken.
    pub fn discard_received(&mut self) {
        self.lanes.clear_incoming();
    }

    /// Returns true if this connection carries the session.
    pub fn is_attached(&self, key: ConnectionKey) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.key == key)
    }
}
