//! Tokens as numbers: hashes of sixteen bytes at a time, and short tokens as they are.

/// Sixteen bytes of ones up to a length, zeros above.
const MASKS: [(u64, u64); 17] = {
    let mut masks = [(0, 0); 17];
    let mut length = 0;
    while length <= 16 {
        let low = if length >= 8 { !0 } else { (1u64 << (8 * length)) - 1 };
        let high = match length {
            0..=8 => 0,
            16 => !0,
            _ => (1u64 << (8 * (length - 8))) - 1,
        };
        masks[length] = (low, high);
        length += 1;
    }
    masks
};

/// Up to eight bytes from `from`, zeros after `to`.
#[inline(always)]
pub fn load(bytes: &[u8], from: usize, to: usize) -> u64 {
    let length = to - from;
    if let Some(chunk) = bytes.get(from..from + 8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        let word = u64::from_le_bytes(eight);
        return if length >= 8 { word } else { word & !(!0u64 << (8 * length)) };
    }
    bytes[from..to.min(from + 8)].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The first eight bytes of a token in lower case (ASCII) as a number: the form of short lists.
pub fn key(token: &[u8]) -> u64 {
    let word = load(token, 0, token.len());
    word | lower_bits(word)
}

/// 0x20 in each byte that is an ASCII capital.
fn lower_bits(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (ONES * 0x7f);
    // The top bit of a byte is set from 'A' on, or above 'Z'.
    let from_a = low + ONES * (0x80 - b'A' as u64);
    let above_z = low + ONES * (0x7f - b'Z' as u64);
    (from_a & !above_z & !word & (ONES * 0x80)) >> 2
}

/// A 64-bit hash of a token: folded multiplication (wyhash's way) of its sixteen bytes and length,
/// of all its bytes where it is longer.
#[inline(always)]
pub fn hash(bytes: &[u8], from: usize, to: usize) -> u64 {
    let length = to - from;
    if length <= 16 {
        let (low, high) = match bytes.get(from..from + 16) {
            Some(chunk) => {
                let mut sixteen = [0; 16];
                sixteen.copy_from_slice(chunk);
                let both = u128::from_le_bytes(sixteen);
                let (low, high) = MASKS[length];
                (both as u64 & low, (both >> 64) as u64 & high)
            }
            None => near_end(bytes, from, to),
        };
        return fold(low ^ A, high ^ B ^ spread(length));
    }
    long_hash(&bytes[from..to])
}

const A: u64 = 0xA076_1D64_78BD_642F;
const B: u64 = 0xE703_7ED1_A0B4_28DB;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// A length in all bits: in the lowest alone it would cancel against the text ("+--…" of 17 bytes
/// against "---…" of 23).
#[inline(always)]
fn spread(length: usize) -> u64 {
    (length as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cold]
#[inline(never)]
fn near_end(bytes: &[u8], from: usize, to: usize) -> (u64, u64) {
    let middle = to.min(from + 8);
    (load(bytes, from, middle), load(bytes, middle, to))
}

#[inline(never)]
fn long_hash(bytes: &[u8]) -> u64 {
    let to = bytes.len();
    let (mut state, mut at) = (spread(to) ^ A, 0);
    while to - at > 16 {
        state = fold(load(bytes, at, at + 8) ^ state, load(bytes, at + 8, at + 16) ^ B);
        at += 16;
    }
    // The last sixteen bytes, overlapping what was read before.
    fold(load(bytes, to - 16, to - 8) ^ state, load(bytes, to - 8, to) ^ B)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals() {
        let capitals: u64 =
            (0..=255u8).map(|b| u64::from(lower_bits(u64::from(b) << 24) != 0)).sum();
        assert_eq!(
            (capitals, lower_bits(u64::from_le_bytes(*b"aZ@[Az\x80A"))),
            (26, 0x2000_0020_0000_2000)
        );
    }
}
