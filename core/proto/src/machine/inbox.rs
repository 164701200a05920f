//! Messages of one lane that were received and that the application has not yet taken.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::Limits;
use crate::machine::Violation;
use crate::machine::saved::Taken;
use crate::wire::Data;

/// The receiving half of a lane. It belongs to the session and the document, not to a connection.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    received: u64,
    /// Charge of all frames accepted in this incarnation.
    charged: u64,
    /// Absent while nothing has arrived since the last rest, so that an idle session is small.
    stored: Option<Box<Stored>>,
}

/// Frames that the application has not taken.
#[derive(Debug, Default)]
struct Stored {
    /// Highest credit so far; it never decreases.
    credit: u64,
    /// Charge of the frames.
    charge: u64,
    /// The part of the charge whose credit has not been returned.
    held: u64,
    partial: Option<Box<Partial>>,
    complete: VecDeque<Complete>,
    /// Number of messages that were taken and not released. They count like those in `complete`.
    in_hand: usize,
}

/// What a data frame is checked against.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) limits: &'a Limits,
    /// Charge that may be in transit or unread.
    pub(crate) window: u64,
    /// The credit last reported to the peer.
    pub(crate) told: u64,
    pub(crate) takes_compressed: bool,
}

/// Fragments of a message whose last fragment has not arrived, joined in one buffer.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    held: u64,
    charge: u64,
    compressed: bool,
}

#[derive(Debug)]
struct Complete {
    message: Received,
    held: u64,
    charge: u64,
}

/// A whole message as it was received, not yet inflated.
#[derive(Debug)]
pub struct Received {
    payload: Bytes,
    /// Whether the message must be inflated.
    pub compressed: bool,
    /// Incarnation of the document that sent the message.
    pub incarnation: u64,
    /// The last frame of the message.
    pub last: Taken,
}

impl Received {
    /// Returns the bytes as received, in an allocation of exactly their size.
    pub fn into_bytes(self) -> Bytes {
        self.payload
    }
}

/// Outcome of [`Inbox::accept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// The frame is new; `complete` is true if it completed a message.
    New { complete: bool },
    /// The frame had been received before.
    Duplicate,
}

impl Inbox {
    /// Creates the inbox of a session that is opened again: everything up to `taken` was taken, and
    /// nothing later has arrived.
    pub(crate) fn reopen(taken: Taken) -> Self {
        Self {
            received: taken.sequence,
            charged: taken.charge,
            stored: None,
        }
    }

    /// Accepts a data frame from this incarnation.
    pub(crate) fn accept(&mut self, data: Data, terms: &Terms<'_>, incarnation: u64) -> Result<Accepted, Violation> {
        if data.sequence <= self.received {
            return Ok(Accepted::Duplicate);
        }
        if data.sequence > self.received + 1 {
            return Err(Violation::Gap);
        }
        self.check(&data, terms)?;
        let credit = self.credit(terms.window);
        self.received += 1;
        self.charged += data.charge();
        let complete = !data.more;
        let stored = self.stored.get_or_insert_with(|| {
            Box::new(Stored {
                credit,
                ..Stored::default()
            })
        });
        let last = Taken {
            sequence: self.received,
            charge: self.charged,
        };
        stored.push(data, incarnation, last);
        stored.update_credit(terms.window + self.charged);
        Ok(Accepted::New { complete })
    }

    fn check(&self, data: &Data, terms: &Terms<'_>) -> Result<(), Violation> {
        let size = data.payload.len() as u64;
        let limits = terms.limits;
        let begun = self.stored.as_deref().and_then(|stored| stored.partial.as_deref());
        if size > limits.fragment || begun.map_or(0, Partial::size) + size > limits.message {
            return Err(Violation::TooLarge);
        }
        let wrong_size = if data.more {
            size != limits.fragment
        } else {
            begun.is_some() && size == 0
        };
        if data.compressed && !terms.takes_compressed {
            return Err(Violation::Compressed);
        }
        if wrong_size || begun.is_some_and(|partial| partial.compressed != data.compressed) {
            return Err(Violation::Malformed);
        }
        if self.charged + data.charge() > terms.told {
            return Err(Violation::Flood);
        }
        Ok(())
    }

    /// Takes the next whole message and returns its credit at once.
    #[inline]
    pub(crate) fn take(&mut self, window: u64) -> Option<Received> {
        let (message, held) = self.take_holding()?;
        self.release(held, window);
        Some(message)
    }

    /// Takes the next whole message without returning its credit. Also returns the charge to pass
    /// to [`Inbox::release`] after the message has been processed.
    #[inline]
    pub(crate) fn take_holding(&mut self) -> Option<(Received, u64)> {
        self.stored.as_mut()?.take()
    }

    /// Returns credit. The credit for an incomplete message follows once no whole message waits.
    #[inline]
    pub(crate) fn release(&mut self, held: u64, window: u64) {
        if let Some(stored) = &mut self.stored {
            stored.release(held);
            stored.update_credit(window + self.charged);
        }
    }

