//! What was received and not yet taken by the application: one lane.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::Limits;
use crate::machine::Violation;
use crate::wire::Data;

/// The incoming half of a lane. It belongs to the session and the document, not to a connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    window: u64,
    received: u64,
    /// Charge of all accepted frames of this incarnation.
    charged: u64,
    /// Charge of what is here and not given back as credit.
    held: u64,
    /// Charge of all that is here, given back or not.
    stored: u64,
    partial: Option<Box<Partial>>,
    complete: VecDeque<Complete>,
    /// Messages taken and not released: they wait like those in `complete`.
    in_hand: usize,
    /// The highest credit so far; it never falls.
    credit: u64,
    takes_compressed: bool,
}

/// Fragments of a message whose last has not come, in one piece.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    held: u64,
    stored: u64,
    compressed: bool,
}

#[derive(Debug)]
struct Complete {
    message: Received,
    held: u64,
    stored: u64,
}

/// A whole message, still as it came.
#[derive(Debug)]
pub struct Received {
    payload: Bytes,
    /// Whether it must be inflated.
    pub compressed: bool,
    /// Which document it came from.
    pub incarnation: u64,
}

impl Received {
    /// Its wire bytes, in an allocation of just their size.
    pub fn into_bytes(self) -> Bytes {
        self.payload
    }
}

/// What became of a data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// Taken in; `complete` if it ended a message.
    New { complete: bool },
    /// Had been received before.
    Duplicate,
}

impl Inbox {
    pub(crate) fn new(window: u64, takes_compressed: bool) -> Self {
        Self {
            window,
            takes_compressed,
            received: 0,
            charged: 0,
            held: 0,
            stored: 0,
            partial: None,
            complete: VecDeque::new(),
            in_hand: 0,
            credit: window,
        }
    }

    /// Takes a data frame in. `told` is the credit the peer has been told.
    pub(crate) fn accept(
        &mut self,
        data: Data,
        told: u64,
        limits: &Limits,
        incarnation: u64,
    ) -> Result<Accepted, Violation> {
        if data.sequence <= self.received {
            return Ok(Accepted::Duplicate);
        }
        if data.sequence > self.received + 1 {
            return Err(Violation::Gap);
        }
        self.check(&data, told, limits)?;

        let charge = data.charge();
        let (more, compressed) = (data.more, data.compressed);
        self.received += 1;
        self.charged += charge;
        self.stored += charge;
        if more {
            let held = if self.has_waiting() { charge } else { 0 };
            self.held += held;
            let partial = self.partial.get_or_insert_default();
            partial.push(&data.payload, compressed, charge);
            partial.held += held;
            self.update_credit();
            return Ok(Accepted::New { complete: false });
        }
        let partial = self.partial.take().map_or_else(Partial::default, |partial| *partial);
        self.held += charge;
        self.complete.push_back(Complete {
            held: partial.held + charge,
            stored: partial.stored + charge,
            message: Received {
                payload: partial.finish(&data.payload),
                compressed,
                incarnation,
            },
        });
        self.update_credit();
        Ok(Accepted::New { complete: true })
    }

    fn check(&self, data: &Data, told: u64, limits: &Limits) -> Result<(), Violation> {
        let size = data.payload.len() as u64;
        let begun = self.partial.as_deref();
        if size > limits.fragment || begun.map_or(0, Partial::size) + size > limits.message {
            return Err(Violation::TooLarge);
        }
        let wrong_size = if data.more {
            size != limits.fragment
        } else {
            begun.is_some() && size == 0
        };
        if data.compressed && !self.takes_compressed {
            return Err(Violation::Compressed);
        }
        if wrong_size || begun.is_some_and(|partial| partial.compressed != data.compressed) {
            return Err(Violation::Malformed);
        }
        if self.charged + data.charge() > told {
            return Err(Violation::Flood);
        }
        Ok(())
    }

