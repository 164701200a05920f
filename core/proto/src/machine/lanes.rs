//! Both lanes in both directions: the part that both halves of the protocol share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::Limits;
use crate::machine::Violation;
use crate::machine::inbox::{Accepted, Inbox, Received, Terms};
use crate::machine::outbox::Outbox;
use crate::message::{Lane, Message, PerLane};
use crate::wire::{Counts, Data, Frame};

/// How long received data may stay unreported before an acknowledgement is written on its own.
pub(crate) const ACK_DELAY: Duration = Duration::from_millis(200);

/// Minimum time between two acknowledgements that are written only because data is. Each is a
/// message of its own, which costs both ends as much as a short one of the application.
const RIDE_PAUSE: Duration = Duration::from_millis(20);

/// Charge of interactive data after which one bulk frame is sent first, so that neither lane
/// starves.
const INTERACTIVE_RUN: u32 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Lanes {
    limits: Arc<Limits>,
    incarnation: u64,
    outboxes: PerLane<Outbox>,
    inboxes: PerLane<Inbox>,
    /// Present while there is a connection on which to report.
    reports: Option<Box<Reports>>,
    interactive_run: u32,
    /// Whether data was written since the last pause, so that an acknowledgement can be sent with
    /// it.
    wrote_data: bool,
    takes_compressed: bool,
}

/// What was last reported to the peer, and what is still to be reported.
#[derive(Debug)]
struct Reports {
    told: PerLane<Told>,
    unreported_since: Option<Instant>,
    ack_due: bool,
    /// When an acknowledgement was last written.
    acknowledged_at: Option<Instant>,
}

/// The state of an inbox at the last report. The count of frames need not be kept: it changes only
/// together with their charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    credit: u64,
    charged: u64,
}

impl Reports {
    /// Creates the state after a report.
    fn new(told: PerLane<Told>, acknowledged_at: Option<Instant>) -> Self {
        Self {
            told,
            unreported_since: None,
            ack_due: false,
            acknowledged_at,
        }
    }

    /// Returns true if counts should be written with data.
    fn may_ride(&self, now: Instant) -> bool {
        let is_soon = self.acknowledged_at.is_some_and(|at| now < at + RIDE_PAUSE);
        self.unreported_since.is_some() && !is_soon
    }

    /// Returns when an acknowledgement becomes due by time. Returns `None` if it is already due,
    /// because it then waits only for the transport.
    fn ack_timeout(&self) -> Option<Instant> {
        self.unreported_since
            .filter(|_| !self.ack_due)
            .map(|since| since + ACK_DELAY)
    }
}

impl Told {
    fn of(inbox: &Inbox, window: u64) -> Self {
        Self {
            credit: inbox.credit(window),
            charged: inbox.charged(),
        }
    }
}

impl Lanes {
    /// Creates lanes that accept compressed messages.
    pub(crate) fn new(limits: impl Into<Arc<Limits>>) -> Self {
        Self::with_compressed(limits.into(), true)
    }

    pub(crate) fn with_compressed(limits: Arc<Limits>, takes_compressed: bool) -> Self {
        Self {
            outboxes: PerLane::default(),
            inboxes: PerLane::default(),
            limits,
            incarnation: 0,
            reports: None,
            interactive_run: 0,
            wrote_data: false,
            takes_compressed,
        }
    }

    /// Makes the lanes accept compressed messages.
    pub(crate) fn take_compressed(&mut self) {
        self.takes_compressed = true;
    }

    /// Starts an incarnation: drops everything in transit and keeps the whole messages that were
    /// received.
    pub(crate) fn restart(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.outboxes = PerLane::default();
        for lane in Lane::ALL {
            let window = self.window(lane);
            self.inboxes[lane].restart(window);
        }
        self.reports = None;
    }

    /// Starts the first incarnation, and keeps the messages that were queued for it.
    pub(crate) fn begin(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
    }

