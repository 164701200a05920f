//! Counts what became of a stream of consecutive numbers. The page counts in the same way: see
//! page/counts.js.

use std::collections::BTreeSet;

/// How many skipped numbers are remembered, to distinguish late numbers from duplicates.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) missing: u64,
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
    newest: u64,
    skipped: BTreeSet<u64>,
}

impl Counts {
    /// Returns the number that should come next. The first is 1.
    pub(crate) fn next(&self) -> u64 {
        self.newest.saturating_add(1)
    }

    pub(crate) fn count(&mut self, number: u64) {
        self.received += 1;
        if number > self.newest {
            let room = REMEMBERED - self.skipped.len();
            self.missing = self.missing.saturating_add(number - self.next());
            self.skipped.extend((self.next()..number).take(room));
            self.newest = number;
        } else if self.skipped.remove(&number) {
            self.missing -= 1;
            self.out_of_order += 1;
        } else {
            self.doubled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(numbers: &[u64]) -> [u64; 4] {
        let mut counts = Counts::default();
        numbers.iter().for_each(|&number| counts.count(number));
        [counts.received, counts.missing, counts.doubled, counts.out_of_order]
    }

    #[test]
    fn consecutive_numbers_are_all_right() {
        assert_eq!(counted(&[1, 2, 3, 4]), [4, 0, 0, 0]);
    }

    #[test]
    fn a_skipped_number_is_missing_until_it_comes() {
        assert_eq!(counted(&[1, 4]), [2, 2, 0, 0]);
        assert_eq!(counted(&[1, 4, 2]), [3, 1, 0, 1]);
        assert_eq!(counted(&[1, 4, 2, 3, 5]), [5, 0, 0, 2]);
    }

    #[test]
    fn a_number_that_comes_twice_is_doubled() {
        assert_eq!(counted(&[1, 2, 2, 1, 3]), [5, 0, 2, 0]);
        assert_eq!(counted(&[2, 1, 1]), [3, 0, 1, 1]);
    }

    #[test]
    fn the_largest_jump_costs_bounded_memory() {
        assert_eq!(counted(&[u64::MAX, u64::MAX, 0]), [3, u64::MAX - 1, 2, 0]);
    }
}
