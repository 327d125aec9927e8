//! Sixty-four bytes to bitmaps of what they are, sixteen or thirty-two bytes an instruction.

/// Bit `i` speaks of byte `i` of the chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ascii {
    /// Bytes above 0x7f.
    pub high: u64,
    /// Continuation bytes of UTF-8.
    pub continuation: u64,
    /// Blanks, as `classes::SPACE`.
    pub space: u64,
    /// Line feeds.
    pub newline: u64,
    /// Letters.
    pub letter: u64,
    /// Upper-case letters.
    pub upper: u64,
    /// Digits.
    pub digit: u64,
    /// Controls but tab, line feed and carriage return.
    pub control: u64,
    /// `.`, `!`, `?`
    pub terminal: u64,
    /// `.`
    pub dot: u64,
    /// `#`
    pub hash: u64,
    /// `{`
    pub brace: u64,
    /// `<` and `&`, which open tags and entities.
    pub markup: u64,
    /// First bytes of Han ideographs (U+4E00–U+9FFF), but for one whose second byte lies beyond the
    /// chunk and is needed to tell.
    pub han: u64,
}

/// Body of a classifier over vectors of `$width` bytes.
#[cfg(target_arch = "x86_64")]
macro_rules! classify_with {
    ($chunk:ident, $vector:ty, $width:literal, $load:ident, $set:ident, $add:ident, $less:expr,
     $equal:ident, $or:ident, $andnot:ident, $movemask:expr) => {{
        let mut out = Ascii::default();
        let (mut later_han, mut e4, mut from_b8) = (0u64, 0u64, 0u64);
        for part in 0..64 / $width {
            // SAFETY: the load reads `$width` bytes inside the 64 of `$chunk`; the caller has the
            // instructions.
            unsafe {
                let bytes = $load($chunk.as_ptr().add(part * $width).cast::<$vector>());
                let set = |value: u8| $set(value.cast_signed());
                let less = $less;
                let movemask = $movemask;
                // lo <= b <= hi for unsigned bytes: shifted so that the range starts at -128.
                let within = |v: $vector, lo: u8, hi: u8| {
                    less($add(v, set(0x80u8.wrapping_sub(lo))), set((hi - lo + 1) ^ 0x80))
                };
                let mask = |v: $vector| movemask(v) << ($width * part);
                let equal = |value: u8| $equal(bytes, set(value));
                let layout = within(bytes, 0x09, 0x0d);
                let separators = within(bytes, 0x1c, 0x1f);
                let space = $or($or(layout, equal(b' ')), separators);
                let newline = equal(b'\n');
                let plain = $or($or(newline, equal(b'\t')), equal(b'\r'));
                let control = $or(within(bytes, 0x00, 0x1f), equal(0x7f));
                let dot = equal(b'.');
                let high = mask(bytes);
                if high != 0 {
                    out.high |= high;
                    // 0x80..=0xbf are the most negative signed bytes.
                    out.continuation |= mask(less(bytes, set(0xc0)));
                    later_han |= mask(within(bytes, 0xe5, 0xe9));
                    e4 |= mask(equal(0xe4));
                    from_b8 |= mask(within(bytes, 0xb8, 0xbf));
                }
                out.space |= mask(space);
                out.newline |= mask(newline);
                out.control |= mask($andnot(plain, control));
                out.letter |= mask(within($or(bytes, set(0x20)), b'a', b'z'));
                out.upper |= mask(within(bytes, b'A', b'Z'));
                out.digit |= mask(within(bytes, b'0', b'9'));
                out.dot |= mask(dot);
                out.terminal |= mask($or(dot, $or(equal(b'!'), equal(b'?'))));
                out.hash |= mask(equal(b'#'));
                out.brace |= mask(equal(b'{'));
                out.markup |= mask($or(equal(b'<'), equal(b'&')));
            }
        }
        out.han = later_han | e4 & (from_b8 >> 1);
        out
    }};
}

/// With AVX2.
///
/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
pub fn classify_avx2(chunk: &[u8; 64]) -> Ascii {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi8, _mm256_andnot_si256, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8,
        _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    };
    classify_with!(
        chunk,
        __m256i,
        32,
        _mm256_loadu_si256,
        _mm256_set1_epi8,
        _mm256_add_epi8,
        |a: __m256i, b: __m256i| _mm256_cmpgt_epi8(b, a),
        _mm256_cmpeq_epi8,
        _mm256_or_si256,
        _mm256_andnot_si256,
        |v: __m256i| u64::from(_mm256_movemask_epi8(v).cast_unsigned())
    )
}

/// With what every x86-64 has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn classify(chunk: &[u8; 64]) -> Ascii {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128,
        _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    classify_with!(
        chunk,
        __m128i,
        16,
        _mm_loadu_si128,
        _mm_set1_epi8,
        _mm_add_epi8,
        |a: __m128i, b: __m128i| _mm_cmplt_epi8(a, b),
        _mm_cmpeq_epi8,
        _mm_or_si128,
        _mm_andnot_si128,
        |v: __m128i| u64::from(_mm_movemask_epi8(v).cast_unsigned() as u16)
    )
}

/// On other processors.
#[cfg(not(target_arch = "x86_64"))]
pub fn classify(chunk: &[u8; 64]) -> Ascii {
    classify_scalar(chunk)
}

/// A byte at a time: for other processors, and to test the others.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn classify_scalar(chunk: &[u8; 64]) -> Ascii {
    let mut out = Ascii::default();
    for (at, &byte) in chunk.iter().enumerate() {
        let bit = 1u64 << at;
        let mut set = |field: fn(&mut Ascii) -> &mut u64, on: bool| {
            if on {
                *field(&mut out) |= bit;
            }
        };
        set(|a| &mut a.high, byte >= 0x80);
        set(|a| &mut a.continuation, (0x80..0xc0).contains(&byte));
        set(|a| &mut a.space, matches!(byte, 0x09..=0x0d | 0x1c..=0x20));
        set(|a| &mut a.newline, byte == b'\n');
        set(|a| &mut a.letter, byte.is_ascii_alphabetic());
        set(|a| &mut a.upper, byte.is_ascii_uppercase());
        set(|a| &mut a.digit, byte.is_ascii_digit());
        set(|a| &mut a.control, byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r'));
        set(|a| &mut a.terminal, matches!(byte, b'.' | b'!' | b'?'));
        set(|a| &mut a.dot, byte == b'.');
        set(|a| &mut a.hash, byte == b'#');
        set(|a| &mut a.brace, byte == b'{');
        set(|a| &mut a.markup, matches!(byte, b'<' | b'&'));
        let second = chunk.get(at + 1).copied().unwrap_or(0);
        let later = (0xe5..=0xe9).contains(&byte);
        set(|a| &mut a.han, later || byte == 0xe4 && (0xb8..=0xbf).contains(&second));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> impl Iterator<Item = [u8; 64]> {
        (0..512u32).map(|seed| {
            let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(seed / 256);
            std::array::from_fn(|at| {
                if seed < 256 {
                    return (seed as usize + at) as u8;
                }
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
        })
    }

    #[test]
    fn vector_code_equals_scalar() {
        for chunk in chunks() {
            assert_eq!(classify(&chunk), classify_scalar(&chunk));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx2_equals_scalar() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        for chunk in chunks() {
            // SAFETY: the processor was asked.
            assert_eq!(unsafe { classify_avx2(&chunk) }, classify_scalar(&chunk));
        }
    }
}
