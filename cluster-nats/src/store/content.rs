//! What a commit writes: the head, and the messages that go and come.

use bytes::{Buf as _, BufMut as _, Bytes};
use stillhere::durable::Record;
use stillhere::machine::{Row, Taken};
use stillhere::{Lane, PerLane};

/// The changes of one commit. A whole record is a change that clears the messages before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    head: Bytes,
    clears_rows: bool,
    acknowledged: PerLane<u64>,
    rows: PerLane<Vec<Row>>,
}

/// Bytes of a commit without head and messages.
const FIXED: usize = 1 + 2 * 8 + 4 + 2 * 4;

/// Bytes of a message without its payload.
const ROW: usize = 3 * 8 + 1 + 4;

/// Returns the bytes that this head and these messages take.
pub(super) fn encoded_size<'a, I>(head: &Bytes, rows: &PerLane<I>) -> usize
where
    I: Iterator<Item = &'a Row> + Clone,
{
    let rows = rows.interactive.clone().chain(rows.bulk.clone());
    FIXED + head.len() + rows.map(|row| ROW + row.payload.len()).sum::<usize>()
}

/// Encodes changes. `rows` are the messages of each lane, in order.
pub(super) fn encode<'a, I>(
    head: &Bytes,
    clears_rows: bool,
    acknowledged: PerLane<u64>,
    rows: PerLane<I>,
    size: usize,
) -> Bytes
where
    I: Iterator<Item = &'a Row> + Clone,
{
    let mut out = Vec::with_capacity(size);
    out.put_u8(clears_rows.into());
    out.put_u64(acknowledged.interactive);
    out.put_u64(acknowledged.bulk);
    put_bytes(&mut out, head);
    for rows in [rows.interactive, rows.bulk] {
        out.put_u32(length(rows.clone().count()));
        for row in rows {
            out.put_u64(row.last);
            out.put_u64(row.before.sequence);
            out.put_u64(row.before.charge);
            out.put_u8(row.compressed.into());
            put_bytes(&mut out, &row.payload);
        }
    }
    out.into()
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(length(bytes.len()));
    out.put_slice(bytes);
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("what a session keeps is far below 4 GiB")
}

impl Content {
    /// Undoes [`encode`]. Returns `None` if the bytes are damaged.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let clears_rows = bytes.try_get_u8().ok()? == 1;
        let acknowledged = PerLane::new(bytes.try_get_u64().ok()?, bytes.try_get_u64().ok()?);
        let head = take_bytes(&mut bytes)?;
        let mut rows = PerLane::<Vec<Row>>::default();
        for lane in Lane::ALL {
            for _ in 0..bytes.try_get_u32().ok()? {
                rows[lane].push(Row {
                    last: bytes.try_get_u64().ok()?,
                    before: Taken {
                        sequence: bytes.try_get_u64().ok()?,
                        charge: bytes.try_get_u64().ok()?,
                    },
                    compressed: bytes.try_get_u8().ok()? == 1,
                    payload: take_bytes(&mut bytes)?,
                });
            }
        }
        bytes.is_empty().then_some(Self {
            head,
            clears_rows,
            acknowledged,
            rows,
        })
    }

    /// Applies the changes to a record, which then has this revision.
    pub(super) fn apply_to(self, record: &mut Record, revision: u64) {
        record.revision = revision;
        record.head = self.head;
        change_rows(&mut record.rows, self.clears_rows, self.acknowledged, self.rows);
    }
}

/// Drops the messages that were acknowledged, and adds others.
pub(super) fn change_rows(
    rows: &mut PerLane<Vec<Row>>,
    clears: bool,
    acknowledged: PerLane<u64>,
    added: PerLane<Vec<Row>>,
) {
    for (lane, added) in Lane::ALL.into_iter().zip([added.interactive, added.bulk]) {
        rows[lane].retain(|row| !clears && row.last > acknowledged[lane]);
        rows[lane].extend(added);
    }
}

fn take_bytes(bytes: &mut &[u8]) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Bytes::copy_from_slice(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sequence: u64, payload: &'static str) -> Row {
        Row {
            before: Taken {
                sequence: sequence - 1,
                charge: 100 * sequence,
            },
            last: sequence,
            compressed: sequence.is_multiple_of(2),
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    fn encoded() -> (Content, Bytes) {
        let content = Content {
            head: Bytes::from_static(b"head"),
            clears_rows: false,
            acknowledged: PerLane::new(1, 2),
            rows: PerLane::new(vec![row(2, "two"), row(3, "")], vec![row(9, "bulk")]),
        };
        let rows = PerLane::new(content.rows.interactive.iter(), content.rows.bulk.iter());
        let size = encoded_size(&content.head, &rows);
        let bytes = encode(&content.head, false, content.acknowledged, rows, size);
        assert_eq!(bytes.len(), size, "sizes are what they are said to be");
        (content, bytes)
    }

    #[test]
    fn content_is_read_as_it_was_written() {
        let (content, bytes) = encoded();
        assert_eq!(Content::decode(&bytes), Some(content));
    }

    #[test]
    fn content_that_is_cut_short_or_too_long_is_damaged() {
        let (_, bytes) = encoded();
        for length in 0..bytes.len() {
            assert_eq!(Content::decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(Content::decode(&[&bytes[..], b"x"].concat()), None);
    }
}
