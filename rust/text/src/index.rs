//! First step over a text: bitmaps of where things are, 64 bytes at a time, and character counts.
//!
//! ASCII is classified sixteen bytes an instruction; other characters go one by one through the
//! class table. Everything later (tokens, lines, sentences) reads the bitmaps, not the text.

use crate::classes::{self, ALPHA, ANOMALOUS, DIGIT, HAN, MARK, SPACE, TERMINAL, UNIT, UPPER};

/// Bit `i` speaks of byte `64 * block + i`.
#[derive(Clone, Copy, Default)]
pub struct Block {
    /// First bytes of tokens.
    pub start: u64,
    /// Bytes before which an open token ends: blanks and first bytes of tokens.
    pub stop: u64,
    /// Line feeds.
    pub newline: u64,
    /// First bytes of sentence-ending punctuation.
    pub terminal: u64,
    /// Continuation bytes of UTF-8, so that bytes minus these are characters.
    pub continuation: u64,
}

/// Characters of a text by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All characters.
    pub chars: u64,
    /// Blanks, line feeds among them.
    pub spaces: u64,
    /// Line feeds.
    pub newlines: u64,
    /// Letters.
    pub letters: u64,
    /// Numbers.
    pub digits: u64,
    /// Upper-case letters.
    pub upper: u64,
    /// Combining marks.
    pub marks: u64,
    /// Han ideographs.
    pub han: u64,
    /// Characters that are words of their own.
    pub units: u64,
    /// Control, invisible, private, replacement characters.
    pub anomalous: u64,
    /// Anomalous characters that are blanks too.
    pub anomalous_spaces: u64,
    /// `#`
    pub hashes: u64,
    /// `{`
    pub braces: u64,
    /// Tokens.
    pub tokens: u64,
    /// Whether `...` or `…` occurs.
    pub has_ellipsis: bool,
    /// Whether `<` or `&` occurs.
    pub has_markup: bool,
}

/// Bitmaps of one text. One block more than the text needs closes its last token.
#[derive(Default)]
pub struct Index {
    /// The bitmaps.
    pub blocks: Vec<Block>,
    /// What was counted on the way.
    pub counts: Counts,
}

#[derive(Clone, Copy, Default)]
struct Ascii {
    high: u64,
    continuation: u64,
    space: u64,
    newline: u64,
    letter: u64,
    upper: u64,
    digit: u64,
    control: u64,
    terminal: u64,
    dot: u64,
    hash: u64,
    brace: u64,
    markup: u64,
}

impl Index {
    /// Reads `text`. With `units` false, words are what blanks part, whatever the script.
    pub fn read(&mut self, text: &str, units: bool) {
        let bytes = text.as_bytes();
        let table = classes::table();
        self.blocks.clear();
        self.blocks.reserve(bytes.len() / 64 + 1);
        let mut counts = Counts::default();
        let mut carry = Carry { space: 1, after_unit: 0, dots: 0, spaces: 0 };
        for base in (0..=bytes.len()).step_by(64) {
            let (ascii, valid) = match bytes[base..].first_chunk::<64>() {
                Some(chunk) => (classify(chunk), !0u64),
                None => {
                    let tail = &bytes[base..];
                    let mut chunk = [b' '; 64];
                    chunk[..tail.len()].copy_from_slice(tail);
                    (classify(&chunk), (1u64 << tail.len()) - 1)
                }
            };
            let block =
                one_block(bytes, base, &ascii, valid, table, units, &mut carry, &mut counts);
            self.blocks.push(block);
        }
        self.counts = counts;
    }

    /// Characters in the byte range.
    pub fn chars(&self, from: usize, to: usize) -> usize {
        let mut chars = to - from;
        if from == to {
            return 0;
        }
        let (first, last) = (from / 64, (to - 1) / 64);
        for block in first..=last {
            let mut bits = self.blocks[block].continuation;
            if block == first {
                bits &= !0 << (from % 64);
            }
            if block == last {
                bits &= !0 >> (63 - (to - 1) % 64);
            }
            chars -= bits.count_ones() as usize;
        }
        chars
    }
}

/// What one block leaves for the next.
struct Carry {
    /// Bit 0: the byte before is a blank (the start of a text counts as one).
    space: u64,
    /// First byte after a unit that ended at or beyond the block's end.
    after_unit: u64,
    /// The last two bits: whether the last bytes were dots.
    dots: u64,
    /// Bytes of a blank that reach into this block.
    spaces: u64,
}

