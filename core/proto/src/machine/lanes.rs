//! Both lanes in both directions: the part that both halves of the protocol share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{FRAME_CHARGE, Limits};
use crate::machine::Violation;
use crate::machine::inbox::{Accepted, Inbox, Received, Terms};
use crate::machine::outbox::Outbox;
use crate::machine::saved::{Row, SavedLane, Taken};
use crate::message::{Lane, Message, PerLane};
use crate::wire::{Counts, Data, DataRef, Frame};

/// How long received data may stay unreported before an acknowledgement is written on its own.
pub(crate) const ACK_DELAY: Duration = Duration::from_millis(200);

/// Minimum time between two acknowledgements that are written only because data is. Each is a
/// message of its own, which costs both ends as much as a short one of the application.
const RIDE_PAUSE: Duration = Duration::from_millis(20);

/// Charge of interactive data after which one bulk frame is sent first, so that neither lane
/// starves.
const INTERACTIVE_RUN: u32 = 64 * 1024;

/// When an acknowledgement is written at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAck {
    /// There is nothing to report, or no connection to report on.
    Never,
    /// At this time, unless data is written before.
    At(Instant),
    /// As soon as the transport accepts it.
    Now,
}

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
    /// Present if the session is durable.
    durable: Option<Box<Durable>>,
}

/// What a durable session may tell its browser.
#[derive(Debug)]
struct Durable {
    /// What was taken, counted or not.
    taken: PerLane<Taken>,
    /// What was taken and counts: it stays taken whatever happens to the process.
    counted: PerLane<Taken>,
    /// The credit that an earlier process may have granted. Credit never falls.
    granted: PerLane<u64>,
    /// The most credit that may be granted. Every later process knows it.
    horizon: PerLane<u64>,
    /// Whether a horizon has to be counted before credit is granted up to it, and a document before
    /// it is welcomed.
    waits: bool,
    /// The newest document that counts.
    incarnation: u64,
    /// A ping of the browser came in the middle of a message whose next fragment had credit.
    stalled: Option<Stalled>,
}

