//! Exponential back-off with full jitter.

use std::time::Duration;

#[derive(Debug)]
pub(super) struct Backoff {
    /// Number of waits since the last success. At 0 the next attempt is made at once.
    pub(super) waits: u32,
    random: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            waits: 0,
            // Multiplying spreads neighbouring seeds, which would give neighbouring waits.
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// Returns the time to wait before the next attempt.
    pub(super) fn next(&mut self, cap: Duration) -> Duration {
        let waits = self.waits;
        self.waits += 1;
        if waits == 0 {
            return Duration::ZERO;
        }
        let exponential = BASE.mul_f64(GROWTH.powi((waits - 1).min(64) as i32));
        exponential.min(cap).mul_f64(self.next_random())
    }

    /// Returns a number evenly distributed in [0, 1), by xorshift64.
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

const BASE: Duration = Duration::from_millis(500);
const GROWTH: f64 = 1.2;
