//! The words of an upload or download, and their checksum.

/// An incremental checksum: FNV-1a (32 bits) over words instead of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checksum(pub(crate) u32);

impl Default for Checksum {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Checksum {
    /// Adds these little-endian words. Trailing bytes that do not fill a word are ignored.
    pub(crate) fn update(&mut self, words: &[u8]) {
        for word in words.chunks_exact(4) {
            let word = u32::from_le_bytes(word.try_into().expect("each chunk has 4 bytes"));
            self.0 = (self.0 ^ word).wrapping_mul(0x0100_0193);
        }
    }
}

/// Pseudo-random words (Marsaglia's xorshift32), so that a lost or moved word changes the checksum.
#[derive(Clone, Debug)]
pub(crate) struct Noise(u32);

impl Noise {
    pub(crate) fn new(seed: u32) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn extend(&mut self, words: &mut Vec<u8>, count: usize) {
        words.extend((0..count).flat_map(|_| self.next_word().to_le_bytes()));
    }

    fn next_word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_does_not_depend_on_how_its_words_are_cut() {
        let mut words = Vec::new();
        Noise::new(7).extend(&mut words, 100);
        let (mut whole, mut cut) = (Checksum::default(), Checksum::default());

        whole.update(&words);
        cut.update(&words[..40]);
        cut.update(&words[40..]);

        assert_eq!(whole, cut);
        assert_ne!(whole, Checksum::default());
    }
}
