//! What one server sends to a room at a time.
//!
//! A batch is a version `u8` (1), the server `u64`, its number `u64` and the position `u64` of the
//! first member that joins in it, in little endian; then entries, each a kind `u8`, a length `u32`
//! and so many bytes.

use std::ops::RangeInclusive;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stillhere_app::{Announced, Announcement, Happening, ServerId};

/// One thing that a server tells a room.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Happening(Happening),
    Announcement(Announcement),
    /// This server is out of reach or has died.
    Lost(ServerId),
    /// Every server announces its members.
    RollCall,
}

/// What one server sends at a time. Each of its batches has a greater number than those before.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) mark: Mark,
    pub(super) position: u64,
    pub(super) entries: Vec<Entry>,
}

/// Identifies a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) server: ServerId,
    pub(super) number: u64,
}

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error("it has version {0}, and this server knows only version {VERSION}")]
    Version(u8),
    #[error("it is cut off")]
    Short,
    #[error("it has an entry of kind {0}")]
    Kind(u8),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Entry {
    /// Encodes an entry, to be appended to a batch.
    pub(super) fn encode(&self) -> Bytes {
        let json = |kind, value: serde_json::Result<Vec<u8>>| {
            let value = value.expect("members can be written as JSON");
            framed(kind, &[&value])
        };
        match self {
            Self::Happening(Happening::Event { unit, except }) => {
                framed(EVENT, &[&except.unwrap_or(NOBODY).to_le_bytes(), unit])
            }
            Self::Happening(happening) => json(HAPPENING, serde_json::to_vec(happening)),
            Self::Announcement(announcement) => json(ANNOUNCEMENT, serde_json::to_vec(announcement)),
            Self::Lost(server) => framed(LOST, &[&server.0.to_le_bytes()]),
            Self::RollCall => framed(ROLL_CALL, &[]),
        }
    }

    fn decode(kind: u8, mut body: Bytes) -> Result<Self, BatchError> {
        Ok(match kind {
            EVENT => {
                let except = body.try_get_u64_le().map_err(|_| BatchError::Short)?;
                let except = (except != NOBODY).then_some(except);
                Self::Happening(Happening::Event { unit: body, except })
            }
            HAPPENING => Self::Happening(json(&body)?),
            ANNOUNCEMENT => Self::Announcement(json(&body)?),
            LOST => Self::Lost(ServerId(body.try_get_u64_le().map_err(|_| BatchError::Short)?)),
            ROLL_CALL => Self::RollCall,
            other => return Err(BatchError::Kind(other)),
        })
    }
}

/// Begins a batch, to which encoded entries are appended.
pub(super) fn begin(mark: Mark, position: u64) -> BytesMut {
    let mut batch = BytesMut::with_capacity(256);
    batch.put_u8(VERSION);
    batch.put_u64_le(mark.server.0);
    batch.put_u64_le(mark.number);
    batch.put_u64_le(position);
    batch
}

/// Reads only what identifies a batch.
pub(super) fn mark(mut batch: &[u8]) -> Result<Mark, BatchError> {
    read_mark(&mut batch)
}

impl Batch {
    pub(super) fn decode(mut batch: Bytes) -> Result<Self, BatchError> {
        let mark = read_mark(&mut batch)?;
        let position = batch.try_get_u64_le().map_err(|_| BatchError::Short)?;
        let mut entries = Vec::new();
        while !batch.is_empty() {
            let kind = batch.get_u8();
            let size = batch.try_get_u32_le().map_err(|_| BatchError::Short)? as usize;
            if batch.len() < size {
                return Err(BatchError::Short);
            }
            entries.push(Entry::decode(kind, batch.split_to(size))?);
        }
        Ok(Self {
            mark,
            position,
            entries,
        })
    }
}

/// Returns the most that a batch with one entry has besides what the entry says.
pub(super) const fn overhead() -> usize {
    25 + 5 + 8
}

/// Takes members for an announcement that has at most `limit` bytes, or one member.
pub(super) fn announcement(from: u64, members: impl Iterator<Item = Announced>, limit: usize) -> Announcement {
    let mut taken = Vec::new();
    let mut size = 0;
    for announced in members {
        size += serde_json::to_vec(&announced).map_or(0, |json| json.len() + 1);
        if size > limit && !taken.is_empty() {
            let ids = from..=announced.member.id - 1;
            return Announcement { ids, members: taken };
        }
        taken.push(announced);
    }
    let ids: RangeInclusive<u64> = from..=u64::MAX;
    Announcement { ids, members: taken }
}

fn read_mark(batch: &mut impl bytes::Buf) -> Result<Mark, BatchError> {
    let version = batch.try_get_u8().map_err(|_| BatchError::Short)?;
    if version != VERSION {
        return Err(BatchError::Version(version));
    }
    let mut number = || batch.try_get_u64_le().map_err(|_| BatchError::Short);
    Ok(Mark {
        server: ServerId(number()?),
        number: number()?,
    })
}

fn framed(kind: u8, parts: &[&[u8]]) -> Bytes {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let mut entry = BytesMut::with_capacity(5 + size);
    entry.put_u8(kind);
    entry.put_u32_le(u32::try_from(size).expect("less than 4 GiB"));
    parts.iter().for_each(|part| entry.put_slice(part));
    entry.freeze()
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, BatchError> {
    Ok(serde_json::from_slice(body)?)
}

const VERSION: u8 = 1;

/// Kinds of entries.
const EVENT: u8 = 0;
const HAPPENING: u8 = 1;
const ANNOUNCEMENT: u8 = 2;
const LOST: u8 = 3;
const ROLL_CALL: u8 = 4;

/// The member that an event is not for, if it is for all. No member has this id.
const NOBODY: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Bytes {
        let mark = Mark {
            server: ServerId(7),
            number: 8,
        };
        let mut batch = begin(mark, 9);
        let unit = Bytes::from_static(b"\x0d unit");
        let event = |except| {
            let unit = unit.clone();
            Entry::Happening(Happening::Event { unit, except })
        };
        let away = Happening::Away {
            id: 1,
            is_away: true,
            since: 2,
        };
        let announcement = announcement(0, std::iter::empty(), 10);
        for entry in [
            event(None),
            event(Some(3)),
            Entry::Happening(away),
            Entry::Announcement(announcement),
            Entry::Lost(ServerId(4)),
            Entry::RollCall,
        ] {
            batch.extend_from_slice(&entry.encode());
        }
        batch.freeze()
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let read = Batch::decode(batch()).expect("it is whole");
        assert_eq!((read.mark, read.position), (mark(&batch()).expect("it is whole"), 9));
        assert_eq!(read.entries.len(), 6);
        let mut again = begin(read.mark, read.position);
        read.entries
            .iter()
            .for_each(|entry| again.extend_from_slice(&entry.encode()));
        assert_eq!(again.freeze(), batch());
    }

    #[test]
    fn a_damaged_batch_is_refused_and_never_panics() {
        let whole = batch();
        for end in 0..whole.len() {
            let _ = Batch::decode(whole.slice(..end));
            let mut damaged = whole.to_vec();
            damaged[end] ^= 0xff;
            let _ = Batch::decode(damaged.into());
        }
        assert!(matches!(Batch::decode(whole.slice(..24)), Err(BatchError::Short)));
        assert!(matches!(
            Batch::decode(Bytes::from_static(&[2])),
            Err(BatchError::Version(2))
        ));
    }
}
