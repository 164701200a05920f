//! The turns of a durable session. A turn is what its function does between two reads.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::durable::durability::Durability;
use crate::durable::head::TurnId;
use crate::durable::state::{AnyState, EncodeError, Which};
use crate::durable::store::Store;
use crate::latest::Latest;
use crate::session::host::Home;
use crate::session::receive::Taken;
use crate::session::send::Waiting;
use crate::session::shared::{FollowUp, Shared, Touched};
use crate::session::state::{Function, Inner};
use stillhere_proto::machine::{Ledger, Phase, Saved, SessionMachine};
use stillhere_proto::{EndReason, Lane, Message, SessionId};

/// The part of a durable session that never changes.
pub(crate) struct Durable {
    pub(crate) durability: Durability,
    /// The beginning of each head.
    pub(crate) fixed: Bytes,
    pub(crate) state: Arc<dyn AnyState>,
    pub(crate) state_version: u32,
    pub(crate) store: Arc<dyn Store>,
}

/// The turns of a durable session, and what of them counts.
pub(crate) struct Turns {
    /// What waits until it counts. Absent if turns count at once, with [`Durability::Restart`].
    pub(super) ledger: Option<Ledger>,
    /// How many times the session was opened.
    pub(super) generation: u64,
    /// The revision of the record, or 0 if there is none.
    pub(super) revision: u64,
    /// The last state that counts.
    pub(super) state: Bytes,
    /// The last commit's part of the protocol.
    pub(super) saved: Saved,
    /// What the current turn began with, and what the last one did that has ended.
    turn: Option<TurnId>,
    pub(super) ended_turn: Option<TurnId>,
    /// The newest document that has its state, at present and when the last turn ended.
    greeted: u64,
    pub(super) ended_greeted: u64,
    /// How many turns have ended, and how many of them count.
    pub(super) ended: u64,
    pub(super) counted: u64,
    /// True while the function waits for a message, and before it has started. What is sent then is
    /// a turn of its own.
    pub(super) is_reading: bool,
    /// The function gets no more messages, because another process goes on.
    pub(super) is_stopping: bool,
    /// Nothing can be sent, because everything is being written for another process.
    pub(super) is_frozen: bool,
    /// Another process goes on with the session.
    pub(super) has_left: bool,
    /// How the session closes once the turns that have ended count.
    pub(super) closing: Option<Closing>,
    /// How the session closes that was closed while nothing more could be sent.
    pub(super) late_closing: Option<Closing>,
    /// Why the session has ended, until that is written.
    pub(super) end: Option<EndReason>,
    /// The record is to be written again, so that it does not expire.
    pub(super) is_expiring: bool,
    /// How many proofs were asked for that this process owns the session.
    pub(super) proofs_wanted: u64,
    /// How many of them commits have given that began later.
    pub(super) proofs: u64,
    /// True while a task commits.
    pub(super) is_committing: bool,
}

/// How a session closes.
#[derive(Debug, Clone)]
pub(super) struct Closing {
    pub(super) reason: EndReason,
    pub(super) retry_after: Duration,
    pub(super) wait: Duration,
}

/// Who ends a turn.
#[derive(Debug, Clone)]
enum EndedBy {
    /// The function reads.
    Read,
    /// Somebody else, while the function reads.
    Outside,
    /// The function, by hand.
    Function,
    /// The session closes.
    Closing(Closing),
}

/// What a record says of a session that is opened again.
pub(crate) struct Reopened {
    pub(crate) revision: u64,
    pub(crate) saved: Saved,
    pub(crate) turn: Option<TurnId>,
    pub(crate) greeted: u64,
}

impl Turns {
    pub(crate) fn new(
        durability: Durability,
        machine: &SessionMachine,
        state: Bytes,
        reopened: Option<Reopened>,
    ) -> Self {
        let Reopened {
            revision,
            saved,
            turn,
            greeted,
        } = reopened.unwrap_or(Reopened {
            revision: 0,
            saved: Saved::default(),
            turn: None,
            greeted: 1,
        });
        Self {
            ledger: (durability == Durability::Crash).then(|| Ledger::reopen(machine, &saved)),
            generation: saved.generation,
            revision,
            state,
            saved,
            turn,
            ended_turn: turn,
            greeted,
            ended_greeted: greeted,
            ended: 0,
            counted: 0,
            is_reading: true,
            is_stopping: false,
            is_frozen: false,
            has_left: false,
            closing: None,
            late_closing: None,
            end: None,
            is_expiring: false,
            proofs_wanted: 0,
            proofs: 0,
            is_committing: false,
        }
    }

    /// Returns true if something is to be written.
    pub(super) fn is_due(&self) -> bool {
        let wants_commit = self.ledger.as_ref().is_some_and(Ledger::wants_commit);
        !self.has_left && !self.is_frozen && (wants_commit || self.end.is_some() || self.is_expiring)
    }
}

