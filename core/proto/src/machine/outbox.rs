//! Messages of one lane that were sent and are not yet acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::machine::Violation;
use crate::machine::saved::{Row, Taken};
use crate::message::{Lane, Message, SharedBytes};
use crate::wire::{DataRef, charge};

/// The sending half of a lane. Frames leave it when they are acknowledged, not when they are
/// transmitted.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    acknowledged: u64,
    acknowledged_charge: u64,
    /// Credit that the peer has granted.
    credit: u64,
    /// Absent while nothing was queued since the last rest, so that an idle session is small.
    queue: Option<Box<Queue>>,
}

/// Frames that wait for acknowledgement, and what has been transmitted of them.
#[derive(Debug, Default)]
struct Queue {
    /// Unacknowledged frames, oldest first. The first has the sequence `acknowledged + 1`.
    frames: VecDeque<Queued>,
    /// How many of `frames` have been transmitted on the current connection.
    sent: usize,
    /// Highest sequence transmitted in this incarnation, on any connection.
    transmitted: u64,
    /// Charge of everything up to the last frame transmitted on the current connection.
    sent_charge: u64,
    /// Charge of `frames`.
    buffered: u64,
    /// The part of `buffered` whose bytes no other outbox shares.
    owned: u64,
    /// Bytes of the first message that are acknowledged but still allocated, because its fragments
    /// are slices of one allocation.
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
    /// Creates the outbox of a session that is opened again. `acknowledged` is what comes before
    /// the first of the messages, each of which may have been transmitted.
    pub(crate) fn reopen(acknowledged: Taken, messages: impl IntoIterator<Item = Message>, fragment: u64) -> Self {
        let mut outbox = Self {
            acknowledged: acknowledged.sequence,
            acknowledged_charge: acknowledged.charge,
            ..Self::default()
        };
        for message in messages {
            outbox.push(message, fragment);
        }
        let queued = outbox.queued();
        if let Some(queue) = &mut outbox.queue {
            queue.transmitted = queued;
        }
        outbox
    }

    /// Returns what was queued in this incarnation.
    pub(crate) fn queued_charge(&self) -> Taken {
        Taken {
            sequence: self.queued(),
            charge: self.acknowledged_charge + self.buffered(),
        }
    }

