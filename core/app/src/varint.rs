//! Unsigned integers below 2^53 in LEB128.

/// The largest number that the protocol has: every number is exact in JavaScript.
pub(crate) const MOST: u64 = (1 << 53) - 1;

/// Appends a number, which is at most [`MOST`].
pub(crate) fn write(mut number: u64, into: &mut Vec<u8>) {
    debug_assert!(number <= MOST, "the protocol has no number above 2^53 - 1");
    while number > 0x7f {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// Reads a number and returns it with its length in bytes. Returns `None` if it is cut, too large
/// or not the shortest encoding.
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let is_shortest = at == 0 || *byte != 0;
            return (is_shortest && number <= MOST).then_some((number, at + 1));
        }
    }
    None
}