impl Shared {
    /// Called whenever the function polls a read: its turn ends at the first time.
    pub(super) fn begin_read(self: &Arc<Self>) {
        let Some(durable) = &self.durable else { return };
        if durable.durability == Durability::Crash && self.lock().turns.as_ref().is_some_and(|turns| !turns.is_reading)
        {
            self.end_turn(&EndedBy::Read);
        }
    }

    /// Called when a read is over, also if it was cancelled: a turn begins.
    pub(super) fn read_is_over(&self) {
        if self.durable.is_some()
            && let Some(turns) = &mut self.lock().turns
        {
            turns.is_reading = false;
        }
    }

    /// Ends the turn of what was sent while the function reads.
    pub(super) fn end_outside_turn(self: &Arc<Self>) {
        let is_crash = |durable: &Durable| durable.durability == Durability::Crash;
        // Within a turn nothing ends it, and the function may hold its state at this moment.
        if self.durable.as_deref().is_some_and(is_crash) && self.lock().outside_may_end() {
            self.end_turn(&EndedBy::Outside);
        }
    }

    /// Ends the function's turn by hand.
    pub(super) fn end_function_turn(self: &Arc<Self>) {
        self.end_turn(&EndedBy::Function);
    }

    /// Closes a session whose turns do not count at once: it closes when its last turn counts.
    /// Returns false for other sessions, which the caller closes.
    pub(super) fn close_with_turn(self: &Arc<Self>, reason: &EndReason, retry_after: Duration, wait: Duration) -> bool {
        let Some(durable) = &self.durable else { return false };
        if durable.durability != Durability::Crash {
            return false;
        }
        self.end_turn(&EndedBy::Closing(Closing {
            reason: reason.clone(),
            retry_after,
            wait,
        }));
        true
    }

    fn end_turn(self: &Arc<Self>, by: &EndedBy) {
        let Some(durable) = &self.durable else { return };
        let which = match by {
            // Makes sure that there is something to commit.
            EndedBy::Closing(_) => Which::Every,
            EndedBy::Read | EndedBy::Outside | EndedBy::Function => Which::Changed,
        };
        let mut follow_up = FollowUp::default();
        durable.state.end_turn(which, &mut |state| {
            let ended;
            let state = state_of(&self.id, state);
            (ended, follow_up) = self.settle(|inner| {
                let ended = inner.end_turn(by, state, crate::clock::now());
                (ended, Touched::Machine { awake: None })
            });
            ended
        });
        self.carry_out(follow_up, Home::Hub);
    }

    /// Returns true if another process goes on with the session.
    pub(crate) fn has_left(&self) -> bool {
        self.durable.is_some() && self.lock().turns.as_ref().is_some_and(|turns| turns.has_left)
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable.is_some()
    }

    /// Returns true if the session is durable and its process is about to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.durable.is_some() && self.lock().turns.as_ref().is_some_and(|turns| turns.is_stopping)
    }

    /// Waits until everything that was sent counts: what another task has sent, or with `own`, what
    /// the function has sent in its turn.
    pub(super) async fn commit(self: &Arc<Self>, own: bool) -> Result<(), EndReason> {
        if let Some(reason) = self.end_reason() {
            return Err(reason);
        }
        if self.durable.is_none() {
            return Ok(());
        }
        let _waiting = Waiting::new(&self.senders);
        self.turns_may_end().await;
        if own {
            self.end_function_turn();
        } else {
            self.end_outside_turn();
        }
        // A turn that goes on ends later.
        let last = self.lock().turns.as_ref().map_or(0, |turns| {
            turns.ended + u64::from(!own && !turns.is_reading && turns.ledger.is_some())
        });
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.lock().turns.as_ref().is_none_or(|turns| turns.counted >= last) {
                return Ok(());
            }
            if let Some(reason) = self.end_reason() {
                return Err(reason);
            }
            changed.await;
        }
    }

    /// Waits while a restore function runs, since what is sent meanwhile counts with what that
    /// sends, and while the session is handed over.
    async fn turns_may_end(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let waits = {
                let inner = self.lock();
                (inner.gate.is_some() || inner.is_frozen()) && inner.has_ledger() && !inner.is_over()
            };
            if !waits {
                return;
            }
            changed.await;
        }
    }

    /// Returns what the current turn began with.
    pub(super) fn turn(&self) -> Option<TurnId> {
        self.lock().turns.as_ref()?.turn
    }
}

/// Returns the state to save, or `None` for a state that has not changed.
pub(super) fn state_of(id: &SessionId, state: Result<Option<Bytes>, EncodeError>) -> Result<Option<Bytes>, EndReason> {
    state.map_err(|error| {
        tracing::error!(session = %id, %error, "ended a durable session: its state cannot be encoded");
        EndReason::Aborted("its state cannot be saved".into())
    })
}

