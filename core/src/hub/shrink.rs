//! When a collection returns memory that it no longer needs.

/// Returns the capacity that a collection should shrink to, or `None` if it should not shrink.
/// `kept` is the capacity that it keeps even when it is empty.
pub(super) fn shrink_to(len: usize, capacity: usize, kept: usize) -> Option<usize> {
    (len < capacity / SPARSE && capacity > kept).then_some(2 * len)
}

/// A collection shrinks once fewer than one in this many of its slots are in use.
const SPARSE: usize = 4;
