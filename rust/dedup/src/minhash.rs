//! MinHash signatures.
//!
//! Slot i of a signature is the minimum over all shingles of `aᵢ·x + bᵢ` modulo 2³², where x is the
//! upper half of the shingle's 64 bits. With odd aᵢ each function is a permutation of the 32-bit
//! numbers: the family is defined modulo 2³² on purpose, nothing wraps by accident. a and b follow
//! the constants of `hash` in the seed's stream, slot by slot, each the upper half of one number,
//! so that a longer signature begins with the shorter one.

use crate::hash::{Keys, split_mix};
use crate::shingles::{Shingler, Sink};
use crate::{Settings, bands};

/// Functions worked on together: their constants and minima fill the vector registers.
const BLOCK: usize = 32;

/// The value of every slot of a text without shingles.
pub const EMPTY: u32 = u32::MAX;

/// Functions of one block and their minima so far.
#[derive(Debug, Clone)]
struct Functions {
    a: [u32; BLOCK],
    b: [u32; BLOCK],
    minima: [u32; BLOCK],
}

/// What is known of a text once it is signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Number of shingles, with repetitions; texts with none match nothing.
    pub shingles: u64,
    /// 128-bit hash of the multiset of shingles: texts with equal ones have similarity 1.
    pub sums: [u64; 2],
}

/// Makes signatures; keeps its buffers between texts.
#[derive(Debug, Clone)]
pub struct MinHasher {
    shingler: Shingler,
    signer: Signer,
    /// Minima of the text signed last, one after another.
    slots: Vec<u32>,
    permutations: usize,
    bands: usize,
    rows: usize,
}

#[derive(Debug, Clone)]
struct Signer {
    functions: Vec<Functions>,
    upper: Vec<u32>,
    identity: Identity,
}

impl MinHasher {
    /// For these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self::with_slots(settings, settings.permutations)
    }

    /// As `new`, for the slots that bands use alone.
    #[must_use]
    pub fn for_bands(settings: &Settings) -> Self {
        Self::with_slots(settings, settings.bands * settings.rows)
    }

    fn with_slots(settings: &Settings, permutations: usize) -> Self {
        let mut state = settings.seed;
        Keys::new(&mut state);
        let mut upper = || (split_mix(&mut state) >> 32) as u32;
        let functions = (0..permutations.div_ceil(BLOCK))
            .map(|_| {
                let pairs: [(u32, u32); BLOCK] = std::array::from_fn(|_| (upper() | 1, upper()));
                Functions { a: pairs.map(|p| p.0), b: pairs.map(|p| p.1), minima: [EMPTY; BLOCK] }
            })
            .collect();
        Self {
            shingler: Shingler::new(settings),
            signer: Signer { functions, upper: Vec::new(), identity: Identity::default() },
            slots: vec![EMPTY; permutations.next_multiple_of(BLOCK)],
            permutations,
            bands: settings.bands,
            rows: settings.rows,
        }
    }

    /// Signs a text; `write_signature` and `write_keys` then tell of it.
    pub fn sign(&mut self, text: &str, code: bool) -> Identity {
        self.signer.restart();
        self.shingler.feed(text, code, &mut self.signer);
        self.slots.clear();
        self.slots.extend(self.signer.functions.iter().flat_map(|functions| &functions.minima));
        self.signer.identity
    }

    /// Slots of the text signed last, `EMPTY` where it had no shingles; as many as `slots` holds.
    pub fn write_signature(&self, slots: &mut [u32]) {
        let count = slots.len().min(self.permutations);
        slots[..count].copy_from_slice(&self.slots[..count]);
    }

    /// Keys of the bands of the text signed last; as many as `keys` holds.
    pub fn write_keys(&self, keys: &mut [u64]) {
        let bands = self.slots.chunks_exact(self.rows).take(self.bands).enumerate();
        for (key, (band, slots)) in keys.iter_mut().zip(bands) {
            *key = bands::key(band, slots.iter().copied());
        }
    }
}

