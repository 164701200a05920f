//! Random numbers that a failing run can repeat.

use std::ops::Range;

/// The generator xorshift64*, with a seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates a generator from the environment variable `STILLHERE_SEED` if it is set, and from
    /// `seed` otherwise. Prints the seed, so that a failure can be repeated.
    pub fn announced(seed: u64) -> Self {
        let from_environment = std::env::var("STILLHERE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = from_environment.unwrap_or(seed);
        println!("STILLHERE_SEED={seed}");
        Self::new(seed)
    }

    /// Creates a generator from this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a random number of 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number in the range, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + (self.number() >> 11) % (range.end - range.start)
    }

    /// Returns true once in `n` times, on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.within(0..n) == 0
    }
}