    /// Returns the incarnation of the next whole message, if there is one.
    #[inline]
    pub(crate) fn next_incarnation(&self) -> Option<u64> {
        let next = self.stored.as_ref()?.complete.front()?;
        Some(next.message.incarnation)
    }

    /// Starts a new document: resets the counts, drops the incomplete message, and keeps whole
    /// messages, which reduce the first credit.
    pub(crate) fn restart(&mut self, window: u64) {
        self.received = 0;
        self.charged = 0;
        if let Some(stored) = &mut self.stored {
            stored.drop_partial();
            stored.credit = window.saturating_sub(stored.held);
        }
    }

    /// Drops all messages, because the session has ended and nobody will read them.
    pub(crate) fn clear(&mut self) {
        if let Some(stored) = &mut self.stored {
            **stored = Stored {
                credit: stored.credit,
                ..Stored::default()
            };
        }
    }

    /// Releases unused memory.
    pub(crate) fn rest(&mut self) {
        self.stored.take_if(|stored| stored.is_empty());
        if let Some(stored) = &mut self.stored {
            stored.complete.shrink_to_fit();
        }
    }

    /// Returns true if a message has arrived in part.
    pub(crate) fn has_partial(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.partial.is_some())
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn charged(&self) -> u64 {
        self.charged
    }

    /// Returns how much charge the peer may send in this incarnation. What holds it back is stored.
    pub(crate) fn credit(&self, window: u64) -> u64 {
        let stored = self.stored.as_ref();
        stored.map_or(window + self.charged, |stored| stored.credit)
    }

    pub(crate) fn has_complete(&self) -> bool {
        self.next_incarnation().is_some()
    }

    /// Returns the charge of all messages that wait, including the incomplete one.
    pub(crate) fn buffered(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.charge)
    }

    /// Returns [`Inbox::buffered`] plus [`Inbox::spare`].
    pub(crate) fn owned(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.charge + stored.spare())
    }

    /// Returns the bytes of allocated memory that hold nothing: slots for more messages, and room
    /// in the buffer of the incomplete message.
    pub(crate) fn spare(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.spare())
    }
}

impl Stored {
    fn push(&mut self, data: Data, incarnation: u64, last: Taken) {
        let charge = data.charge();
        self.charge += charge;
        if data.more {
            let held = if self.has_waiting() { charge } else { 0 };
            self.held += held;
            let partial = self.partial.get_or_insert_default();
            partial.push(&data.payload, data.compressed, charge);
            partial.held += held;
            return;
        }
        self.held += charge;
        let (payload, begun) = match self.partial.take() {
            // Always a copy. A payload is a slice of a block that the transport read into; keeping
            // the slice would keep the block, which may be many times as large, until the message
            // is taken.
            None => (Bytes::copy_from_slice(&data.payload), (0, 0)),
            Some(partial) => {
                let begun = (partial.held, partial.charge);
                (partial.finish(&data.payload), begun)
            }
        };
        self.complete.push_back(Complete {
            held: begun.0 + charge,
            charge: begun.1 + charge,
            message: Received {
                payload,
                compressed: data.compressed,
                incarnation,
                last,
            },
        });
    }

    #[inline]
    fn take(&mut self) -> Option<(Received, u64)> {
        let Complete { message, held, charge } = self.complete.pop_front()?;
        self.charge -= charge;
        self.in_hand += 1;
        if self.complete.len() <= self.complete.capacity() / SPARSE && self.complete.capacity() > IDLE_CAPACITY {
            self.complete.shrink_to(2 * self.complete.len());
        }
        Some((message, held))
    }

    fn release(&mut self, held: u64) {
        self.held -= held;
        self.in_hand -= 1;
        if !self.has_waiting()
            && let Some(partial) = &mut self.partial
        {
            self.held -= std::mem::take(&mut partial.held);
        }
    }

    fn update_credit(&mut self, most: u64) {
        self.credit = self.credit.max(most.saturating_sub(self.held));
    }

    fn drop_partial(&mut self) {
        if let Some(partial) = self.partial.take() {
            self.held -= partial.held;
            self.charge -= partial.charge;
        }
    }

    fn has_waiting(&self) -> bool {
        !self.complete.is_empty() || self.in_hand > 0
    }

    fn is_empty(&self) -> bool {
        !self.has_waiting() && self.partial.is_none() && self.held == 0
    }

    fn spare(&self) -> u64 {
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
        self.charge += charge;
        self.compressed = compressed;
    }

    /// Returns the whole message.
    fn finish(mut self, last: &[u8]) -> Bytes {
        self.bytes.extend_from_slice(last);
        self.bytes.into_boxed_slice().into()
    }
}

/// Slots that an empty inbox keeps. Small, so that an idle session is small.
const IDLE_CAPACITY: usize = 32;

/// The queue shrinks when at most 1/4 of its slots are in use.
const SPARSE: usize = 4;
