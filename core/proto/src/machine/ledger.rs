//! The turns of a durable session: what was sent waits here until it counts.

use std::time::Instant;

use bytes::Bytes;

use crate::limits::Limits;
use crate::machine::saved::{Row, Saved, SavedLane, Taken};
use crate::machine::session::SessionMachine;
use crate::message::{Lane, Message, PerLane};

/// Turns that ended and do not count yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    /// The state after the last turn, if it has changed.
    pub state: Option<Bytes>,
    /// The protocol after the last turn.
    pub saved: Saved,
    /// What the turns have sent.
    pub rows: PerLane<Vec<Row>>,
    /// Whether earlier rows are for an earlier document.
    pub clears_rows: bool,
}

/// Holds what a durable session sends until its turn counts, so that nobody sees a turn that may be
/// run again.
///
/// A turn is what a function does between two reads. A turn that has ended waits to be committed.
/// While one commit is on its way, later turns are merged into the next.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    generation: u64,
    /// What the current turn has sent.
    turn: Vec<(Lane, Message)>,
    /// Turns that ended and are not on their way.
    ended: Option<Ended>,
    /// What was sent by the turns that are on their way, and what they save.
    committing: Option<(Vec<(Lane, Message)>, Saved)>,
    /// What counts once all turns that ended count.
    lanes: PerLane<SavedLane>,
    queued: PerLane<Taken>,
    incarnation: u64,
    charge: PerLane<u64>,
    /// The part of the charge that the current turn has sent.
    turn_charge: PerLane<u64>,
}

#[derive(Debug, Default)]
struct Ended {
    state: Option<Bytes>,
    sent: Vec<(Lane, Message)>,
    rows: PerLane<Vec<Row>>,
    clears_rows: bool,
}

impl Ledger {
    /// Creates the ledger of a new session.
    pub fn new(machine: &SessionMachine) -> Self {
        Self::reopen(machine, &Saved::default())
    }

    /// Creates the ledger of a session that is opened again.
    pub fn reopen(machine: &SessionMachine, saved: &Saved) -> Self {
        Self {
            limits: *machine.limits(),
            generation: saved.generation,
            turn: Vec::new(),
            ended: None,
            committing: None,
            lanes: saved.lanes,
            queued: saved.queued,
            incarnation: saved.incarnation,
            charge: PerLane::default(),
            turn_charge: PerLane::default(),
        }
    }

    /// Returns true if a message of `size` wire bytes may be sent now. `outgoing` is the charge
    /// that the lane's outbox holds.
    ///
    /// What the current turn has sent is not counted: it leaves only after the turn has ended, so a
    /// turn that waited for room that it takes itself would wait forever.
    pub fn admits(&self, lane: Lane, size: usize, outgoing: u64) -> bool {
        let before = self.charge[lane] - self.turn_charge[lane] + outgoing;
        before == 0 || before + self.limits.charge(size) <= self.limits.outbox
    }

    /// Adds a message to the current turn.
    pub fn push(&mut self, lane: Lane, message: Message) {
        let charge = self.limits.charge(message.len());
        self.charge[lane] += charge;
        self.turn_charge[lane] += charge;
        self.turn.push((lane, message));
    }

    /// Returns the charge of what is held.
    pub fn charge(&self) -> u64 {
        self.charge.interactive + self.charge.bulk
    }

    /// Returns the number of messages held.
    pub fn len(&self) -> usize {
        let ended = self.ended.as_ref().map_or(0, |ended| ended.sent.len());
        let committing = self.committing.as_ref().map_or(0, |(sent, _)| sent.len());
        self.turn.len() + ended + committing
    }

