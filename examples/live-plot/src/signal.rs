//! What is plotted: a wave that moves, with harmonics and noise.

use std::f32::consts::TAU;

const POINTS: usize = 10_000;
const HARMONICS: usize = 9;
/// Periods by which the wave moves in each frame.
const STEP: f32 = 0.01;

#[derive(Debug)]
pub(crate) struct Signal {
    phase: f32,
    /// State of the generator of noise.
    seed: u32,
}

impl Default for Signal {
    fn default() -> Self {
        Self { phase: 0.0, seed: 1 }
    }
}

impl Signal {
    /// Returns the next frame, with `frequency` periods. What the page sends may be any number.
    pub(crate) fn next(&mut self, frequency: f32, sharpness: f32, noise: f32) -> Vec<f32> {
        self.phase = (self.phase + STEP) % 1.0;
        let weights = weights(sharpness);
        let mut frame = Vec::with_capacity(POINTS);
        for at in 0..POINTS {
            let angle = TAU * (frequency * at as f32 / POINTS as f32 - self.phase);
            frame.push(wave(angle, &weights) + noise * self.noise());
        }
        frame
    }

    /// Returns a number from -1 to 1, by xorshift (Marsaglia, 2003).
    fn noise(&mut self) -> f32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        self.seed as f32 / (u32::MAX / 2) as f32 - 1.0
    }
}

/// Returns how loud each harmonic is: alone the first, for a sine wave, or all, for a saw tooth.
fn weights(sharpness: f32) -> [f32; HARMONICS] {
    std::array::from_fn(|at| sharpness.powi(at as i32) / (at + 1) as f32)
}

fn wave(angle: f32, weights: &[f32; HARMONICS]) -> f32 {
    let harmonics = weights.iter().zip(1u8..);
    harmonics
        .map(|(weight, harmonic)| weight * (angle * f32::from(harmonic)).sin())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_move_and_stay_in_range() {
        let mut signal = Signal::default();
        let frames = [signal.next(3.0, 1.0, 0.1), signal.next(3.0, 1.0, 0.1)];
        assert_ne!(frames[0], frames[1]);
        for frame in frames {
            assert_eq!(frame.len(), POINTS);
            assert!(frame.iter().all(|point| point.abs() < 2.2));
        }
    }
}