    /// Returns what waits, as messages in their order. Of a message that is acknowledged in part,
    /// only the rest is left, whose fragments have the same boundaries.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut before = Taken {
            sequence: self.acknowledged,
            charge: self.acknowledged_charge,
        };
        let mut begun: Option<(Taken, BytesMut)> = None;
        for frame in self.queue.iter().flat_map(|queue| &queue.frames) {
            let (first, mut payload) = begun.take().unwrap_or((before, BytesMut::new()));
            payload.extend_from_slice(&frame.payload);
            before.sequence += 1;
            before.charge += charge(&frame.payload);
            if frame.more {
                begun = Some((first, payload));
            } else {
                rows.push(Row {
                    before: first,
                    last: before.sequence,
                    compressed: frame.compressed,
                    payload: payload.freeze(),
                });
            }
        }
        rows
    }

    /// Returns true if a message of `size` bytes may be queued: it fits within `limit`, or the lane
    /// is empty.
    pub(crate) fn admits(&self, size: usize, fragment: u64, limit: u64) -> bool {
        let frames = (size as u64).div_ceil(fragment).max(1);
        let charge = size as u64 + frames * crate::limits::FRAME_CHARGE;
        self.is_empty() || self.buffered() + charge <= limit
    }

    /// Queues a message and fixes the boundaries of its fragments.
    pub(crate) fn push(&mut self, message: Message, fragment: u64) {
        let queue = self.queue.get_or_insert_with(|| {
            Box::new(Queue {
                transmitted: self.acknowledged,
                sent_charge: self.acknowledged_charge,
                ..Queue::default()
            })
        });
        let fragment = usize::try_from(fragment).unwrap_or(usize::MAX);
        if message.payload.len() <= fragment {
            return queue.push(Queued {
                payload: message.payload,
                more: false,
                compressed: message.compressed,
                shared: message.shared,
            });
        }
        let mut rest = message.payload;
        loop {
            let size = rest.len().min(fragment);
            let payload = rest.split_to(size);
            let more = !rest.is_empty();
            queue.push(Queued {
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

    /// Returns the next frame and marks it as transmitted. Call this if [`Outbox::is_ready`].
    pub(crate) fn transmit(&mut self, lane: Lane) -> Option<DataRef<'_>> {
        let queue = self.queue.as_mut()?;
        let queued = queue.frames.get(queue.sent)?;
        queue.sent += 1;
        queue.sent_charge += charge(&queued.payload);
        let sequence = self.acknowledged + queue.sent as u64;
        queue.transmitted = queue.transmitted.max(sequence);
        Some(DataRef {
            lane,
            sequence,
            more: queued.more,
            compressed: queued.compressed,
            payload: &queued.payload,
        })
    }

    /// Returns true if a frame waits whose transmission the peer's credit allows.
    pub(crate) fn is_ready(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| {
            let next = queue.frames.get(queue.sent);
            next.is_some_and(|next| queue.sent_charge + charge(&next.payload) <= self.credit)
        })
    }

    /// Returns the last sequence that the peer has received.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Returns the last sequence that was queued.
    pub(crate) fn queued(&self) -> u64 {
        self.acknowledged + self.queue.as_ref().map_or(0, |queue| queue.frames.len() as u64)
    }

    /// Returns the last sequence that was transmitted on the current connection or acknowledged
    /// before.
    pub(crate) fn written(&self) -> u64 {
        self.acknowledged + self.queue.as_ref().map_or(0, |queue| queue.sent as u64)
    }

    /// Returns true if a frame has not been transmitted on the current connection.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent() > 0
    }

    /// Returns how many frames have not been transmitted on the current connection.
    pub(crate) fn unsent(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.frames.len() - queue.sent)
    }

    /// Checks the peer's counts without applying them.
    pub(crate) fn check(&self, received: u64, credit: u64) -> Result<(), Violation> {
        let transmitted = self.queue.as_ref().map_or(self.acknowledged, |queue| queue.transmitted);
        if (self.acknowledged..=transmitted).contains(&received) && credit >= self.credit {
            Ok(())
        } else {
            Err(Violation::Malformed)
        }
    }

    /// Applies the peer's counts, which [`Outbox::check`] has approved, and drops the frames that
    /// the peer has received.
    pub(crate) fn acknowledge(&mut self, received: u64, credit: u64) {
        self.credit = credit;
        let Some(queue) = &mut self.queue else { return };
        while self.acknowledged < received {
            self.acknowledged += 1;
            self.acknowledged_charge += queue.pop();
        }
        queue.sent_charge = queue.sent_charge.max(self.acknowledged_charge);
        queue.shrink_if_sparse();
    }

    /// Prepares for a new connection, on which all unacknowledged frames are transmitted again.
    pub(crate) fn rewind(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.sent = 0;
            queue.sent_charge = self.acknowledged_charge;
        }
    }

    /// Releases unused memory.
    pub(crate) fn rest(&mut self) {
        self.queue.take_if(|queue| queue.frames.is_empty());
        if let Some(queue) = &mut self.queue {
            queue.frames.shrink_to_fit();
        }
    }

    /// Returns the charge of the frames that wait for acknowledgement.
    pub(crate) fn buffered(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.buffered)
    }

    /// Returns the part of [`Outbox::buffered`] that belongs to this session alone, plus
    /// [`Outbox::spare`].
    pub(crate) fn owned(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.owned + queue.spare())
    }

    /// Returns the bytes of memory that are allocated for more frames than wait, or for
    /// acknowledged fragments whose allocation is still in use.
    pub(crate) fn spare(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.spare())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.frames.is_empty())
    }

    /// Returns the number of messages that are not completely acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        let frames = self.queue.iter().flat_map(|queue| &queue.frames);
        frames.filter(|frame| !frame.more).count()
    }
}

impl Queue {
    fn push(&mut self, queued: Queued) {
        let charge = charge(&queued.payload);
        self.buffered += charge;
        if queued.shared.is_none() {
            self.owned += charge;
        }
        self.frames.push_back(queued);
    }

    /// Drops the first frame, which the peer has received, and returns its charge.
    fn pop(&mut self) -> u64 {
        let frame = self
            .frames
            .pop_front()
            .expect("`check` bounds `received` by what was transmitted");
        let charge = charge(&frame.payload);
        self.buffered -= charge;
        if frame.shared.is_none() {
            self.owned -= charge;
            self.lingering = if frame.more {
                self.lingering + frame.payload.len() as u64
            } else {
                0
            };
        }
        self.sent = self.sent.saturating_sub(1);
        charge
    }

    fn shrink_if_sparse(&mut self) {
        if self.frames.len() <= self.frames.capacity() / SPARSE && self.frames.capacity() > IDLE_CAPACITY {
            self.frames.shrink_to(2 * self.frames.len());
        }
    }

    fn spare(&self) -> u64 {
        let slots = self.frames.capacity().saturating_sub(self.frames.len() + IDLE_CAPACITY);
        (slots * size_of::<Queued>()) as u64 + self.lingering
    }
}

/// Slots that an empty outbox keeps. Small, so that an idle session is small.
const IDLE_CAPACITY: usize = 32;

/// The queue shrinks when at most 1/4 of its slots are in use.
const SPARSE: usize = 4;
