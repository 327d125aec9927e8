//! First step over a text: bitmaps of where things are, 64 bytes at a time, and character counts.
//!
//! ASCII and most of Han are classified by vector instructions; other characters go one by one
//! through the class table. Everything later (tokens, lines, sentences) reads the bitmaps.

use crate::ascii::Ascii;
use crate::classes::{self, ANOMALOUS, HAN, MARK, SPACE, TERMINAL, UNIT};

/// Bit `i` speaks of byte `64 * block + i`.
#[derive(Clone, Copy, Default)]
pub struct Block {
    /// First bytes of tokens.
    pub start: u64,
    /// Bytes after the last bytes of tokens: as many as starts, and in the same order.
    pub end: u64,
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
    /// Whether all characters are ASCII.
    pub is_ascii: bool,
}

/// Bitmaps of one text. One block more than the text needs closes its last token.
#[derive(Default)]
pub struct Index {
    /// The bitmaps.
    pub blocks: Vec<Block>,
    /// What was counted on the way.
    pub counts: Counts,
}

impl Index {
    /// Reads `text` by a classifier of 64 bytes. With `units` false, words are what blanks part,
    /// whatever the script.
    #[inline(always)]
    pub fn read(&mut self, text: &str, units: bool, classify: impl Fn(&[u8; 64]) -> Ascii) {
        let bytes = text.as_bytes();
        let table = classes::table();
        self.blocks.clear();
        self.blocks.reserve(bytes.len() / 64 + 1);
        let mut counts = Counts { is_ascii: true, ..Counts::default() };
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

    /// Bytes that the bitmaps take.
    pub fn memory(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
    }

    /// Characters in the byte range.
    #[inline(always)]
    pub fn chars(&self, from: usize, to: usize) -> usize {
        let mut chars = to - from;
        if from == to || self.counts.is_ascii {
            return chars;
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
        counts.is_ascii = false;
        let han = ascii.han;
        let hans = u64::from(han.count_ones());
        counts.letters += hans;
        counts.han += hans;
        counts.units += hans;
        if units {
            unit = han;
            after_unit |= han << 3;
            carry.after_unit = han >> 61;
        }
        let mut leads = ascii.high & !ascii.continuation & !han;
        // Eight counts in the bytes of a word: at most 32 characters add to each.
        let (mut lanes, mut hans, mut anomalous) = (0u64, 0u64, 0u64);
        while leads != 0 {
            let at = leads.trailing_zeros();
            leads &= leads - 1;
            let (code, width) = decode(bytes, base + at as usize);
            let flags = table[code as usize];
            lanes += spread(flags as u8);
            hans += u64::from((flags / HAN) & 1);
            anomalous += u64::from((flags / ANOMALOUS) & 1);
            terminal |= u64::from((flags / TERMINAL) & 1) << at;
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
        // Lanes in the order of the class bits: blank, letter, number, upper, lower, unit, mark.
        let lane = |at: u32| lanes >> (8 * at) & 0xff;
        counts.letters += lane(1);
        counts.digits += lane(2);
        counts.upper += lane(3);
        counts.units += lane(5);
        counts.marks += lane(6);
        counts.han += hans;
        counts.anomalous += anomalous;
    }
    let start =
        !space & !ascii.continuation & ((space << 1 | carry.space) | unit | after_unit) & valid;
    let before = space << 1 | carry.space;
    // A token ends before a blank, another token or the text's end.
    let end = (space | start | !valid) & !before;
    carry.space = (space | !valid) >> 63;
    count_ascii(ascii, valid, counts);
    counts.tokens += u64::from(start.count_ones());
    // Bits 0 and 1 of `dots` are the last two bytes of the block before.
    let dots = u128::from(ascii.dot) << 2 | u128::from(carry.dots);
    counts.has_ellipsis |= dots & (dots >> 1) & (dots >> 2) != 0;
    carry.dots = ascii.dot >> 62;
    Block {
        start,
        end,
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

/// The bits of a byte as the lowest bits of eight bytes.
#[inline(always)]
fn spread(bits: u8) -> u64 {
    let each = (u64::from(bits) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((each + 0x7f7f_7f7f_7f7f_7f7f) & 0x8080_8080_8080_8080) >> 7
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ascii::classify;

    fn tokens(text: &str, units: bool) -> Vec<&str> {
        let mut index = Index::default();
        index.read(text, units, classify);
        let bits = |field: fn(&Block) -> u64| {
            let mut out = Vec::new();
            for (block, bitmap) in index.blocks.iter().enumerate() {
                out.extend((0..64).filter(|i| field(bitmap) >> i & 1 == 1).map(|i| block * 64 + i));
            }
            out
        };
        let (starts, ends) = (bits(|b| b.start), bits(|b| b.end));
        assert_eq!(starts.len(), ends.len());
        starts.into_iter().zip(ends).map(|(from, to)| &text[from..to]).collect()
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
    fn bits_are_spread() {
        for bits in 0..=255u8 {
            let want = (0..8).map(|at| u64::from(bits >> at & 1) << (8 * at)).sum::<u64>();
            assert_eq!(spread(bits), want);
        }
    }

    #[test]
    fn the_han_that_vectors_see_are_what_the_table_says() {
        use crate::classes::{ALPHA, HAN, UNIT};
        for code in 0x4e00..=0x9fff {
            assert_eq!(classes::table()[code], ALPHA | HAN | UNIT, "U+{code:04X}");
        }
    }

    #[test]
    fn ellipses_across_blocks() {
        for pad in 0..130 {
            let mut index = Index::default();
            index.read(&("x".repeat(pad) + "..."), true, classify);
            assert!(index.counts.has_ellipsis);
            index.read(&("x".repeat(pad) + ".."), true, classify);
            assert!(!index.counts.has_ellipsis);
        }
    }

    #[test]
    fn chars_of_ranges() {
        let text = "añ国𠀀".repeat(30);
        let mut index = Index::default();
        index.read(&text, true, classify);
        for (from, _) in text.char_indices() {
            assert_eq!(index.chars(from, text.len()), text[from..].chars().count());
            assert_eq!(index.chars(0, from), text[..from].chars().count());
        }
    }
}