#[allow(clippy::too_many_arguments, reason = "the loop body of `read`, split out to be readable")]
#[inline(always)]
fn one_block(
    bytes: &[u8],
    base: usize,
    ascii: &Ascii,
    valid: u64,
    table: &[u16],
    units: bool,
    carry: &mut Carry,
    counts: &mut Counts,
) -> Block {
    let mut space = ascii.space | carry.spaces;
    let mut terminal = ascii.terminal;
    let (mut unit, mut after_unit) = (0u64, carry.after_unit);
    carry.after_unit = 0;
    carry.spaces = 0;
    if ascii.high != 0 {
        let mut leads = ascii.high & !ascii.continuation;
        let (mut letters, mut digits, mut upper, mut han) = (0u64, 0u64, 0u64, 0u64);
        let (mut marks, mut anomalous, mut all_units) = (0u64, 0u64, 0u64);
        while leads != 0 {
            let at = leads.trailing_zeros();
            leads &= leads - 1;
            let (code, width) = decode(bytes, base + at as usize);
            let flags = u64::from(table[code as usize]);
            letters += (flags / u64::from(ALPHA)) & 1;
            digits += (flags / u64::from(DIGIT)) & 1;
            upper += (flags / u64::from(UPPER)) & 1;
            han += (flags / u64::from(HAN)) & 1;
            marks += (flags / u64::from(MARK)) & 1;
            anomalous += (flags / u64::from(ANOMALOUS)) & 1;
            all_units += (flags / u64::from(UNIT)) & 1;
            terminal |= ((flags / u64::from(TERMINAL)) & 1) << at;
            let flags = flags as u16;
            if flags & (UNIT | MARK | SPACE) != 0 {
                let bit = 1u64 << at;
                let next = 1u128 << (at + width);
                if flags & UNIT != 0 && units {
                    unit |= bit;
                    after_unit |= next as u64;
                    carry.after_unit |= (next >> 64) as u64;
                } else if flags & MARK != 0 && after_unit & bit != 0 {
                    after_unit = (after_unit & !bit) | next as u64;
                    carry.after_unit |= (next >> 64) as u64;
                } else if flags & SPACE != 0 {
                    let blank = ((1u128 << width) - 1) << at;
                    space |= blank as u64;
                    carry.spaces = (blank >> 64) as u64;
                    counts.spaces += 1;
                }
            }
            counts.has_ellipsis |= code == 0x2026;
        }
        counts.letters += letters;
        counts.digits += digits;
        counts.upper += upper;
        counts.han += han;
        counts.marks += marks;
        counts.anomalous += anomalous;
        counts.units += all_units;
    }
    let start =
        !space & !ascii.continuation & ((space << 1 | carry.space) | unit | after_unit) & valid;
    carry.space = space >> 63;
    count_ascii(ascii, valid, counts);
    counts.tokens += u64::from(start.count_ones());
    // Bits 0 and 1 of `dots` are the last two bytes of the block before.
    let dots = u128::from(ascii.dot) << 2 | u128::from(carry.dots);
    counts.has_ellipsis |= dots & (dots >> 1) & (dots >> 2) != 0;
    carry.dots = ascii.dot >> 62;
    Block {
        start,
        stop: space | start | !valid,
        newline: ascii.newline & valid,
        terminal: terminal & valid,
        continuation: ascii.continuation & valid,
    }
}

#[inline(always)]
fn count_ascii(ascii: &Ascii, valid: u64, counts: &mut Counts) {
    let ones = |bits: u64| u64::from((bits & valid).count_ones());
    counts.chars += ones(!ascii.continuation);
    counts.spaces += ones(ascii.space);
    counts.newlines += ones(ascii.newline);
    counts.letters += ones(ascii.letter);
    counts.digits += ones(ascii.digit);
    counts.upper += ones(ascii.upper);
    if ascii.control != 0 {
        counts.anomalous += ones(ascii.control);
        counts.anomalous_spaces += ones(ascii.control & ascii.space);
    }
    counts.hashes += ones(ascii.hash);
    counts.braces += ones(ascii.brace);
    counts.has_markup |= ascii.markup & valid != 0;
}

