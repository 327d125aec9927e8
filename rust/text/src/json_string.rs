//! Strings of JSON, 16 to 64 bytes at a time.

use crate::Unusual;

/// A string that was read.
pub(crate) struct Text {
    /// Where the line goes on behind it.
    pub(crate) end: usize,
    /// An escape stands for NUL or a byte-order mark.
    pub(crate) is_odd: bool,
}

/// Appends the string that begins at `at`, behind its quote.
pub(crate) fn string(line: &[u8], at: usize, out: &mut Vec<u8>) -> Result<Text, Unusual> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has it, as just checked.
            return unsafe { string_avx512(line, at, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { string_avx2(line, at, out) };
        }
    }
    string_body(line, at, out, special)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn string_avx512(line: &[u8], at: usize, out: &mut Vec<u8>) -> Result<Text, Unusual> {
    string_body(line, at, out, |block| special_avx512(block))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn string_avx2(line: &[u8], at: usize, out: &mut Vec<u8>) -> Result<Text, Unusual> {
    string_body(line, at, out, |block| special_avx2(block))
}

/// `special` has one bit for each byte that is not plain, the first byte lowest.
#[inline(always)]
fn string_body<const N: usize>(
    line: &[u8],
    mut at: usize,
    out: &mut Vec<u8>,
    special: impl Fn(&[u8; N]) -> u64,
) -> Result<Text, Unusual> {
    let mut is_odd = false;
    loop {
        at += append_plain(&line[at..], out, &special) + 1;
        match line.get(at - 1) {
            Some(b'"') => return Ok(Text { end: at, is_odd }),
            Some(b'\\') => {}
            _ => return Err(Unusual),
        }
        let simple = match line.get(at) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'u') => {
                let c;
                (c, at) = escaped(line, at + 1)?;
                is_odd |= matches!(c, '\0' | '\u{feff}');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(Unusual),
        };
        out.push(simple);
        at += 1;
    }
}

/// The character of `\uXXXX` or of two halves of it, from the first digit on, and what follows it.
fn escaped(line: &[u8], at: usize) -> Result<(char, usize), Unusual> {
    let unit = |at: usize| {
        let digits = line.get(at..at + 4).ok_or(Unusual)?;
        let digit = |&byte: &u8| char::from(byte).to_digit(16).ok_or(Unusual);
        digits.iter().try_fold(0, |unit, byte| Ok(unit << 4 | digit(byte)?))
    };
    let first = unit(at)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, at + 4));
    }
    if line.get(at + 4..at + 6) != Some(b"\\u") {
        return Err(Unusual);
    }
    let second = unit(at + 6)?;
    if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
        return Err(Unusual);
    }
    let code = 0x1_0000 + ((first - 0xD800) << 10 | (second - 0xDC00));
    Ok((char::from_u32(code).ok_or(Unusual)?, at + 10))
}

const fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Appends the bytes that stand for themselves before a quote, a backslash or a control character;
/// returns how many they are.
#[inline(always)]
fn append_plain<const N: usize>(
    bytes: &[u8],
    out: &mut Vec<u8>,
    wide: impl Fn(&[u8; N]) -> u64,
) -> usize {
    let (at, ended) = append_blocks(bytes, out, wide);
    if ended {
        return at;
    }
    // Less than a block is left of the line.
    let (more, ended) = append_blocks(&bytes[at..], out, special);
    let at = at + more;
    if ended {
        return at;
    }
    let rest = bytes[at..].iter().take_while(|&&byte| is_plain(byte)).count();
    out.extend_from_slice(&bytes[at..at + rest]);
    at + rest
}

/// The same of whole blocks; and whether a byte that is not plain comes next.
#[inline(always)]
fn append_blocks<const N: usize>(
    bytes: &[u8],
    out: &mut Vec<u8>,
    special: impl Fn(&[u8; N]) -> u64,
) -> (usize, bool) {
    let mut at = 0;
    while let Some(block) = bytes[at..].first_chunk::<N>() {
        let special = special(block);
        // All are written, and those that count are then said to be there: most runs are short, and a
        // copy of a length that is known takes few instructions.
        let length = out.len();
        out.extend_from_slice(block);
        if special != 0 {
            let count = special.trailing_zeros() as usize;
            out.truncate(length + count);
            return (at + count, true);
        }
        at += N;
    }
    (at, false)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn special(block: &[u8; 16]) -> u64 {
    (0u64..).zip(block).fold(0, |bits, (at, &byte)| bits | u64::from(!is_plain(byte)) << at)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn special(block: &[u8; 16]) -> u64 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86-64, and `block` holds the 16 bytes that are loaded.
    unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), control)) as u64
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn special_avx2(block: &[u8; 32]) -> u64 {
    use std::arch::x86_64::*;
    // SAFETY: `block` holds the 32 bytes that are loaded.
    let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
    let quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"' as i8));
    let slash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8));
    let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1F)), bytes);
    let special = _mm256_or_si256(_mm256_or_si256(quote, slash), control);
    u64::from(_mm256_movemask_epi8(special) as u32)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
#[inline]
fn special_avx512(block: &[u8; 64]) -> u64 {
    use std::arch::x86_64::*;
    // SAFETY: `block` holds the 64 bytes that are loaded.
    let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    let quote = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"' as i8));
    let slash = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8));
    quote | slash | _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = fn(&[u8], usize, &mut Vec<u8>) -> Result<Text, Unusual>;

    #[test]
    fn blocks_of_any_size_give_the_same() {
        // One byte, 16, as many as this processor takes, and 32.
        let pieces = ["", "\\n", "\\u5feb", "\"", "\\x", "\t", "\u{7f}", "é", "\u{1f}"];
        for before in 0..140 {
            for (after, piece) in (0..140).step_by(7).flat_map(|n| pieces.map(|piece| (n, piece))) {
                let line = format!("{}{piece}{}\"}}", "x".repeat(before), "y".repeat(after));
                let read = |with: Read| {
                    let mut out = b"kept".to_vec();
                    with(line.as_bytes(), 0, &mut out).map(|text| (text.end, out))
                };
                let plain = read(|line, at, out| {
                    string_body(line, at, out, |one: &[u8; 1]| u64::from(!is_plain(one[0])))
                });
                let sse2 = read(|line, at, out| string_body(line, at, out, special));
                assert!(plain == sse2 && plain == read(string), "{line}");
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as just checked.
                    let avx2 = read(|line, at, out| unsafe { string_avx2(line, at, out) });
                    assert!(plain == avx2, "{line}");
                }
            }
        }
    }
}