    /// The next whole message; its credit comes back now.
    pub(crate) fn take(&mut self) -> Option<Received> {
        let (message, held) = self.take_holding()?;
        self.release(held);
        Some(message)
    }

    /// The next whole message and the charge to give to [`Inbox::release`] when it has been dealt with.
    pub(crate) fn take_holding(&mut self) -> Option<(Received, u64)> {
        let Complete { message, held, stored } = self.complete.pop_front()?;
        self.stored -= stored;
        self.in_hand += 1;
        if self.complete.len() <= self.complete.capacity() / SPARSE && self.complete.capacity() > IDLE_CAPACITY {
            self.complete.shrink_to(2 * self.complete.len());
        }
        Some((message, held))
    }

    /// Gives credit back. The fragments of an incomplete message follow once no whole message waits.
    pub(crate) fn release(&mut self, held: u64) {
        self.held -= held;
        self.in_hand -= 1;
        if !self.has_waiting()
            && let Some(partial) = &mut self.partial
        {
            self.held -= std::mem::take(&mut partial.held);
        }
        self.update_credit();
    }

    fn has_waiting(&self) -> bool {
        !self.complete.is_empty() || self.in_hand > 0
    }

    fn update_credit(&mut self) {
        self.credit = self.credit.max((self.window + self.charged).saturating_sub(self.held));
    }

    /// The incarnation of the next whole message, if one waits.
    pub(crate) fn next_incarnation(&self) -> Option<u64> {
        self.complete.front().map(|complete| complete.message.incarnation)
    }

    /// Another document: counts start anew, the half message goes, whole ones stay and weigh on the first credit.
    pub(crate) fn restart(&mut self) {
        let dropped = self.partial.take().map_or_else(Partial::default, |partial| *partial);
        let held = self.held - dropped.held;
        *self = Self {
            held,
            stored: self.stored - dropped.stored,
            complete: std::mem::take(&mut self.complete),
            credit: self.window.saturating_sub(held),
            ..Self::new(self.window, self.takes_compressed)
        };
    }

    /// Drops everything that waits: the session is over and nobody will read it.
    pub(crate) fn clear(&mut self) {
        self.complete = VecDeque::new();
        self.partial = None;
        self.held = 0;
        self.stored = 0;
    }

    /// Gives back the room it does not use.
    pub(crate) fn rest(&mut self) {
        self.complete.shrink_to_fit();
    }

    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    pub(crate) fn credit(&self) -> u64 {
        self.credit
    }

    pub(crate) fn has_complete(&self) -> bool {
        !self.complete.is_empty()
    }

    /// Charge of all whole and half messages that wait.
    pub(crate) fn buffered(&self) -> u64 {
        self.stored
    }

    /// Bytes that are allocated for more messages than wait, or for more of the half one than has come.
    pub(crate) fn spare(&self) -> u64 {
        let slots = self
            .complete
            .capacity()
            .saturating_sub(self.complete.len() + IDLE_CAPACITY);
        let partial = self.partial.as_ref().map_or(0, |partial| partial.spare());
        (slots * size_of::<Complete>() + partial) as u64
    }
}

impl Partial {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    fn push(&mut self, payload: &[u8], compressed: bool, charge: u64) {
        self.bytes.extend_from_slice(payload);
        self.stored += charge;
        self.compressed = compressed;
    }

    /// The whole message. Always a copy of what came: a payload is a slice of a block of the transport's, which may be many times as large, and
    /// which it would keep for as long as the message waits.
    fn finish(mut self, last: &[u8]) -> Bytes {
        if self.bytes.is_empty() {
            return Bytes::copy_from_slice(last);
        }
        self.bytes.extend_from_slice(last);
        self.bytes.into_boxed_slice().into()
    }
}

/// Slots an empty inbox keeps, so that an idle session is small.
const IDLE_CAPACITY: usize = 32;

/// The room for messages shrinks once at most one slot in so many is in use.
const SPARSE: usize = 4;
