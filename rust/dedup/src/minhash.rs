//! MinHash signatures.
//!
//! Slot i of a signature is the minimum over all shingles s of `aᵢ·x + bᵢ` modulo 2³², where x is
//! the upper half of s. With odd aᵢ each function is a permutation of the 32-bit numbers; the family
//! is defined modulo 2³² on purpose. Constants come from SplitMix64 (Steele, Lea, Flood 2014)
//! started at the seed, so they are the same on every machine and in every version.

use crate::Settings;
use crate::shingles::Shingler;

/// Functions worked on together: their constants and minima fill the vector registers.
const BLOCK: usize = 32;

/// The value of every slot of a text without shingles.
pub const EMPTY: u32 = u32::MAX;

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Makes signatures; keeps its buffers between texts.
#[derive(Debug, Clone)]
pub struct MinHasher {
    a: Vec<[u32; BLOCK]>,
    b: Vec<[u32; BLOCK]>,
    permutations: usize,
    shingler: Shingler,
    shingles: Vec<u64>,
    low: Vec<u32>,
}

impl MinHasher {
    /// For these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut state = settings.seed;
        let blocks = settings.permutations.div_ceil(BLOCK);
        let (mut a, mut b) = (vec![[0; BLOCK]; blocks], vec![[0; BLOCK]; blocks]);
        // In order of slots, so that a longer signature begins with the shorter one.
        for slot in 0..blocks * BLOCK {
            a[slot / BLOCK][slot % BLOCK] = (split_mix(&mut state) >> 32) as u32 | 1;
            b[slot / BLOCK][slot % BLOCK] = (split_mix(&mut state) >> 32) as u32;
        }
        Self {
            a,
            b,
            permutations: settings.permutations,
            shingler: Shingler::new(settings),
            shingles: Vec::new(),
            low: Vec::new(),
        }
    }

    /// Appends the signature of `text` to `signature`; returns whether it has any shingle, and a
    /// 128-bit hash of its shingles in order, equal for texts that differ in layout alone.
    pub fn sign(&mut self, text: &str, signature: &mut Vec<u32>) -> (bool, u128) {
        self.shingler.shingles(text, &mut self.shingles);
        self.low.clear();
        self.low.extend(self.shingles.iter().map(|&shingle| (shingle >> 32) as u32));
        let start = signature.len();
        for (a, b) in self.a.iter().zip(&self.b) {
            signature.extend_from_slice(&minima(&self.low, a, b));
        }
        signature.truncate(start + self.permutations);
        let mut identity = [0u64, self.shingles.len() as u64];
        for &shingle in &self.shingles {
            identity[0] = (identity[0] ^ shingle).wrapping_mul(0x0000_0100_0000_01b3);
            identity[1] = identity[1].rotate_left(5).wrapping_add(shingle);
        }
        (!self.low.is_empty(), u128::from(identity[0]) << 64 | u128::from(identity[1]))
    }
}

#[inline(always)]
fn minima_body(values: &[u32], a: &[u32; BLOCK], b: &[u32; BLOCK]) -> [u32; BLOCK] {
    let mut minima = [EMPTY; BLOCK];
    for &value in values {
        for slot in 0..BLOCK {
            minima[slot] = minima[slot].min(a[slot].wrapping_mul(value).wrapping_add(b[slot]));
        }
    }
    minima
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn minima_avx2(values: &[u32], a: &[u32; BLOCK], b: &[u32; BLOCK]) -> [u32; BLOCK] {
    minima_body(values, a, b)
}

fn minima(values: &[u32], a: &[u32; BLOCK], b: &[u32; BLOCK]) -> [u32; BLOCK] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as just checked.
        return unsafe { minima_avx2(values, a, b) };
    }
    minima_body(values, a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_and_scalar_agree() {
        let mut state = 3;
        let values: Vec<u32> = (0..999).map(|_| split_mix(&mut state) as u32).collect();
        let mut block = || std::array::from_fn(|_| split_mix(&mut state) as u32);
        let (a, b) = (block(), block());
        for length in [0, 1, 7, 999] {
            assert_eq!(minima(&values[..length], &a, &b), minima_body(&values[..length], &a, &b));
        }
    }

    #[test]
    fn golden_signature() {
        let settings = Settings { permutations: 4, bands: 2, rows: 2, ..Settings::default() };
        let mut signature = Vec::new();
        let text = "the quick brown fox jumps over the lazy dog 快速的棕色狐狸";
        MinHasher::new(&settings).sign(text, &mut signature);
        assert_eq!(signature, GOLDEN);
    }

    /// Never changes: indexes on disk hold such values.
    const GOLDEN: [u32; 4] = [624_832_757, 298_117_676, 6_929_011, 124_878_855];

    #[test]
    fn estimates_have_the_bias_and_spread_of_theory() {
        // J = 1/2 by construction: 300 shared of 600 units, each a shingle of its own.
        let settings = Settings { ngram: 1, permutations: 128, ..Settings::default() };
        let words = |range: std::ops::Range<u32>, salt: u32| {
            range.map(|i| format!("w{salt}x{i}")).collect::<Vec<_>>().join(" ")
        };
        let mut errors = Vec::new();
        for salt in 0..300 {
            let mut hasher =
                MinHasher::new(&Settings { seed: u64::from(salt), ..settings.clone() });
            let (mut one, mut two) = (Vec::new(), Vec::new());
            hasher.sign(&words(0..450, salt), &mut one);
            hasher.sign(&words(150..600, salt), &mut two);
            errors.push(crate::estimate(&one, &two) - 0.5);
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let spread = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
        // Standard error of one estimate: sqrt(0.25 / 128) = 0.0442.
        assert!(mean.abs() < 0.01, "bias {mean}");
        assert!((spread - 0.0442).abs() < 0.008, "spread {spread}");
    }
}