impl Inner {
    /// Ends the current turn, unless it goes on. Returns true if it has ended.
    fn end_turn(&mut self, by: &EndedBy, state: Result<Option<Bytes>, EndReason>, now: Instant) -> bool {
        let is_over = self.is_over();
        let outside_may_end = self.outside_may_end();
        let Some(turns) = &mut self.turns else { return false };
        let queues_all = turns.is_stopping || matches!(by, EndedBy::Function | EndedBy::Closing(_));
        let may_end = match by {
            EndedBy::Read => {
                turns.is_reading = true;
                true
            }
            EndedBy::Outside => outside_may_end,
            EndedBy::Function | EndedBy::Closing(_) => true,
        };
        if is_over || turns.has_left || !may_end {
            return false;
        }
        if turns.is_frozen {
            if let EndedBy::Closing(closing) = by {
                turns.late_closing.get_or_insert_with(|| closing.clone());
            }
            return false;
        }
        // The turn of a restore function ends when that has returned, so that its document gets all
        // of its state or nothing.
        let is_closing = matches!(by, EndedBy::Closing(_));
        if self.gate.is_some() && !is_closing {
            return false;
        }
        let state = match state {
            Ok(state) => state,
            Err(reason) => {
                self.machine.abort(reason, now);
                return false;
            }
        };
        if turns.closing.is_some() && is_closing {
            return false;
        }
        if is_closing {
            self.empty_gate();
        }
        self.queue_latest_with_turn(queues_all);
        let Some(turns) = &mut self.turns else { return false };
        if let EndedBy::Closing(closing) = by {
            turns.closing = Some(closing.clone());
        }
        turns.ended_turn = turns.turn;
        turns.ended_greeted = turns.greeted;
        match &mut turns.ledger {
            Some(ledger) => {
                ledger.end_turn(state, &self.machine);
                turns.ended += 1;
                if !turns.is_committing && !turns.is_due() {
                    turns.counted = turns.ended;
                }
            }
            None => count_turn(&mut self.machine, now),
        }
        true
    }

    /// Returns true if what is sent now is no part of a turn of the function.
    fn outside_may_end(&self) -> bool {
        let reader_is_gone = self.reader_is_gone && matches!(self.function, Function::Running(_));
        reader_is_gone || self.turns.as_ref().is_some_and(|turns| turns.is_reading)
    }

    /// Adds the newest messages of all keys to the turn, if there is room, or in any case before
    /// the session closes.
    fn queue_latest_with_turn(&mut self, all: bool) {
        if !self.has_ledger() {
            return;
        }
        let Some(mut latest) = self.latest.take() else { return };
        if all || self.admits_latest(&latest) {
            for message in latest.take_all() {
                self.queue(Lane::Interactive, message);
            }
        } else {
            self.latest = Some(latest);
        }
    }

    /// Returns true if newest messages wait that can leave now, as a turn of their own.
    #[inline]
    pub(super) fn latest_may_leave(&self) -> bool {
        self.latest.as_ref().is_some_and(|latest| {
            !latest.is_empty()
                && self.has_ledger()
                && self.gate.is_none()
                && self.outside_may_end()
                && self.admits_latest(latest)
        })
    }

    fn admits_latest(&self, latest: &Latest) -> bool {
        let charge = usize::try_from(latest.charge()).unwrap_or(usize::MAX);
        self.admits(Lane::Interactive, charge)
    }

    /// Notes that a new document has to be written before it is welcomed.
    pub(super) fn follow_document(&mut self) {
        if let Some(turns) = &mut self.turns
            && let Some(ledger) = &mut turns.ledger
        {
            ledger.follow(&self.machine);
        }
    }

    pub(super) fn note_end(&mut self, reason: &EndReason) {
        if let Some(turns) = &mut self.turns
            && !turns.has_left
        {
            turns.end = Some(reason.clone());
        }
    }

    /// The function starts, and with it its first turn.
    pub(super) fn note_started(&mut self) {
        if let Some(turns) = &mut self.turns {
            turns.is_reading = false;
        }
    }

    /// Leaves a durable session to another process. Returns false for other sessions.
    pub(super) fn leave(&mut self, reason: &EndReason, now: Instant) -> bool {
        let Some(turns) = &mut self.turns else { return false };
        if !matches!(self.machine.phase(), Phase::Closed(_)) {
            turns.has_left = true;
            self.machine.leave(reason.clone(), now);
        }
        true
    }

    /// Returns true if a task has to be spawned that commits.
    pub(super) fn is_to_commit(&mut self) -> bool {
        self.turns
            .as_mut()
            .is_some_and(|turns| turns.is_due() && !std::mem::replace(&mut turns.is_committing, true))
    }

