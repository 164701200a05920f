//! The tables of a file, and what they hold of a record, with checksums.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use redb::TableDefinition;

use stillhere_proto::machine::{Row, Taken};

pub(crate) type Id = [u8; 16];

/// Session, lane, last sequence.
pub(crate) type RowKey = (Id, u8, u64);

/// The format of the file.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Revision, number of messages, time at which it expires, keep, and head, after a checksum.
pub(crate) const HEADS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("heads");
/// Messages by lane and last sequence, after a checksum.
pub(crate) const ROWS: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new("rows");
/// The sessions by the time at which they expire, in ms since 1970.
pub(crate) const EXPIRY: TableDefinition<'_, (u64, Id), ()> = TableDefinition::new("expiry");
/// Heads that could not be read.
pub(crate) const SET_ASIDE: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("set_aside");

/// A head with what the store itself has to know.
pub(crate) struct Head {
    pub(crate) revision: u64,
    /// How many messages there are, so that one that is missing is noticed.
    pub(crate) rows: u64,
    /// Milliseconds since 1970.
    pub(crate) expires: u64,
    pub(crate) keep: Duration,
    pub(crate) bytes: Bytes,
}

impl Head {
    pub(crate) fn encode(&self, id: Id) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.bytes.len());
        out.put_u64(self.revision);
        out.put_u64(self.rows);
        out.put_u64(self.expires);
        out.put_u64(u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX));
        out.put_slice(&self.bytes);
        checked((id, 0, 0), &out)
    }

    pub(crate) fn decode(id: Id, bytes: &[u8]) -> Option<Self> {
        let mut bytes = unchecked((id, 0, 0), bytes)?;
        Some(Self {
            revision: bytes.try_get_u64().ok()?,
            rows: bytes.try_get_u64().ok()?,
            expires: bytes.try_get_u64().ok()?,
            keep: Duration::from_millis(bytes.try_get_u64().ok()?),
            bytes: Bytes::copy_from_slice(bytes),
        })
    }
}

pub(crate) fn encode_row(key: RowKey, row: &Row) -> Vec<u8> {
    let mut out = Vec::with_capacity(21 + row.payload.len());
    out.put_u64(row.before.sequence);
    out.put_u64(row.before.charge);
    out.put_u8(row.compressed.into());
    out.put_slice(&row.payload);
    checked(key, &out)
}

pub(crate) fn decode_row(key: RowKey, bytes: &[u8]) -> Option<Row> {
    let mut bytes = unchecked(key, bytes)?;
    Some(Row {
        before: Taken {
            sequence: bytes.try_get_u64().ok()?,
            charge: bytes.try_get_u64().ok()?,
        },
        last: key.2,
        compressed: bytes.try_get_u8().ok()? == 1,
        payload: Bytes::copy_from_slice(bytes),
    })
}

/// Returns the bytes after a checksum, which covers their key too: a value under another key is
/// damaged.
fn checked(key: RowKey, bytes: &[u8]) -> Vec<u8> {
    let mut out = checksum(key, bytes).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Undoes [`checked`]. Returns `None` if the checksum is wrong.
fn unchecked(key: RowKey, bytes: &[u8]) -> Option<&[u8]> {
    let (sum, bytes) = bytes.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*sum) == checksum(key, bytes)).then_some(bytes)
}

fn checksum((id, lane, last): RowKey, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id);
    hasher.update(&[lane]);
    hasher.update(&last.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}
