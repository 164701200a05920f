//! What was sent and is not yet acknowledged: one lane.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::machine::Violation;
use crate::message::{Lane, Message, SharedBytes};
use crate::wire::{Data, charge};

/// The outgoing half of a lane. Frames leave it when they are acknowledged, not when they are transmitted.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Unacknowledged frames, oldest first. The first has sequence `acknowledged + 1`.
    frames: VecDeque<Queued>,
    acknowledged: u64,
    /// How many of `frames` were transmitted on the current connection.
    sent: usize,
    /// The highest sequence transmitted in this incarnation, over all its connections.
    transmitted: u64,
    acknowledged_charge: u64,
    /// Charge of everything up to the last frame transmitted on the current connection.
    sent_charge: u64,
    /// What the peer has granted.
    credit: u64,
    /// Charge of `frames`.
    buffered: u64,
    /// The part of `buffered` whose bytes no other outbox shares.
    owned: u64,
    /// Bytes of the first message that are acknowledged and still here: its fragments are slices of one allocation.
    lingering: u64,
}

#[derive(Debug)]
struct Queued {
    payload: Bytes,
    more: bool,
    compressed: bool,
    shared: Option<Arc<SharedBytes>>,
}

impl Outbox {
    /// Whether a message of `size` bytes may enter: it fits `limit` or the lane is empty.
    pub(crate) fn admits(&self, size: usize, fragment: u64, limit: u64) -> bool {
        let frames = (size as u64).div_ceil(fragment).max(1);
        let charge = size as u64 + frames * crate::limits::FRAME_CHARGE;
        self.frames.is_empty() || self.buffered + charge <= limit
    }

    /// Queues a message, fixing its fragment boundaries for good.
    pub(crate) fn push(&mut self, message: Message, fragment: u64) {
        let mut rest = message.payload;
        loop {
            let size = rest.len().min(usize::try_from(fragment).unwrap_or(usize::MAX));
            let payload = rest.split_to(size);
            let more = !rest.is_empty();
            self.buffered += charge(&payload);
            if message.shared.is_none() {
                self.owned += charge(&payload);
            }
            self.frames.push_back(Queued {
                payload,
                more,
                compressed: message.compressed,
                shared: message.shared.clone(),
            });
            if !more {
                return;
            }
        }
    }

    /// The next frame that may be transmitted, marked as transmitted.
    pub(crate) fn poll_frame(&mut self, lane: Lane) -> Option<Data> {
        let queued = self.frames.get(self.sent)?;
        let sent_charge = self.sent_charge + charge(&queued.payload);
        if sent_charge > self.credit {
            return None;
        }
        self.sent += 1;
        self.sent_charge = sent_charge;
        let sequence = self.acknowledged + self.sent as u64;
        self.transmitted = self.transmitted.max(sequence);
        Some(Data {
            lane,
            sequence,
            more: queued.more,
            compressed: queued.compressed,
            payload: queued.payload.clone(),
        })
    }

    /// Whether [`Outbox::poll_frame`] would give a frame.
    pub(crate) fn is_ready(&self) -> bool {
        self.frames
            .get(self.sent)
            .is_some_and(|next| self.sent_charge + charge(&next.payload) <= self.credit)
    }

    /// The last sequence that the peer has received.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The last sequence transmitted on the current connection, or acknowledged before.
    pub(crate) fn written(&self) -> u64 {
        self.acknowledged + self.sent as u64
    }

    /// Whether a frame was not transmitted on the current connection.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.frames.len()
    }

    /// Checks the peer's counts without taking them in.
    pub(crate) fn check(&self, received: u64, credit: u64) -> Result<(), Violation> {
        let known = self.acknowledged..=self.transmitted;
        if known.contains(&received) && credit >= self.credit {
            Ok(())
        } else {
            Err(Violation::Malformed)
        }
    }

    /// Takes in the peer's counts, which [`Outbox::check`] has approved: what it received is let go.
    pub(crate) fn acknowledge(&mut self, received: u64, credit: u64) {
        self.credit = credit;
        while self.acknowledged < received {
            let frame = self
                .frames
                .pop_front()
                .expect("check bounds received by what was transmitted");
            self.acknowledged += 1;
            self.acknowledged_charge += charge(&frame.payload);
            self.buffered -= charge(&frame.payload);
            if frame.shared.is_none() {
                self.owned -= charge(&frame.payload);
                self.lingering = if frame.more {
                    self.lingering + frame.payload.len() as u64
                } else {
                    0
                };
            }
            self.sent = self.sent.saturating_sub(1);
        }
        self.sent_charge = self.sent_charge.max(self.acknowledged_charge);
        if self.frames.len() <= self.frames.capacity() / SPARSE && self.frames.capacity() > IDLE_CAPACITY {
            self.frames.shrink_to(2 * self.frames.len());
        }
    }

    /// A new connection: everything unacknowledged is to be transmitted again.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        self.sent_charge = self.acknowledged_charge;
    }

    /// Gives back the room it does not use.
    pub(crate) fn rest(&mut self) {
        self.frames.shrink_to_fit();
    }

    /// Charge that waits for acknowledgement.
    pub(crate) fn buffered(&self) -> u64 {
        self.buffered
    }

    /// The part of [`Outbox::buffered`] that counts for this session alone.
    pub(crate) fn owned(&self) -> u64 {
        self.owned
    }

    /// Bytes that are allocated for more frames than wait, or that wait no more and are not free.
    pub(crate) fn spare(&self) -> u64 {
        let slots = self.frames.capacity().saturating_sub(self.frames.len() + IDLE_CAPACITY);
        (slots * size_of::<Queued>()) as u64 + self.lingering
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Messages of which at least the last part is not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.frames.iter().filter(|frame| !frame.more).count()
    }
}

/// Slots an empty outbox keeps, so that an idle session is small.
const IDLE_CAPACITY: usize = 32;

/// The room for frames shrinks once at most one slot in so many is in use.
const SPARSE: usize = 4;
