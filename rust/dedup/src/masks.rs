//! Sixty-four ASCII bytes at a time: which are parts of words, which punctuation, which not ASCII.

/// Bytes in a block.
pub(crate) const BLOCK: usize = 64;

/// One bit a byte of a block, the first byte lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Masks {
    /// Letters and digits.
    pub(crate) word: u64,
    /// Printable and neither letter, digit nor space.
    pub(crate) symbol: u64,
    /// Underscores, which are among `symbol` too.
    pub(crate) underscore: u64,
    /// Not ASCII.
    pub(crate) high: u64,
}

/// The slow twin, and the way on other processors.
#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
pub(crate) fn scalar(block: &[u8; BLOCK]) -> Masks {
    let mut masks = Masks { word: 0, symbol: 0, underscore: 0, high: 0 };
    for (at, &byte) in block.iter().enumerate() {
        masks.word |= u64::from(byte.is_ascii_alphanumeric()) << at;
        masks.symbol |= u64::from(byte.is_ascii_punctuation()) << at;
        masks.underscore |= u64::from(byte == b'_') << at;
        masks.high |= u64::from(!byte.is_ascii()) << at;
    }
    masks
}

/// The masks of a block.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn masks(block: &[u8; BLOCK], _code: bool) -> Masks {
    scalar(block)
}

/// The masks of a block; `symbol` and `underscore` are left empty unless `code`. SSE2, which every
/// x86-64 processor has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn masks(block: &[u8; BLOCK], code: bool) -> Masks {
    use std::arch::x86_64::*;
    let mut masks = Masks { word: 0, symbol: 0, underscore: 0, high: 0 };
    for (part, bytes) in block.chunks_exact(16).enumerate() {
        // SAFETY: SSE2 is part of x86-64, and `bytes` holds the 16 bytes that are loaded.
        let [word, symbol, underscore, high] = unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            // v < n for unsigned v, by a signed comparison: v − 128 < n − 128.
            let below = |v: __m128i, n: u8| _mm_cmplt_epi8(v, _mm_set1_epi8((n ^ 0x80) as i8));
            let less =
                |v: __m128i, by: u8| _mm_add_epi8(v, _mm_set1_epi8(0x80_u8.wrapping_sub(by) as i8));
            let lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            let letter = below(less(lower, b'a'), 26);
            let digit = below(less(bytes, b'0'), 10);
            let word = _mm_or_si128(letter, digit);
            let bits = |v: __m128i| u64::from(_mm_movemask_epi8(v) as u16);
            if code {
                let printable = below(less(bytes, b'!'), 94);
                let underscore = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'_' as i8));
                let symbol = bits(_mm_andnot_si128(word, printable));
                [bits(word), symbol, bits(underscore), bits(bytes)]
            } else {
                [bits(word), 0, 0, bits(bytes)]
            }
        };
        masks.word |= word << (16 * part);
        masks.symbol |= symbol << (16 * part);
        masks.underscore |= underscore << (16 * part);
        masks.high |= high << (16 * part);
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_and_scalar_agree_on_every_byte() {
        for start in (0..256).step_by(8) {
            let block: [u8; BLOCK] = std::array::from_fn(|at| (start + at) as u8);
            let want = scalar(&block);
            assert_eq!(masks(&block, true), want);
            assert_eq!(masks(&block, false), Masks { symbol: 0, underscore: 0, ..want });
        }
    }
}
