//! Text to units: the words, characters or tokens that shingles are made of, as 64-bit hashes.
//!
//! - Prose: a unit is a word (a run of letters, marks and digits) where a script writes words
//!   apart, and one character where it does not; mixed text mixes them. The rest is no unit.
//! - Code: a unit is an identifier, keyword or number (underscores count as letters) or one
//!   punctuation character; white space is no unit, so layout does not count.
//! - Folding: a unit is hashed as its UTF-8 bytes in NFC and lower case, full-width letters and
//!   digits as plain ones, and without the characters that have no shape. ASCII bytes of words are
//!   folded by setting bit 5: capitals become small, digits stay, an underscore becomes 0x7f.
//! - Without folding, code is hashed as it stands, and in prose a unit is all bytes from the start
//!   of its word or character to the start of the next, so that every byte counts.

use crate::classes::{Class, Classes, push};
use crate::hash::Keys;
use crate::masks::{BLOCK, masks};

/// Kinds of cutting, as constant parameters of the loop.
type Mode = u8;
/// Prose, folded.
const FOLDED: Mode = 0;
/// Prose, every byte.
const EXACT: Mode = 1;
/// Code, folded or not.
const CODE: Mode = 2;

const CASE_BITS: u64 = 0x2020_2020_2020_2020;

/// Units after which `Cutter::cut` stops for its caller to take them.
pub(crate) const ENOUGH: usize = 1024;

/// `(LOW[n], HIGH[n])`: the first n bytes of a block of two words.
const LOW: [u64; 17] = first_bytes(0);
const HIGH: [u64; 17] = first_bytes(8);

const fn first_bytes(from: usize) -> [u64; 17] {
    let mut masks = [0; 17];
    let mut length = 0;
    while length < 17 {
        masks[length] = match length.saturating_sub(from) {
            0 => 0,
            8.. => u64::MAX,
            bytes => (1 << (8 * bytes)) - 1,
        };
        length += 1;
    }
    masks
}

/// Where in a text the cutting stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    at: usize,
    /// Start of a word that may go on at `at`.
    open: Option<usize>,
    /// In exact mode, start of the unit that has not ended.
    unit: Option<usize>,
    /// The text is known to be in NFC.
    pub(crate) composed: bool,
}

/// Why the cutting stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Enough units for now.
    More,
    /// The text has ended.
    End,
    /// The text may not be in NFC, and it matters.
    Decomposed,
}

/// Cuts texts into units.
#[derive(Debug, Clone)]
pub(crate) struct Cutter {
    keys: Keys,
    classes: Classes,
    fold: bool,
    word: Vec<u8>,
}

impl Cutter {
    pub(crate) fn new(keys: Keys, fold: bool) -> Self {
        Self { keys, classes: Classes::get(), fold, word: Vec::new() }
    }

    /// Appends units of `text` from `cursor` on.
    pub(crate) fn cut(
        &mut self,
        text: &str,
        code: bool,
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) -> Progress {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
            // SAFETY: the processor has what the function asks for, as just checked (BMI1 is older
            // than BMI2).
            return unsafe { self.cut_avx2(text, code, cursor, units) };
        }
        self.cut_any(text, code, cursor, units)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn cut_avx2(
        &mut self,
        text: &str,
        code: bool,
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) -> Progress {
        self.cut_any(text, code, cursor, units)
    }

    #[inline(always)]
    fn cut_any(
        &mut self,
        text: &str,
        code: bool,
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) -> Progress {
        match (code, self.fold) {
            (true, _) => self.cut_as::<CODE>(text, cursor, units),
            (false, true) => self.cut_as::<FOLDED>(text, cursor, units),
            (false, false) => self.cut_as::<EXACT>(text, cursor, units),
        }
    }

    #[inline(always)]
    fn cut_as<const MODE: Mode>(
        &mut self,
        text: &str,
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) -> Progress {
        let bytes = text.as_bytes();
        while units.len() < ENOUGH {
            match bytes.get(cursor.at) {
                None => {
                    self.close::<MODE>(bytes, cursor, units);
                    if let Some(start) = cursor.unit.take() {
                        units.push(self.keys.bytes(&bytes[start..]));
                    }
                    return Progress::End;
                }
                Some(0..0x80) => self.ascii::<MODE>(bytes, cursor, units),
                Some(0xE3..=0xEF) if self.wide::<MODE>(bytes, cursor, units) => {}
                Some(_) => {
                    if !self.character::<MODE>(text, cursor, units) {
                        return Progress::Decomposed;
                    }
                }
            }
        }
        Progress::More
    }

