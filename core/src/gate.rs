//! What others send to a document whose restore function still runs: it goes after what that function sends.

use stillhere_proto::Limits;
use stillhere_proto::{Lane, Message, PerLane};

#[derive(Debug)]
pub(crate) struct Gate {
    /// Whose restore is waited for.
    incarnation: u64,
    queued: Vec<(Lane, Message)>,
    charge: PerLane<u64>,
    /// The part of the charge whose bytes belong to no other session.
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

    /// As an outbox does: what fits the limit, or anything into an empty lane. `outgoing` waits in the lane's outbox already.
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

    /// Everything that waits, in order.
    pub(crate) fn take(&mut self) -> Vec<(Lane, Message)> {
        self.charge = PerLane::default();
        self.owned = 0;
        std::mem::take(&mut self.queued)
    }

    /// How many messages wait.
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