    /// Returns true if no message is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the turn: what the application has taken and sent is to be committed together, with its
    /// state if that has changed. Does nothing if the turn has done nothing.
    pub fn end_turn(&mut self, state: Option<Bytes>, machine: &SessionMachine) {
        self.follow(machine);
        let lanes = machine.save();
        let taken = Lane::ALL
            .iter()
            .any(|lane| lanes[*lane].taken != self.lanes[*lane].taken);
        if state.is_none() && self.turn.is_empty() && !taken {
            return;
        }
        self.lanes = lanes;
        self.turn_charge = PerLane::default();
        let ended = self.ended.get_or_insert_default();
        ended.state = state.or(ended.state.take());
        for (lane, message) in self.turn.drain(..) {
            let queued = &mut self.queued[lane];
            let before = *queued;
            queued.sequence += (message.len() as u64).div_ceil(self.limits.fragment).max(1);
            queued.charge += self.limits.charge(message.len());
            ended.rows[lane].push(Row {
                before,
                last: queued.sequence,
                compressed: message.is_compressed(),
                payload: message.clone().into_bytes(),
            });
            ended.sent.push((lane, message));
        }
    }

    /// Follows a change of the document. What was sent to an earlier one is dropped.
    pub fn follow(&mut self, machine: &SessionMachine) {
        let incarnation = machine.incarnation();
        if incarnation == self.incarnation {
            return;
        }
        let is_first = self.incarnation == 0;
        self.incarnation = incarnation;
        self.lanes = machine.save_untaken();
        let ended = self.ended.get_or_insert_default();
        if is_first {
            return;
        }
        self.turn.clear();
        ended.sent.clear();
        ended.rows = PerLane::default();
        ended.clears_rows = true;
        if let Some((sent, _)) = &mut self.committing {
            sent.clear();
        }
        self.charge = PerLane::default();
        self.turn_charge = PerLane::default();
        self.queued = PerLane::default();
    }

    /// Drops all messages, because the session has ended. Returns how many there were.
    pub fn clear(&mut self) -> usize {
        let len = self.len();
        self.turn = Vec::new();
        self.ended = None;
        if let Some((sent, _)) = &mut self.committing {
            *sent = Vec::new();
        }
        self.charge = PerLane::default();
        self.turn_charge = PerLane::default();
        len
    }

    /// Returns true if the next call of [`Ledger::poll_commit`] returns something.
    pub fn wants_commit(&self) -> bool {
        self.committing.is_none() && self.ended.is_some()
    }

    /// Returns what to commit next, if no commit is on its way. Exactly one of
    /// [`Ledger::handle_committed`] and [`Ledger::handle_failed`] must follow.
    pub fn poll_commit(&mut self, machine: &SessionMachine) -> Option<Turns> {
        if self.committing.is_some() {
            return None;
        }
        let ended = self.ended.take()?;
        let saved = Saved {
            document: machine.document(),
            incarnation: self.incarnation,
            generation: self.generation,
            lanes: self.lanes,
            queued: self.queued,
        };
        self.committing = Some((ended.sent, saved.clone()));
        Some(Turns {
            state: ended.state,
            saved,
            rows: ended.rows,
            clears_rows: ended.clears_rows,
        })
    }

    /// The commit counts: what its turns have sent goes to the browser, and what they have taken is
    /// reported as received.
    pub fn handle_committed(&mut self, machine: &mut SessionMachine, now: Instant) {
        let Some((sent, saved)) = self.committing.take() else {
            return;
        };
        for (lane, message) in sent {
            self.charge[lane] -= self.limits.charge(message.len());
            machine.send(lane, message);
        }
        machine.handle_counted(&saved, now);
    }

    /// The commit has failed and was not carried out: its turns are to be committed again, with
    /// those that ended since.
    pub fn handle_failed(&mut self, turns: Turns) {
        let Some((mut sent, saved)) = self.committing.take() else {
            return;
        };
        let later = self.ended.take().unwrap_or_default();
        if later.clears_rows || saved.incarnation != self.incarnation && saved.incarnation != 0 {
            // What the failed turns sent was for an earlier document.
            self.ended = Some(Ended {
                state: later.state.or(turns.state),
                clears_rows: true,
                ..later
            });
            return;
        }
        let mut rows = turns.rows;
        for lane in Lane::ALL {
            rows[lane].extend(later.rows[lane].iter().cloned());
        }
        sent.extend(later.sent);
        self.ended = Some(Ended {
            state: later.state.or(turns.state),
            sent,
            rows,
            clears_rows: turns.clears_rows,
        });
    }
}