/// The character that starts at `at` and its width in bytes; `bytes` is valid UTF-8 and `at` the
/// first byte of a character of more than one byte.
#[inline(always)]
fn decode(bytes: &[u8], at: usize) -> (u32, u32) {
    let low = |offset: usize| u32::from(bytes.get(at + offset).copied().unwrap_or(0x80) & 0x3f);
    let first = u32::from(bytes[at]);
    if first >= 0xf0 {
        let code = (first & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3);
        (code.min(0x10_ffff), 4)
    } else if first >= 0xe0 {
        ((first & 0x0f) << 12 | low(1) << 6 | low(2), 3)
    } else {
        ((first & 0x1f) << 6 | low(1), 2)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn classify(chunk: &[u8; 64]) -> Ascii {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128,
        _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    let mut out = Ascii::default();
    for quarter in 0..4 {
        // SAFETY: SSE2 is part of x86-64; the load reads 16 bytes inside the 64 of `chunk`.
        unsafe {
            let bytes = _mm_loadu_si128(chunk.as_ptr().add(quarter * 16).cast::<__m128i>());
            let set = |value: u8| _mm_set1_epi8(value.cast_signed());
            // lo <= b <= hi for unsigned bytes: shifted so that the range starts at -128.
            let within = |v: __m128i, lo: u8, hi: u8| {
                _mm_cmplt_epi8(
                    _mm_add_epi8(v, set(0x80u8.wrapping_sub(lo))),
                    set((hi - lo + 1) ^ 0x80),
                )
            };
            let mask = |v: __m128i| {
                u64::from(_mm_movemask_epi8(v).cast_unsigned() as u16) << (16 * quarter)
            };
            let equal = |value: u8| _mm_cmpeq_epi8(bytes, set(value));
            let layout = within(bytes, 0x09, 0x0d);
            let separators = within(bytes, 0x1c, 0x1f);
            let space = _mm_or_si128(_mm_or_si128(layout, equal(b' ')), separators);
            let newline = equal(b'\n');
            let plain = _mm_or_si128(_mm_or_si128(newline, equal(b'\t')), equal(b'\r'));
            let control = _mm_or_si128(within(bytes, 0x00, 0x1f), equal(0x7f));
            let dot = equal(b'.');
            out.high |= mask(bytes);
            // 0x80..=0xbf are the most negative signed bytes.
            out.continuation |= mask(_mm_cmplt_epi8(bytes, set(0xc0)));
            out.space |= mask(space);
            out.newline |= mask(newline);
            out.control |= mask(_mm_andnot_si128(plain, control));
            out.letter |= mask(within(_mm_or_si128(bytes, set(0x20)), b'a', b'z'));
            out.upper |= mask(within(bytes, b'A', b'Z'));
            out.digit |= mask(within(bytes, b'0', b'9'));
            out.dot |= mask(dot);
            out.terminal |= mask(_mm_or_si128(dot, _mm_or_si128(equal(b'!'), equal(b'?'))));
            out.hash |= mask(equal(b'#'));
            out.brace |= mask(equal(b'{'));
            // `<` and `&`, which open tags and entities.
            out.markup |= mask(_mm_or_si128(equal(b'<'), equal(b'&')));
        }
    }
    out
}

#[cfg(not(target_arch = "x86_64"))]
fn classify(chunk: &[u8; 64]) -> Ascii {
    classify_scalar(chunk)
}

/// What `classify` does, a byte at a time: for other processors, and to test it.
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
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str, units: bool) -> Vec<&str> {
        let mut index = Index::default();
        index.read(text, units);
        let bits = |field: fn(&Block) -> u64| {
            let mut out = Vec::new();
            for (block, bitmap) in index.blocks.iter().enumerate() {
                out.extend((0..64).filter(|i| field(bitmap) >> i & 1 == 1).map(|i| block * 64 + i));
            }
            out
        };
        let stops = bits(|b| b.stop);
        bits(|b| b.start)
            .into_iter()
            .map(|from| {
                let to = *stops.iter().find(|&&stop| stop > from).unwrap();
                &text[from..to]
            })
            .collect()
    }

    #[test]
    fn tokens_by_script() {
        assert_eq!(tokens("The cat, sat.\n", true), ["The", "cat,", "sat."]);
        assert_eq!(tokens("我love你！ok", true), ["我", "love", "你", "！ok"]);
        assert_eq!(tokens("我love你！ok", false), ["我love你！ok"]);
        assert_eq!(tokens("a\u{3000}b\u{a0}c", true), ["a", "b", "c"]);
        assert_eq!(tokens("กำ\u{e31}x", true), ["ก", "ำ\u{e31}", "x"]);
        assert_eq!(tokens("", true), Vec::<&str>::new());
        assert_eq!(tokens("e\u{301}t", true), ["e\u{301}t"]);
    }

    #[test]
    fn tokens_do_not_depend_on_where_blocks_end() {
        let text = "国\u{3000}é ab。c\u{e01}\u{e31}z\u{a0}한글 𠀀x";
        let want = tokens(text, true);
        for pad in 0..130 {
            let padded = " ".repeat(pad) + text;
            assert_eq!(tokens(&padded, true), want, "shifted by {pad}");
        }
    }

    #[test]
    fn vector_and_scalar_classes_agree() {
        for first in 0..=255u8 {
            let chunk: [u8; 64] =
                std::array::from_fn(|i| first.wrapping_add(u8::try_from(i * 7).unwrap_or(0)));
            let (a, b) = (classify(&chunk), classify_scalar(&chunk));
            let fields = |m: Ascii| {
                [
                    m.high,
                    m.continuation,
                    m.space,
                    m.newline,
                    m.letter,
                    m.upper,
                    m.digit,
                    m.control,
                    m.terminal,
                    m.dot,
                    m.hash,
                    m.brace,
                    m.markup,
                ]
            };
            assert_eq!(fields(a), fields(b), "from {first}");
        }
    }

    #[test]
    fn ellipses_across_blocks() {
        for pad in 0..130 {
            let mut index = Index::default();
            index.read(&("x".repeat(pad) + "..."), true);
            assert!(index.counts.has_ellipsis);
            index.read(&("x".repeat(pad) + ".."), true);
            assert!(!index.counts.has_ellipsis);
        }
    }

    #[test]
    fn chars_of_ranges() {
        let text = "añ国𠀀".repeat(30);
        let mut index = Index::default();
        index.read(&text, true);
        for (from, _) in text.char_indices() {
            assert_eq!(index.chars(from, text.len()), text[from..].chars().count());
            assert_eq!(index.chars(0, from), text[..from].chars().count());
        }
    }
}
