//! The hash functions. They are part of what a signature means, so they never change: signatures
//! are the same on every machine and in every version, and indexes on disk stay usable.
//!
//! All constants come from one SplitMix64 stream (Steele, Lea, Flood 2014) started at the seed, in
//! this order: U₀, U₁, T₀, T₁, then a and b of each permutation (`minhash`). U₁ and T₁ are made odd.
//! `fold(x, y)` is the 128-bit product of x and y, its upper half xored onto its lower one.
//!
//! - Unit of bytes u, zero-padded to blocks of two little-endian 64-bit words (p, q):
//!   h ← U₀, then for each block h ← fold(p ⊕ h, q ⊕ U₁).
//! - Shingle of units u₁…uₙ: fold((u₁·Kⁿ⁻¹ + … + uₙ) ⊕ T₀, T₁), arithmetic modulo 2⁶⁴.

/// Multiplier of the polynomial over units: 2⁶⁴ divided by the golden ratio, as in SplitMix64.
pub(crate) const K: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64: the next number of the stream.
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[inline(always)]
pub(crate) const fn fold(x: u64, y: u64) -> u64 {
    let product = x as u128 * y as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Constants that a seed stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    unit: [u64; 2],
    shingle: [u64; 2],
}

impl Keys {
    /// Takes the first four numbers of the seed's stream.
    pub(crate) fn new(state: &mut u64) -> Self {
        let mut next = || split_mix(state);
        Self { unit: [next(), next() | 1], shingle: [next(), next() | 1] }
    }

    /// A unit of at most 16 bytes, given as its one zero-padded block.
    #[inline(always)]
    pub(crate) const fn block(&self, p: u64, q: u64) -> u64 {
        fold(p ^ self.unit[0], q ^ self.unit[1])
    }

    /// A unit of any length.
    pub(crate) fn bytes(&self, unit: &[u8]) -> u64 {
        let mut hash = self.unit[0];
        for chunk in unit.chunks(16) {
            let mut block = [0; 16];
            block[..chunk.len()].copy_from_slice(chunk);
            let block = u128::from_le_bytes(block);
            hash = fold(block as u64 ^ hash, (block >> 64) as u64 ^ self.unit[1]);
        }
        hash
    }

    /// A shingle from its polynomial. Never 0, which marks free places in tables.
    #[inline(always)]
    pub(crate) const fn shingle(&self, polynomial: u64) -> u64 {
        let hash = fold(polynomial ^ self.shingle[0], self.shingle[1]);
        if hash == 0 { 1 } else { hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplication_is_not_truncated() {
        // Values of the big-integer product, where 64-bit arithmetic would wrap.
        assert_eq!(fold(u64::MAX, u64::MAX), 1 ^ (u64::MAX - 1));
        assert_eq!(fold(1 << 63, 6), 3);
        assert_eq!(fold((1 << 61) - 2, (1 << 61) - 2), 4 ^ 0x03ff_ffff_ffff_ffff ^ (1 << 63));
    }

    #[test]
    fn a_block_is_the_whole_of_a_short_unit() {
        let keys = Keys::new(&mut 7);
        let (p, q) = (u64::from_le_bytes(*b"eightlet"), u64::from_le_bytes(*b"ters\0\0\0\0"));
        assert_eq!(keys.bytes(b"eightletters"), keys.block(p, q));
        assert_ne!(keys.bytes(b"sixteen lettersX"), keys.bytes(b"sixteen lettersXY"));
    }

    #[test]
    fn stream_of_the_published_generator() {
        // First numbers of SplitMix64 from 1234567 in its reference code.
        let mut state = 1_234_567;
        assert_eq!(split_mix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(&mut state), 3_203_168_211_198_807_973);
    }
}