    /// Called when the function reads. In a session whose turns count at once, this ends the turn.
    /// Returns whether a process that is about to stop waits for it, and whether the browser should
    /// be told.
    pub(super) fn end_turn_at_once(&mut self) -> (bool, bool) {
        let Some(turns) = &mut self.turns else {
            return (false, false);
        };
        if turns.ledger.is_some() || turns.is_reading {
            return (false, false);
        }
        turns.is_reading = true;
        turns.ended_turn = turns.turn;
        turns.ended_greeted = turns.greeted;
        let before = self.machine.next_ack();
        count_turn(&mut self.machine, crate::clock::now());
        let tells = self.machine.next_ack() != before;
        (self.is_held(), tells)
    }

    /// Returns true if the function gets no more messages, because its process is about to stop.
    pub(super) fn is_held(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| turns.is_stopping)
    }

    /// A turn begins with what was taken.
    pub(super) fn begin_turn(&mut self, taken: Option<&Taken>) {
        let Some(turns) = &mut self.turns else { return };
        turns.is_reading = false;
        match taken {
            Some(Taken::Message(lane, received)) => {
                turns.turn = Some(TurnId::new(received.incarnation, *lane, received.last.sequence));
                turns.greeted = turns.greeted.max(received.incarnation);
            }
            Some(Taken::Restored(incarnation)) => turns.greeted = turns.greeted.max(*incarnation),
            None => {}
        }
    }

    /// The restore function for this document has returned.
    pub(super) fn note_greeted(&mut self, incarnation: u64) {
        if let Some(turns) = &mut self.turns {
            turns.greeted = turns.greeted.max(incarnation);
        }
    }

    /// Returns true if a message of `size` wire bytes may be sent now. While the process is about
    /// to stop, a lane holds twice as much as otherwise: a function that waits for room comes to
    /// the end of its turn although its page is away.
    pub(super) fn admits(&self, lane: Lane, size: usize) -> bool {
        let (limits, outgoing) = (self.machine.limits(), self.machine.outgoing(lane));
        let extra = if self.is_held() { limits.outbox } else { 0 };
        match self.ledger() {
            Some(ledger) => ledger.admits(lane, size, outgoing.saturating_sub(extra)),
            None => {
                self.machine.admits(lane, size) || extra > 0 && outgoing + limits.charge(size) <= limits.outbox + extra
            }
        }
    }

    /// Queues a message, or adds it to the current turn.
    pub(super) fn queue(&mut self, lane: Lane, message: Message) {
        match self.turns.as_mut().and_then(|turns| turns.ledger.as_mut()) {
            Some(ledger) => ledger.push(lane, message),
            None => self.machine.send(lane, message),
        }
    }

    /// Returns why nothing can be sent although the machine still accepts messages.
    pub(super) fn refusal(&self) -> Option<EndReason> {
        let turns = self.turns.as_ref()?;
        Some(turns.closing.as_ref()?.reason.clone())
    }

    /// Returns true while the session is handed over: whoever sends waits, as for room. A turn that
    /// begins now does not count, and the next process runs it.
    pub(super) fn is_frozen(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| turns.is_frozen)
    }

    pub(super) fn has_ledger(&self) -> bool {
        self.ledger().is_some()
    }

    pub(super) fn ledger_charge(&self) -> u64 {
        self.ledger().map_or(0, Ledger::charge)
    }

    pub(super) fn ledger_len(&self) -> usize {
        self.ledger().map_or(0, Ledger::len)
    }

    /// Drops what does not count yet, because the session has ended. Returns the number of
    /// messages.
    pub(super) fn clear_ledger(&mut self) -> usize {
        let ledger = self.turns.as_mut().and_then(|turns| turns.ledger.as_mut());
        ledger.map_or(0, Ledger::clear)
    }

    fn ledger(&self) -> Option<&Ledger> {
        self.turns.as_ref()?.ledger.as_ref()
    }
}

/// Counts the messages that the function has taken, in a session whose turns count at once.
fn count_turn(machine: &mut SessionMachine, now: Instant) {
    let saved = Saved {
        incarnation: machine.incarnation(),
        lanes: machine.save(),
        ..Saved::default()
    };
    machine.handle_counted(&saved, now);
}

impl Inner {
    /// Returns the newest document that the function knows.
    pub(super) fn known_document(&self) -> u64 {
        self.turns.as_ref().map_or(1, |turns| turns.greeted.max(1))
    }

    /// Returns false if another process goes on with the session.
    pub(super) fn takes_hello(&self) -> bool {
        self.turns
            .as_ref()
            .is_none_or(|turns| !turns.has_left && !turns.is_frozen)
    }
}