/// A message of which nothing more arrives.
#[derive(Debug, Clone, Copy)]
struct Stalled {
    /// What had arrived when the browser pinged.
    arrived: PerLane<u64>,
    /// Nonce of a ping that the server wrote afterwards.
    asked: u64,
    /// When the browser answered it. Since then it knows of the credit.
    answered: Option<Instant>,
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
            durable: None,
        }
    }

    /// Makes the session durable. With `waits`, only what is counted by [`Lanes::count`] is told to
    /// the browser.
    pub(crate) fn make_durable(&mut self, waits: bool) {
        self.durable = Some(Box::new(Durable {
            taken: PerLane::default(),
            counted: PerLane::default(),
            granted: PerLane::default(),
            horizon: PerLane::each(|lane| self.first_horizon(lane, waits)),
            waits,
            incarnation: 0,
            stalled: None,
        }));
    }

    /// Continues with what was saved of a durable session.
    pub(crate) fn reopen(&mut self, incarnation: u64, saved: PerLane<SavedLane>, outboxes: PerLane<Outbox>) {
        self.incarnation = incarnation;
        self.outboxes = outboxes;
        for lane in Lane::ALL {
            let SavedLane { taken, horizon } = saved[lane];
            self.inboxes[lane] = Inbox::reopen(taken);
            if let Some(durable) = &mut self.durable {
                durable.taken[lane] = taken;
                durable.counted[lane] = taken;
                durable.granted[lane] = horizon;
                durable.horizon[lane] = durable.horizon[lane].max(horizon);
                durable.incarnation = incarnation;
            }
        }
    }

    /// Returns the horizon of a document that has no count yet. Each process knows it.
    fn first_horizon(&self, lane: Lane, waits: bool) -> u64 {
        if waits {
            self.window(lane) + self.ahead(lane)
        } else {
            u64::MAX
        }
    }

    /// Returns what the application has taken of the current document's messages, and how far
    /// credit may go once that counts.
    pub(crate) fn save(&self) -> PerLane<SavedLane> {
        PerLane::each(|lane| {
            let Some(durable) = &self.durable else {
                return SavedLane {
                    taken: Taken::default(),
                    horizon: self.to_tell_of(lane).credit,
                };
            };
            let horizon = if durable.waits {
                // What an earlier process may have granted is no reason to grant more. Otherwise
                // each crash would add to what the page may send.
                let credit = self.inboxes[lane].credit(self.window(lane));
                durable.horizon[lane].max(credit + self.ahead(lane))
            } else {
                self.to_tell_of(lane).credit
            };
            SavedLane {
                taken: durable.taken[lane],
                horizon,
            }
        })
    }

    /// Returns how far the horizon is ahead of the credit. The largest message fits, since nothing
    /// is taken, and so nothing counts, before it has arrived.
    fn ahead(&self, lane: Lane) -> u64 {
        self.window(lane)
            + self
                .limits
                .charge(usize::try_from(self.limits.message).unwrap_or(usize::MAX))
    }

    /// Tells the browser from now on that what was saved has been received.
    pub(crate) fn count(&mut self, incarnation: u64, saved: PerLane<SavedLane>, now: Instant) {
        let Some(durable) = &mut self.durable else { return };
        durable.incarnation = durable.incarnation.max(incarnation);
        if incarnation != self.incarnation {
            return;
        }
        for lane in Lane::ALL {
            durable.counted[lane] = saved[lane].taken;
            if durable.waits {
                durable.horizon[lane] = durable.horizon[lane].max(saved[lane].horizon);
            }
        }
        for lane in Lane::ALL {
            self.note_unreported(lane, || now);
        }
    }

    /// Returns true if the current document may be welcomed: a later process would know it.
    pub(crate) fn may_welcome(&self) -> bool {
        let durable = self.durable.as_ref();
        durable.is_none_or(|durable| !durable.waits || durable.incarnation >= self.incarnation)
    }

    /// Returns the last sequences that have arrived.
    pub(crate) fn arrived(&self) -> PerLane<u64> {
        PerLane::each(|lane| self.inboxes[lane].received())
    }

    /// Returns true if the browser may be told that everything up to these sequences was received.
    pub(crate) fn covers(&self, arrived: PerLane<u64>) -> bool {
        let durable = self.durable.as_ref();
        durable.is_none_or(|durable| {
            Lane::ALL
                .iter()
                .all(|lane| durable.counted[*lane].sequence >= arrived[*lane])
        })
    }

    /// Handles a ping of the peer, before its pong waits for what has arrived. If that ends in the
    /// middle of a message, the pong waits for the rest of the message, which never comes if it was
    /// lost. Returns true if the next fragment has credit but has not arrived, so that the server
    /// should ping too: the answer shows that the peer knows of the credit. If nothing arrives
    /// until another ping of the peer, at least `patience` after that answer, the rest is lost.
    pub(crate) fn check_stall(&mut self, patience: Duration, now: Instant) -> Result<bool, Violation> {
        let Some(durable) = &mut self.durable else {
            return Ok(false);
        };
        let arrived = PerLane::each(|lane| self.inboxes[lane].received());
        durable.stalled.take_if(|stalled| stalled.arrived != arrived);
        if let Some(stalled) = durable.stalled {
            let is_lost = stalled.answered.is_some_and(|answered| now >= answered + patience);
            return if is_lost { Err(Violation::Loss) } else { Ok(false) };
        }
        let fragment = self.limits.fragment + FRAME_CHARGE;
        Ok(Lane::ALL.iter().any(|lane| {
            let inbox = &self.inboxes[*lane];
            inbox.has_partial() && inbox.charged() + fragment <= self.told_credit(*lane)
        }))
    }

    /// Records the nonce of the ping that the server writes because of [`Lanes::check_stall`].
    pub(crate) fn ask_about_stall(&mut self, nonce: u64) {
        let arrived = self.arrived();
        if let Some(durable) = &mut self.durable {
            durable.stalled = Some(Stalled {
                arrived,
                asked: nonce,
                answered: None,
            });
        }
    }

    /// Handles the peer's answer to a ping.
    pub(crate) fn handle_pong(&mut self, nonce: u64, now: Instant) {
        let stalled = self.durable.as_mut().and_then(|durable| durable.stalled.as_mut());
        if let Some(stalled) = stalled.filter(|stalled| nonce >= stalled.asked) {
            stalled.answered.get_or_insert(now);
        }
    }

    pub(crate) fn queued_charge(&self) -> PerLane<Taken> {
        PerLane::each(|lane| self.outboxes[lane].queued_charge())
    }

    pub(crate) fn rows(&self) -> PerLane<Vec<Row>> {
        PerLane::each(|lane| self.outboxes[lane].rows())
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
        if let Some(durable) = &self.durable {
            let (waits, incarnation) = (durable.waits, durable.incarnation);
            self.make_durable(waits);
            if let Some(durable) = &mut self.durable {
                durable.incarnation = incarnation;
            }
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
        if let Some(durable) = &mut self.durable {
            durable.stalled = None;
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let received = |lane| match &self.durable {
            Some(durable) => durable.counted[lane].sequence,
            None => self.inboxes[lane].received(),
        };
        let told = self.to_tell();
        Counts {
            received: PerLane::each(received),
            credit: PerLane::each(|lane| told[lane].credit),
        }
    }

    /// Returns what a report tells the peer now.
    fn to_tell(&self) -> PerLane<Told> {
        PerLane::each(|lane| self.to_tell_of(lane))
    }

    #[inline]
    fn to_tell_of(&self, lane: Lane) -> Told {
        let told = Told::of(&self.inboxes[lane], self.window(lane));
        match &self.durable {
            None => told,
            Some(durable) => Told {
                credit: told.credit.min(durable.horizon[lane]).max(durable.granted[lane]),
                charged: durable.counted[lane].charge,
            },
        }
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
            self.note_unreported(lane, || now);
        }
        Ok(accepted)
    }

    /// Returns the credit last reported to the peer.
    fn told_credit(&self, lane: Lane) -> u64 {
        let reports = self.reports.as_ref();
        reports.map_or_else(|| self.to_tell_of(lane).credit, |reports| reports.told[lane].credit)
    }

    fn note_unreported(&mut self, lane: Lane, now: impl FnOnce() -> Instant) {
        let window = self.window(lane);
        let current = self.to_tell_of(lane);
        let Some(reports) = &mut self.reports else { return };
        let told = reports.told[lane];
        let accepted = current.charged - told.charged;
        let credited = current.credit - told.credit;
        if accepted == 0 && credited == 0 {
            return;
        }
        reports.unreported_since.get_or_insert_with(now);
        reports.ack_due |= accepted.max(credited) >= window / 4;
    }

    /// Returns the next data frame to transmit.
    pub(crate) fn poll_data(&mut self, bulk_allowed: bool) -> Option<DataRef<'_>> {
        let lane = self.ready_lane(bulk_allowed)?;
        self.transmit(lane)
    }

    /// Returns the lane that transmits next: the interactive one first, without starving the bulk
    /// lane.
    pub(crate) fn ready_lane(&self, bulk_allowed: bool) -> Option<Lane> {
        let interactive_ready = self.outboxes.interactive.is_ready();
        if interactive_ready && self.interactive_run < INTERACTIVE_RUN {
            return Some(Lane::Interactive);
        }
        let bulk_ready = bulk_allowed && self.outboxes.bulk.is_ready();
        match (interactive_ready, bulk_ready) {
            (_, true) => Some(Lane::Bulk),
            (true, false) => Some(Lane::Interactive),
            (false, false) => None,
        }
    }

    /// Returns the next data frame of a lane that is ready.
    #[inline]
    pub(crate) fn transmit(&mut self, lane: Lane) -> Option<DataRef<'_>> {
        let data = self.outboxes[lane].transmit(lane)?;
        self.interactive_run = match lane {
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

    /// Returns when the next acknowledgement is written at the latest.
    #[inline]
    pub(crate) fn next_ack(&self) -> NextAck {
        match &self.reports {
            Some(reports) if reports.ack_due => NextAck::Now,
            Some(reports) => reports.ack_timeout().map_or(NextAck::Never, NextAck::At),
            None => NextAck::Never,
        }
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

    pub(crate) fn take(&mut self, lane: Lane, now: impl FnOnce() -> Instant) -> Option<Received> {
        let window = self.window(lane);
        let received = self.inboxes[lane].take(window);
        if let (Some(durable), Some(received)) = (&mut self.durable, &received)
            && received.incarnation == self.incarnation
        {
            durable.taken[lane] = received.last;
        }
        self.note_unreported(lane, now);
        received
    }

    pub(crate) fn take_holding(&mut self, lane: Lane) -> Option<(Received, u64)> {
        self.inboxes[lane].take_holding()
    }

    pub(crate) fn release(&mut self, lane: Lane, held: u64, now: Instant) {
        let window = self.window(lane);
        self.inboxes[lane].release(held, window);
        self.note_unreported(lane, || now);
    }

    /// Returns the incarnation of the next whole message on a lane.
    #[inline]
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

    /// Returns how many data frames wait for credit or for their turn.
    pub(crate) fn unsent(&self) -> usize {
        Lane::ALL.iter().map(|lane| self.outboxes[*lane].unsent()).sum()
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
        let of_lane = |lane: &Lane| self.outboxes[*lane].owned() + self.inboxes[*lane].owned();
        Lane::ALL.iter().map(of_lane).sum()
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