    /// Bits to set in the bytes of a word.
    #[inline(always)]
    fn case_bits<const MODE: Mode>(&self) -> u64 {
        if MODE == FOLDED || (MODE == CODE && self.fold) { CASE_BITS } else { 0 }
    }

    /// Up to a block of ASCII.
    #[inline(always)]
    fn ascii<const MODE: Mode>(&mut self, bytes: &[u8], cursor: &mut Cursor, units: &mut Vec<u64>) {
        let start = cursor.at;
        let rest = &bytes[start..];
        let (found, present) = match rest.first_chunk::<BLOCK>() {
            Some(block) => (masks(block, MODE == CODE), BLOCK),
            None => {
                let mut block = [0; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                (masks(&block, MODE == CODE), rest.len())
            }
        };
        let count = present.min(found.high.trailing_zeros() as usize);
        let present = u64::MAX >> (BLOCK - count);
        let word = (found.word | found.underscore) & present;
        let symbol = found.symbol & !found.underscore & present;
        cursor.at = start + count;
        let was_open = u64::from(cursor.open.is_some());
        if was_open != 0 {
            let run = word.trailing_ones() as usize;
            if run == count {
                return;
            }
            cursor.at = start + run;
            self.close::<MODE>(bytes, cursor, units);
            cursor.at = start + count;
        }
        let mut starts = word & !(word << 1 | was_open);
        // A word that reaches the end may go on behind it.
        if word >> (count - 1) & 1 != 0 {
            let last = 63 - starts.leading_zeros() as usize;
            starts ^= 1 << last;
            cursor.open = Some(start + last);
        }
        starts |= symbol;
        while starts != 0 {
            let offset = starts.trailing_zeros();
            starts &= starts - 1;
            let here = word >> offset;
            // A symbol has no word bit at its place: it is one byte, and keeps its bits.
            let (length, bits) = if MODE == CODE {
                (here.trailing_ones().max(1), self.case_bits::<MODE>() & (here & 1).wrapping_neg())
            } else {
                (here.trailing_ones(), self.case_bits::<MODE>())
            };
            self.unit::<MODE>(bytes, start + offset as usize, length as usize, bits, cursor, units);
        }
        if MODE == EXACT
            && let Some(open) = cursor.open
        {
            self.unit::<MODE>(bytes, open, 0, 0, cursor, units);
        }
    }

    /// A unit whose start and length are known; in exact mode the start alone matters.
    #[inline(always)]
    fn unit<const MODE: Mode>(
        &mut self,
        bytes: &[u8],
        start: usize,
        length: usize,
        case_bits: u64,
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) {
        if MODE == EXACT {
            match cursor.unit.replace(start) {
                // The first unit has what stands before it too.
                None => cursor.unit = Some(0),
                Some(before) => units.push(self.keys.bytes(&bytes[before..start])),
            }
            return;
        }
        let hash = match bytes[start..].first_chunk::<16>() {
            Some(block) if length <= 16 => {
                let block = u128::from_le_bytes(*block);
                let (p, q) = (block as u64 | case_bits, (block >> 64) as u64 | case_bits);
                self.keys.block(p & LOW[length], q & HIGH[length])
            }
            _ => self.long_word(&bytes[start..start + length], case_bits as u8),
        };
        units.push(hash);
    }

    #[cold]
    fn long_word(&mut self, word: &[u8], case_bits: u8) -> u64 {
        self.word.clear();
        self.word.extend(word.iter().map(|byte| byte | case_bits));
        self.keys.bytes(&self.word)
    }

    /// Ends an open word at the cursor.
    #[inline(always)]
    fn close<const MODE: Mode>(&mut self, bytes: &[u8], cursor: &mut Cursor, units: &mut Vec<u64>) {
        if let Some(start) = cursor.open.take()
            && MODE != EXACT
        {
            let bits = self.case_bits::<MODE>();
            self.unit::<MODE>(bytes, start, cursor.at - start, bits, cursor, units);
        }
    }

    /// Characters of three bytes, as many as are units of their own or none; false if the first is
    /// neither, or there is more to do for it.
    #[inline(always)]
    fn wide<const MODE: Mode>(
        &mut self,
        bytes: &[u8],
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) -> bool {
        if MODE == EXACT {
            return false;
        }
        let (mut found, mut count, mut at) = ([0; 32], 0, cursor.at);
        for _ in 0..found.len() {
            let Some(block) = bytes[at..].first_chunk::<4>() else { break };
            let [lead, two, three] = [block[0], block[1], block[2]].map(u32::from);
            let code = (lead & 0x0F) << 12 | (two & 0x3F) << 6 | three & 0x3F;
            let Some(is_unit) = self.classes.simple(code).filter(|_| lead >> 4 == 0xE) else {
                break;
            };
            // No branch on whether it is one: where sentences end is no pattern to predict.
            let block = u32::from_le_bytes(*block) & 0x00FF_FFFF;
            found[count] = self.keys.block(u64::from(block), 0);
            count += is_unit;
            at += 3;
        }
        if at == cursor.at {
            return false;
        }
        self.close::<MODE>(bytes, cursor, units);
        cursor.at = at;
        units.extend_from_slice(&found[..count]);
        true
    }

    /// One character that is not ASCII, or the word it stands in; false if the text must be put in
    /// NFC first.
    #[inline(always)]
    fn character<const MODE: Mode>(
        &mut self,
        text: &str,
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) -> bool {
        let bytes = text.as_bytes();
        let (c, width) = decode(bytes, cursor.at);
        let (class, unstable) = self.classes.class(c);
        if unstable && self.fold && !cursor.composed {
            return false;
        }
        match class {
            Class::Gap => self.close::<MODE>(bytes, cursor, units),
            Class::Single => {
                self.close::<MODE>(bytes, cursor, units);
                self.unit::<MODE>(bytes, cursor.at, width, 0, cursor, units);
            }
            Class::Word if MODE == EXACT => {
                if cursor.open.is_none() {
                    self.unit::<MODE>(bytes, cursor.at, width, 0, cursor, units);
                    cursor.open = Some(cursor.at);
                }
            }
            Class::Ignored if cursor.open.is_none() || MODE == EXACT => {}
            Class::Word | Class::Ignored => return self.mixed_word::<MODE>(text, cursor, units),
        }
        cursor.at += width;
        true
    }

    /// The rest of a word that has characters beyond ASCII.
    fn mixed_word<const MODE: Mode>(
        &mut self,
        text: &str,
        cursor: &mut Cursor,
        units: &mut Vec<u64>,
    ) -> bool {
        let bytes = text.as_bytes();
        let fold = self.fold;
        let start = cursor.open.take().unwrap_or(cursor.at);
        let mut at = start;
        self.word.clear();
        while let Some(&byte) = bytes.get(at) {
            if byte < 0x80 {
                if !(byte.is_ascii_alphanumeric() || (MODE == CODE && byte == b'_')) {
                    break;
                }
                self.word.push(if fold { byte | CASE_BITS as u8 } else { byte });
                at += 1;
                continue;
            }
            let (c, width) = decode(bytes, at);
            let (class, unstable) = self.classes.class(c);
            if unstable && fold && !cursor.composed {
                cursor.open = Some(start);
                return false;
            }
            match class {
                Class::Word if fold => self.classes.push_folded(c, &mut self.word),
                Class::Word => push(c, &mut self.word),
                Class::Ignored if fold => {}
                Class::Ignored => push(c, &mut self.word),
                Class::Gap | Class::Single => break,
            }
            at += width;
        }
        cursor.at = at;
        units.push(self.keys.bytes(&self.word));
        true
    }
}

/// The character at a place of valid UTF-8, and its bytes.
#[inline(always)]
fn decode(bytes: &[u8], at: usize) -> (char, usize) {
    let next = |offset: usize| u32::from(bytes[at + offset] & 0x3F);
    let lead = u32::from(bytes[at]);
    let (code, width) = match lead {
        0..0x80 => (lead, 1),
        0x80..0xE0 => ((lead & 0x1F) << 6 | next(1), 2),
        0xE0..0xF0 => ((lead & 0x0F) << 12 | next(1) << 6 | next(2), 3),
        _ => ((lead & 0x07) << 18 | next(1) << 12 | next(2) << 6 | next(3), 4),
    };
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), width)
}

#[cfg(test)]
mod tests;