impl Sink for Signer {
    fn batch(&mut self, shingles: &[u64]) {
        self.upper.clear();
        self.upper.extend(shingles.iter().map(|&shingle| (shingle >> 32) as u32));
        lower_minima(&self.upper, &mut self.functions);
        let sums = sums(shingles);
        for (sum, more) in self.identity.sums.iter_mut().zip(sums) {
            *sum = sum.wrapping_add(more);
        }
        self.identity.shingles += shingles.len() as u64;
    }

    fn restart(&mut self) {
        self.identity = Identity::default();
        for functions in &mut self.functions {
            functions.minima = [EMPTY; BLOCK];
        }
    }
}

/// Sums over shingles of what makes an `Identity`.
#[inline(always)]
fn sums_body(shingles: &[u64]) -> [u64; 2] {
    shingles.iter().fold([0u64; 2], |[one, two], &shingle| {
        let mixed = shingle.wrapping_mul(shingle.rotate_left(32) | 1);
        [one.wrapping_add(shingle), two.wrapping_add(mixed)]
    })
}

#[inline(always)]
fn lower_minima_body(values: &[u32], functions: &mut [Functions]) {
    for Functions { a, b, minima } in functions {
        let mut lowest = *minima;
        for &value in values {
            for slot in 0..BLOCK {
                lowest[slot] = lowest[slot].min(a[slot].wrapping_mul(value).wrapping_add(b[slot]));
            }
        }
        *minima = lowest;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn lower_minima_avx2(values: &[u32], functions: &mut [Functions]) {
    lower_minima_body(values, functions);
}

/// Multiplies eight 64-bit numbers at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn sums_avx512(shingles: &[u64]) -> [u64; 2] {
    sums_body(shingles)
}

/// Four blocks at a time: 128 slots with their constants are 24 of the 32 registers. In so many words,
/// for compilers use half of their width unless they are told.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn lower_minima_avx512(values: &[u32], functions: &mut [Functions]) {
    let (fours, rest) = functions.as_chunks_mut::<4>();
    fours.iter_mut().for_each(|four| lower_blocks_avx512(values, four));
    rest.iter_mut().for_each(|one| lower_blocks_avx512(values, std::array::from_mut(one)));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn lower_blocks_avx512<const N: usize>(values: &[u32], functions: &mut [Functions; N]) {
    use std::arch::x86_64::*;
    const LANES: usize = 16;
    let load = |numbers: &[u32; BLOCK]| {
        [0, LANES].map(|at| {
            // SAFETY: there are 16 numbers from there on.
            unsafe { _mm512_loadu_si512(numbers[at..][..LANES].as_ptr().cast()) }
        })
    };
    let a: [_; N] = std::array::from_fn(|block| load(&functions[block].a));
    let b: [_; N] = std::array::from_fn(|block| load(&functions[block].b));
    let mut lowest: [_; N] = std::array::from_fn(|block| load(&functions[block].minima));
    for &value in values {
        let value = _mm512_set1_epi32(value as i32);
        for block in 0..N {
            for half in 0..2 {
                let product = _mm512_mullo_epi32(a[block][half], value);
                let image = _mm512_add_epi32(product, b[block][half]);
                lowest[block][half] = _mm512_min_epu32(lowest[block][half], image);
            }
        }
    }
    for (functions, lowest) in functions.iter_mut().zip(lowest) {
        for (slots, lowest) in functions.minima.as_chunks_mut::<LANES>().0.iter_mut().zip(lowest) {
            // SAFETY: there are 16 numbers at each place.
            unsafe { _mm512_storeu_si512(slots.as_mut_ptr().cast(), lowest) };
        }
    }
}

fn sums(shingles: &[u64]) -> [u64; 2] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
        // SAFETY: the processor has them, and AVX-512F with them, as just checked.
        return unsafe { sums_avx512(shingles) };
    }
    sums_body(shingles)
}

