//! Holds back messages of other senders to a document while its restore function runs.

use stillhere_proto::Limits;
use stillhere_proto::{Lane, Message, PerLane};

/// Messages that are queued once the restore function has returned.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The document that is being restored.
    incarnation: u64,
    queued: Vec<(Lane, Message)>,
    charge: PerLane<u64>,
    /// The part of the charge whose bytes are not shared with other sessions.
    owned: u64,
}

impl Gate {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            queued: Vec::new(),
            charge: PerLane::default(),
            owned: 0,
        }
    }

    pub(crate) fn is_for(&self, incarnation: u64) -> bool {
        self.incarnation == incarnation
    }

    /// Returns true if there is room, by the same rule as in an outbox: the message fits the limit,
    /// or the lane is empty. `outgoing` is the charge that the lane's outbox already holds.
    pub(crate) fn admits(&self, lane: Lane, size: usize, outgoing: u64, limits: &Limits) -> bool {
        let before = self.charge[lane] + outgoing;
        before == 0 || before + limits.charge(size) <= limits.outbox
    }

    pub(crate) fn push(&mut self, lane: Lane, message: Message, limits: &Limits) {
        let charge = limits.charge(message.len());
        self.charge[lane] += charge;
        if message.shared_bytes().is_none() {
            self.owned += charge;
        }
        self.queued.push((lane, message));
    }

    /// Takes all messages out, in order.
    pub(crate) fn take(&mut self) -> Vec<(Lane, Message)> {
        self.charge = PerLane::default();
        self.owned = 0;
        std::mem::take(&mut self.queued)
    }

    /// Returns the number of messages held back.
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    pub(crate) fn charge(&self) -> u64 {
        self.charge.interactive + self.charge.bulk
    }

    pub(crate) fn owned(&self) -> u64 {
        self.owned
    }
}