    /// Returns the number of the current document, from 1; 0 before the first.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn window(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Interactive => self.limits.window,
            Lane::Bulk => self.limits.bulk_window,
        }
    }

    /// Releases memory that is needed only with a connection, because the session may be idle for
    /// long.
    pub(crate) fn rest(&mut self) {
        self.reports = None;
        for lane in Lane::ALL {
            self.outboxes[lane].rest();
            self.inboxes[lane].rest();
        }
    }

    /// Prepares for a new connection of the same incarnation.
    pub(crate) fn rewind(&mut self) {
        for lane in Lane::ALL {
            self.outboxes[lane].rewind();
        }
        if self.reports.is_none() {
            self.reports = Some(Box::new(Reports::new(self.to_tell(), None)));
        }
        self.wrote_data = false;
        self.interactive_run = 0;
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            received: PerLane::each(|lane| self.inboxes[lane].received()),
            credit: PerLane::each(|lane| self.inboxes[lane].credit(self.window(lane))),
        }
    }

    /// Returns what a report tells the peer now.
    fn to_tell(&self) -> PerLane<Told> {
        PerLane::each(|lane| Told::of(&self.inboxes[lane], self.window(lane)))
    }

    /// Returns the counts, and records them as reported to the peer.
    pub(crate) fn report(&mut self) -> Counts {
        let told = self.to_tell();
        match &mut self.reports {
            Some(before) => **before = Reports::new(told, before.acknowledged_at),
            None => self.reports = Some(Box::new(Reports::new(told, None))),
        }
        self.counts()
    }

    /// Processes the peer's counts.
    pub(crate) fn handle_counts(&mut self, counts: &Counts) -> Result<(), Violation> {
        for lane in Lane::ALL {
            self.outboxes[lane].check(counts.received[lane], counts.credit[lane])?;
        }
        for lane in Lane::ALL {
            self.outboxes[lane].acknowledge(counts.received[lane], counts.credit[lane]);
        }
        Ok(())
    }

    pub(crate) fn handle_data(&mut self, data: Data, now: Instant) -> Result<Accepted, Violation> {
        let lane = data.lane;
        let terms = Terms {
            limits: &self.limits,
            window: self.window(lane),
            told: self.told_credit(lane),
            takes_compressed: self.takes_compressed,
        };
        let accepted = self.inboxes[lane].accept(data, &terms, self.incarnation)?;
        if accepted != Accepted::Duplicate {
            self.note_unreported(lane, now);
        }
        Ok(accepted)
    }

    /// Returns the credit last reported to the peer.
    fn told_credit(&self, lane: Lane) -> u64 {
        let reports = self.reports.as_ref();
        let of_inbox = || self.inboxes[lane].credit(self.window(lane));
        reports.map_or_else(of_inbox, |reports| reports.told[lane].credit)
    }

    fn note_unreported(&mut self, lane: Lane, now: Instant) {
        let window = self.window(lane);
        let Some(reports) = &mut self.reports else { return };
        let (told, current) = (reports.told[lane], Told::of(&self.inboxes[lane], window));
        let accepted = current.charged - told.charged;
        let credited = current.credit - told.credit;
        if accepted == 0 && credited == 0 {
            return;
        }
        reports.unreported_since.get_or_insert(now);
        reports.ack_due |= accepted.max(credited) >= window / 4;
    }

    /// Returns the next data frame to transmit: interactive data first, without starving bulk data.
    pub(crate) fn poll_data(&mut self, bulk_allowed: bool) -> Option<Data> {
        let bulk_ready = bulk_allowed && self.outboxes.bulk.is_ready();
        let bulk_first = bulk_ready && self.interactive_run >= INTERACTIVE_RUN;
        let data = if bulk_first {
            None
        } else {
            self.outboxes.interactive.poll_frame(Lane::Interactive)
        };
        let data = match data {
            None if bulk_ready => self.outboxes.bulk.poll_frame(Lane::Bulk),
            data => data,
        }?;
        self.interactive_run = match data.lane {
            Lane::Interactive => {
                let charge = u32::try_from(data.charge()).unwrap_or(u32::MAX);
                self.interactive_run.saturating_add(charge)
            }
            Lane::Bulk => 0,
        };
        self.wrote_data = true;
        Some(data)
    }

    /// Returns an acknowledgement that must not wait for data.
    pub(crate) fn poll_due_ack(&mut self, now: Instant) -> Option<Frame> {
        self.handle_timeout(now);
        self.is_ack_due().then(|| self.acknowledge(now))
    }

    fn acknowledge(&mut self, now: Instant) -> Frame {
        let ack = Frame::Ack(self.report());
        if let Some(reports) = &mut self.reports {
            reports.acknowledged_at = Some(now);
        }
        ack
    }

    /// Returns an acknowledgement to send with the data just written. Call this when there is no
    /// more data.
    pub(crate) fn poll_riding_ack(&mut self, now: Instant) -> Option<Frame> {
        let wrote_data = std::mem::take(&mut self.wrote_data);
        let may_ride = self.reports.as_ref().is_some_and(|reports| reports.may_ride(now));
        (wrote_data && may_ride).then(|| self.acknowledge(now))
    }

    /// Returns an acknowledgement if the counts have changed since the last report.
    pub(crate) fn poll_last_ack(&mut self) -> Option<Frame> {
        let told = self.reports.as_ref()?.told;
        (told != self.to_tell()).then(|| Frame::Ack(self.report()))
    }

    /// Returns when an acknowledgement becomes due by time.
    pub(crate) fn ack_timeout(&self) -> Option<Instant> {
        self.reports.as_ref()?.ack_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(reports) = &mut self.reports {
            reports.ack_due |= reports.ack_timeout().is_some_and(|at| at <= now);
        }
    }

    pub(crate) fn is_ack_due(&self) -> bool {
        self.reports.as_ref().is_some_and(|reports| reports.ack_due)
    }

    pub(crate) fn admits(&self, lane: Lane, size: usize) -> bool {
        self.outboxes[lane].admits(size, self.limits.fragment, self.limits.outbox)
    }

    pub(crate) fn push(&mut self, lane: Lane, message: Message) {
        self.outboxes[lane].push(message, self.limits.fragment);
    }

    pub(crate) fn take(&mut self, lane: Lane, now: Instant) -> Option<Received> {
        let window = self.window(lane);
        let received = self.inboxes[lane].take(window);
        self.note_unreported(lane, now);
        received
    }

    pub(crate) fn take_holding(&mut self, lane: Lane) -> Option<(Received, u64)> {
        self.inboxes[lane].take_holding()
    }

    pub(crate) fn release(&mut self, lane: Lane, held: u64, now: Instant) {
        let window = self.window(lane);
        self.inboxes[lane].release(held, window);
        self.note_unreported(lane, now);
    }

    /// Returns the incarnation of the next whole message on a lane.
    pub(crate) fn next_incarnation(&self, lane: Lane) -> Option<u64> {
        self.inboxes[lane].next_incarnation()
    }

    pub(crate) fn has_message(&self) -> bool {
        Lane::ALL.iter().any(|lane| self.inboxes[*lane].has_complete())
    }

    pub(crate) fn is_delivered(&self) -> bool {
        Lane::ALL.iter().all(|lane| self.outboxes[*lane].is_empty())
    }

    /// Returns the last sequences that were queued.
    pub(crate) fn queued(&self) -> PerLane<u64> {
        PerLane::each(|lane| self.outboxes[lane].queued())
    }

    /// Returns the last sequences that the peer has received.
    pub(crate) fn acknowledged(&self) -> PerLane<u64> {
        PerLane::each(|lane| self.outboxes[lane].acknowledged())
    }

    /// Returns the last sequences that were written on the current connection or acknowledged
    /// before.
    pub(crate) fn written(&self) -> PerLane<u64> {
        PerLane::each(|lane| self.outboxes[lane].written())
    }

    /// Returns true if data written on the current connection waits for acknowledgement.
    pub(crate) fn has_outstanding(&self) -> bool {
        self.acknowledged() != self.written()
    }

    /// Returns true if data waits for credit or for its turn.
    pub(crate) fn has_unsent(&self) -> bool {
        Lane::ALL.iter().any(|lane| self.outboxes[*lane].has_unsent())
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        Lane::ALL.iter().map(|lane| self.outboxes[*lane].unacknowledged()).sum()
    }

    pub(crate) fn outgoing(&self, lane: Lane) -> u64 {
        self.outboxes[lane].buffered()
    }

    pub(crate) fn incoming(&self, lane: Lane) -> u64 {
        self.inboxes[lane].buffered()
    }

    /// Returns the charge buffered in both directions that belongs to this session alone, plus its
    /// unused memory.
    pub(crate) fn owned(&self) -> u64 {
        let of_lane = |lane: &Lane| self.outboxes[*lane].owned() + self.inboxes[*lane].buffered();
        Lane::ALL.iter().map(of_lane).sum::<u64>() + self.spare()
    }

    /// Returns the bytes of memory allocated in both directions that hold nothing at present.
    pub(crate) fn spare(&self) -> u64 {
        let of_lane = |lane: &Lane| self.outboxes[*lane].spare() + self.inboxes[*lane].spare();
        Lane::ALL.iter().map(of_lane).sum()
    }

    /// Drops all outgoing messages, because the session has ended.
    pub(crate) fn clear_outgoing(&mut self) {
        self.outboxes = PerLane::default();
    }

    /// Drops all incoming messages, because nobody will read them.
    pub(crate) fn clear_incoming(&mut self) {
        for lane in Lane::ALL {
            self.inboxes[lane].clear();
        }
    }
}
