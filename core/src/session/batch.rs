//! Frames for a connection to write together.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use stillhere_proto::wire::{DATA_HEADER_MAX, Data, DataRef, Frame};

/// Frames for a connection to write together, in their order. Small data frames are encoded one
/// after another into the same block, while the session is locked, because that costs less than to
/// clone and move them. Large ones are encoded when they are taken.
#[derive(Default)]
pub(crate) struct Batch {
    frames: SmallVec<[Queued; 16]>,
    /// How many of `frames` have been taken.
    taken: usize,
    /// Bytes of memory that the frames take, without those of their messages' owners.
    size: usize,
    /// Small data frames, until the first frame is taken.
    block: BytesMut,
    /// Small data frames that have not been taken.
    encoded: Bytes,
}

enum Queued {
    /// The next so many bytes of the block.
    Small(usize),
    Large(Data),
    /// Anything but data.
    Control(Bytes),
}

impl Batch {
    /// Adds a data frame. `expected` is how many are likely to be added, with this one.
    #[inline]
    pub(crate) fn push_data(&mut self, data: DataRef<'_>, expected: usize) {
        self.size += OVERHEAD + data.payload.len();
        if data.payload.len() > SMALL || !self.encoded.is_empty() {
            self.frames.push(Queued::Large(data.to_data()));
            return;
        }
        if expected > 1 && self.block.capacity() == 0 {
            self.block
                .reserve(expected.min(RESERVED) * (DATA_HEADER_MAX + data.payload.len()));
        }
        let before = self.block.len();
        data.encode(&mut self.block);
        self.frames.push(Queued::Small(self.block.len() - before));
    }

    /// Adds a frame that is not data. An acknowledgement goes before large data that it rides with:
    /// a transport writes large data at once, and an acknowledgement behind it would cost a write
    /// of its own.
    pub(crate) fn push(&mut self, frame: &Frame) {
        let queued = Queued::Control(frame.to_bytes());
        if matches!(frame, Frame::Ack(_)) && self.size >= LARGE {
            let is_data = |queued: &&Queued| !matches!(queued, Queued::Control(_));
            let data = self.frames.iter().rev().take_while(is_data).count();
            self.frames.insert(self.frames.len() - data, queued);
        } else {
            self.frames.push(queued);
        }
        self.size += OVERHEAD;
    }

    /// Returns true if what was added should be written before more is.
    pub(crate) fn is_full(&self) -> bool {
        self.size > FULL
    }

    /// Returns true if all frames have been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.frames.len()
    }

    /// Takes the next frame, encoded.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let Some(queued) = self.frames.get_mut(self.taken) else {
            self.frames.clear();
            (self.taken, self.size) = (0, 0);
            return None;
        };
        self.taken += 1;
        Some(match queued {
            Queued::Small(size) => {
                if !self.block.is_empty() {
                    self.encoded = std::mem::take(&mut self.block).freeze();
                }
                self.encoded.split_to(*size)
            }
            Queued::Large(data) => {
                let mut encoded = BytesMut::new();
                data.as_data_ref().encode(&mut encoded);
                encoded.freeze()
            }
            Queued::Control(encoded) => std::mem::take(encoded),
        })
    }
}

/// Bytes of memory that a frame takes beside its payload.
const OVERHEAD: usize = size_of::<Queued>();

/// Most bytes in the payload of a small data frame.
const SMALL: usize = 1024;

/// Most frames for which the block reserves room at first.
const RESERVED: usize = 64;

/// Bytes from which a batch has large data.
const LARGE: usize = 8 * 1024;

/// Bytes after which a batch is full: one of the largest fragments.
const FULL: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use stillhere_proto::Lane;
    use stillhere_proto::wire::{Counts, Sender};

    fn push(batch: &mut Batch, sequence: u64, payload: &Bytes) {
        let data = DataRef {
            lane: Lane::Interactive,
            sequence,
            more: false,
            compressed: false,
            payload,
        };
        batch.push_data(data, 8);
    }

    /// Takes all frames. Returns the sequences of the data, and 0 for anything else.
    fn take(batch: &mut Batch) -> Vec<u64> {
        let frames = std::iter::from_fn(|| batch.pop());
        let decoded = frames.map(|frame| Frame::decode(frame, Sender::Server).expect("the frame is whole"));
        let sequences = decoded.map(|frame| match frame {
            Frame::Data(data) => {
                let expected = if data.sequence % 2 == 0 { SMALL + 1 } else { 3 };
                assert_eq!(data.payload.len(), expected, "{}", data.sequence);
                data.sequence
            }
            _ => 0,
        });
        sequences.collect()
    }

    #[test]
    fn frames_come_out_in_their_order() {
        let (small, large) = (Bytes::from_static(b"abc"), Bytes::from(vec![7; SMALL + 1]));
        let ack = Frame::Ack(Counts::default());
        let mut batch = Batch::default();
        for round in [1, 101] {
            push(&mut batch, round, &small);
            batch.push(&ack);
            push(&mut batch, round + 1, &large);
            push(&mut batch, round + 2, &small);
            assert!(!batch.is_empty());
            assert_eq!(take(&mut batch), [round, 0, round + 1, round + 2]);
            assert!(batch.is_empty());
        }
    }

    #[test]
    fn an_acknowledgement_goes_before_large_data_and_not_before_small() {
        let (small, large) = (Bytes::from_static(b"abc"), Bytes::from(vec![7; SMALL + 1]));
        let ack = Frame::Ack(Counts::default());
        let mut batch = Batch::default();
        push(&mut batch, 1, &small);
        batch.push(&ack);
        assert_eq!(take(&mut batch), [1, 0]);

        batch.push(&Frame::Offer);
        for sequence in 1..=2 * LARGE as u64 / SMALL as u64 {
            push(&mut batch, sequence, if sequence % 2 == 0 { &large } else { &small });
        }
        batch.push(&ack);
        assert_eq!(take(&mut batch)[..4], [0, 0, 1, 2]);
    }

    #[test]
    fn a_batch_is_full_at_its_size_and_not_before() {
        let small = Bytes::from_static(b"abc");
        let mut batch = Batch::default();
        let most = FULL / (OVERHEAD + small.len());
        for sequence in 0..most {
            push(&mut batch, 2 * sequence as u64 + 1, &small);
        }
        assert!(!batch.is_full());
        push(&mut batch, 2 * most as u64 + 1, &small);
        assert!(batch.is_full());
        assert_eq!(take(&mut batch).len(), most + 1);
        assert!(!batch.is_full());
    }
}
