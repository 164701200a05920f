//! MessagePack: checks the structure of a value before it is decoded, so that decoding is bounded.

use serde::de::DeserializeOwned;

use crate::value::DecodeError;

/// Decodes one value, and nothing after it.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    check(bytes).ok_or(DecodeError::MalformedMessagePack)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    deserializer.set_max_depth(MOST_DEPTH + 1);
    Ok(T::deserialize(&mut deserializer)?)
}

/// Returns `Some` if `bytes` is exactly one value, nested at most 127 deep, that promises no more
/// than it holds and has no extensions. Takes time in proportion to the bytes, and no memory.
fn check(bytes: &[u8]) -> Option<()> {
    let mut rest = bytes;
    let mut open = [0_u64; MOST_DEPTH];
    let mut depth = 0;
    loop {
        match head(&mut rest)? {
            Head::Scalar(length) => rest = rest.get(usize::try_from(length).ok()?..)?,
            Head::Container(0) => {
                if depth == MOST_DEPTH {
                    return None;
                }
            }
            Head::Container(count) => {
                *open.get_mut(depth)? = count;
                depth += 1;
                continue;
            }
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return rest.is_empty().then_some(());
        }
    }
}

enum Head {
    /// A value with this many bytes of content.
    Scalar(u64),
    /// An array or a map with this many values, keys included.
    Container(u64),
}

fn head(rest: &mut &[u8]) -> Option<Head> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(match *first {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Head::Scalar(0),
        few @ 0x80..=0x8f => Head::Container(2 * u64::from(few & 0x0f)),
        few @ 0x90..=0x9f => Head::Container(u64::from(few & 0x0f)),
        short @ 0xa0..=0xbf => Head::Scalar(u64::from(short & 0x1f)),
        width @ 0xc4..=0xc6 => Head::Scalar(length(rest, 1 << (width - 0xc4))?),
        width @ 0xd9..=0xdb => Head::Scalar(length(rest, 1 << (width - 0xd9))?),
        0xca | 0xce | 0xd2 => Head::Scalar(4),
        0xcb | 0xcf | 0xd3 => Head::Scalar(8),
        0xcc | 0xd0 => Head::Scalar(1),
        0xcd | 0xd1 => Head::Scalar(2),
        width @ 0xdc..=0xdd => Head::Container(length(rest, 2 << (width - 0xdc))?),
        width @ 0xde..=0xdf => Head::Container(2 * length(rest, 2 << (width - 0xde))?),
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return None,
    })
}

/// Reads a length of `width` bytes.
fn length(rest: &mut &[u8], width: usize) -> Option<u64> {
    let (bytes, after) = rest.split_at_checked(width)?;
    *rest = after;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// How deep arrays and maps may nest.
const MOST_DEPTH: usize = 127;