fn lower_minima(values: &[u32], functions: &mut [Functions]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F, as just checked.
        return unsafe { lower_minima_avx512(values, functions) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as just checked.
        return unsafe { lower_minima_avx2(values, functions) };
    }
    lower_minima_body(values, functions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(text: &str, settings: &Settings) -> Vec<u32> {
        let mut hasher = MinHasher::new(settings);
        let mut slots = vec![0; settings.permutations];
        hasher.sign(text, false);
        hasher.write_signature(&mut slots);
        slots
    }

    #[test]
    fn vector_and_scalar_agree() {
        let mut state = 3;
        let values: Vec<u32> = (0..999).map(|_| split_mix(&mut state) as u32).collect();
        for permutations in [20, 128, 6 * BLOCK] {
            let settings = Settings { permutations, ..Settings::default() };
            let functions = MinHasher::new(&settings).signer.functions;
            for length in [0, 1, 7, 999] {
                let values = &values[..length];
                let lowered = |lower: fn(&[u32], &mut [Functions])| {
                    let mut functions = functions.clone();
                    lower(values, &mut functions);
                    functions.into_iter().flat_map(|block| block.minima).collect::<Vec<_>>()
                };
                let wanted = lowered(lower_minima_body);
                assert_eq!(lowered(lower_minima), wanted);
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, as just checked.
                    assert_eq!(lowered(|v, f| unsafe { lower_minima_avx2(v, f) }), wanted);
                }
                let shingles: Vec<u64> = values.iter().map(|&v| u64::from(v) << 31 | 5).collect();
                assert_eq!(sums(&shingles), sums_body(&shingles));
            }
        }
    }

    /// Never changes: indexes on disk hold such values.
    #[test]
    fn golden_signature() {
        let settings = Settings { permutations: 4, bands: 2, rows: 2, ..Settings::default() };
        let text = "the quick brown fox jumps over the lazy dog 快速的棕色狐狸";
        assert_eq!(signature(text, &settings), GOLDEN);
        assert_eq!(signature(text, &Settings::default())[..4], GOLDEN);
        assert_eq!(signature("", &settings), [EMPTY; 4]);
    }

    const GOLDEN: [u32; 4] = [49_372_785, 111_820_360, 35_192_716, 37_378_118];

    #[test]
    fn slots_are_minima_of_the_family() {
        let settings = Settings { seed: 9, permutations: 70, ..Settings::default() };
        let text = "one two three four five six seven eight nine";
        let mut state = 9;
        Keys::new(&mut state);
        let shingles = Shingler::new(&settings).shingles(text, false);
        for slot in signature(text, &settings) {
            let a = split_mix(&mut state) >> 32 | 1;
            let b = split_mix(&mut state) >> 32;
            // In integers wide enough that nothing wraps.
            let value = |s: &u64| (u128::from(a) * u128::from(s >> 32) + u128::from(b)) % (1 << 32);
            assert_eq!(u128::from(slot), shingles.iter().map(value).min().unwrap());
        }
    }

    #[test]
    fn identity_is_of_the_multiset() {
        let mut hasher = MinHasher::new(&Settings { ngram: 1, ..Settings::default() });
        let mut identity = |text| hasher.sign(text, false);
        assert_eq!(identity("a b c c"), identity("c, b - C a"));
        assert_ne!(identity("a b c c"), identity("a b c"));
        assert_eq!(identity("...").shingles, 0);
    }

    #[test]
    fn estimates_have_the_bias_and_spread_of_theory() {
        // J = 1/2 by construction: 300 shared of 600 units, each a shingle of its own.
        let settings = Settings { ngram: 1, permutations: 128, ..Settings::default() };
        let words = |range: std::ops::Range<u32>, salt: u32| {
            range.map(|i| format!("w{salt}x{i}")).collect::<Vec<_>>().join(" ")
        };
        let mut errors = Vec::new();
        for salt in 0..1000 {
            let settings = Settings { seed: u64::from(salt), ..settings.clone() };
            let one = signature(&words(0..450, salt), &settings);
            let two = signature(&words(150..600, salt), &settings);
            errors.push(crate::estimate(&one, &two) - 0.5);
        }
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let spread = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
        // One estimate has the standard error sqrt(0.25 / 128) = 0.0442, their mean 0.0014.
        assert!(mean.abs() < 0.005, "bias {mean}");
        assert!((spread - 0.0442).abs() < 0.004, "spread {spread}");
    }
}
