//! Deterministic random numbers from a seed.

/// SplitMix64, which has no bad seeds.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `most`, inclusive.
    pub(crate) fn upto(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.upto(most - least)
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.upto(99) < chance
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.upto(choices.len() as u64 - 1) as usize]
    }

    /// Returns an index, with a probability proportional to its weight.
    pub(crate) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.upto(weights.iter().sum::<u64>().max(1) - 1);
        weights
            .iter()
            .position(|weight| {
                let here = rest < *weight;
                rest = rest.saturating_sub(*weight);
                here
            })
            .unwrap_or(0)
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}
