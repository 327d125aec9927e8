//! The different tokens of a text: each gets a number, and is looked at once, when it is new.

use crate::classes::{self, ALNUM, ALPHA, CLAUSE, LOWER, SYMBOL, UNIT, UPPER};
use crate::phrases;
use crate::table::Table;

/// The token has a letter or digit (or, in `compat`, a character outside datatrove's punctuation).
pub const IS_WORD: u16 = 1;
/// The token has a letter.
pub const HAS_LETTER: u16 = 1 << 1;
/// All cased letters of the token are capitals, and there is one.
pub const IS_CAPITALS: u16 = 1 << 2;
/// The token is one character of a script without blanks.
pub const IS_UNIT: u16 = 1 << 3;
/// The token has punctuation that ends a clause.
pub const ENDS_CLAUSE: u16 = 1 << 4;
/// The token is a stop word of the record's language.
pub const IS_STOP_WORD: u16 = 1 << 5;
/// Where a stop word's place in its list (below 256) stands in the flags.
pub const STOP_WORD_SHIFT: u32 = 8;
/// The token may be part of a phrase that C4 looks for.
pub const IN_PHRASE: u16 = 1 << 6;

/// A different token.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Occurrences.
    pub count: u32,
    /// Characters.
    pub chars: u32,
    /// `IS_WORD` and so on.
    pub flags: u16,
}

/// How tokens are judged.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// Number of the list of stop words, 0 without one.
    pub list: u64,
    /// Stop words, as lower-case bytes in a little-endian word.
    pub stop_words: &'a [u64],
    /// datatrove's definitions: its punctuation, stop words compared as they stand.
    pub compat: bool,
}

/// Tokens looked at lately, whatever their text: a power of two, small enough for the second-level
/// cache. Common words are looked at once and not in each text.
const REMEMBERED: usize = 1 << 13;

/// Numbers the different tokens of one text in order of appearance.
pub struct Vocabulary {
    table: Table,
    /// The different tokens.
    pub words: Vec<Word>,
    /// Key and look of a token, at the place its key gives.
    remembered: Box<[(u64, Word)]>,
}

impl Default for Vocabulary {
    fn default() -> Self {
        let empty = (0, Word { count: 0, chars: 0, flags: 0 });
        let remembered = vec![empty; REMEMBERED].into_boxed_slice();
        Self { table: Table::default(), words: Vec::new(), remembered }
    }
}

impl Vocabulary {
    /// Forgets the last text; the next one has so many tokens.
    pub fn reset(&mut self, tokens: usize) {
        self.words.clear();
        // Texts have fewer different words the longer they are; the table grows where that is wrong.
        self.table.reset((tokens / 2).min(1 << 11));
    }

    /// The number of the token at `from..to` of `text`, counted once more.
    #[inline(always)]
    pub fn number(&mut self, text: &str, from: usize, to: usize, judge: Judge<'_>) -> u32 {
        let fresh = self.words.len() as u32;
        let key = hash(text.as_bytes(), from, to);
        let number = self.table.get_or_insert(key, fresh);
        if number == fresh {
            self.meet(&text[from..to], key, judge);
        } else {
            self.words[number as usize].count += 1;
        }
        number
    }

    #[inline]
    fn meet(&mut self, token: &str, key: u64, judge: Judge<'_>) {
        // The look depends on the list of stop words and on whose definitions hold.
        let kind = judge.list << 1 | u64::from(judge.compat);
        let key = key ^ kind.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let place = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % REMEMBERED;
        let (known, word) = self.remembered[place];
        if known == key && word.count > 0 {
            self.words.push(word);
            return;
        }
        let word = look_at(token, judge);
        self.remembered[place] = (key, word);
        self.words.push(word);
    }
}

/// Up to eight bytes from `from`, zeros after `to`.
#[inline(always)]
fn load(bytes: &[u8], from: usize, to: usize) -> u64 {
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
    load(token, 0, token.len()) | (lower_bits(load(token, 0, token.len())))
}

fn lower_bits(word: u64) -> u64 {
    word.to_le_bytes()
        .iter()
        .enumerate()
        .map(|(at, byte)| if byte.is_ascii_uppercase() { 0x20 << (8 * at) } else { 0 })
        .sum()
}

/// A key that differs for different tokens: themselves up to eight bytes (UTF-8 text of that length
/// can't equal a mixed one but by the 1 in 2^64 chance), a folded-multiply hash above (wyhash's way).
#[inline(always)]
fn hash(bytes: &[u8], from: usize, to: usize) -> u64 {
    const A: u64 = 0xA076_1D64_78BD_642F;
    const B: u64 = 0xE703_7ED1_A0B4_28DB;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    };
    let length = to - from;
    if length <= 8 {
        return load(bytes, from, to);
    }
    let mut state = length as u64 ^ A;
    let mut at = from;
    while to - at > 16 {
        state = fold(load(bytes, at, at + 8) ^ state, load(bytes, at + 8, at + 16) ^ B);
        at += 16;
    }
    // The last sixteen bytes, overlapping what was read before where the token is long enough.
    let first = load(bytes, at, to);
    fold(first ^ state, load(bytes, to - 8, to) ^ B) | 1 << 63
}

/// Character count and flags of a token that was not seen before.
#[inline(never)]
fn look_at(token: &str, judge: Judge<'_>) -> Word {
    let table = classes::table();
    let (mut any, mut all, mut chars) = (0u16, !0u16, 0u32);
    if token.is_ascii() {
        chars = token.len() as u32;
        for &byte in token.as_bytes() {
            any |= table[usize::from(byte)];
            all &= table[usize::from(byte)];
        }
    } else {
        for character in token.chars() {
            chars += 1;
            any |= table[character as usize];
            all &= table[character as usize];
        }
    }
    let mut flags = 0;
    let is_word = if judge.compat { all & SYMBOL == 0 } else { any & ALNUM != 0 };
    let mut set = |flag: u16, on: bool| flags |= if on { flag } else { 0 };
    set(IS_WORD, is_word);
    set(HAS_LETTER, any & ALPHA != 0);
    set(IS_CAPITALS, any & UPPER != 0 && any & LOWER == 0);
    set(IS_UNIT, any & UNIT != 0 && !judge.compat);
    set(ENDS_CLAUSE, any & CLAUSE != 0);
    set(IN_PHRASE, phrases::may_hold(token.as_bytes()));
    if !judge.stop_words.is_empty() {
        let core = if judge.compat { token.as_bytes() } else { core(token) };
        if core.len() <= 8 {
            let wanted = stop_key(core, judge.compat);
            if let Some(place) = judge.stop_words.iter().position(|&key| key == wanted) {
                flags |= IS_STOP_WORD | (place as u16 & 0xff) << STOP_WORD_SHIFT;
            }
        }
    }
    Word { count: 1, chars, flags }
}

fn stop_key(core: &[u8], exact: bool) -> u64 {
    if exact { load(core, 0, core.len()) } else { key(core) }
}

/// A token without the punctuation around it.
fn core(text: &str) -> &[u8] {
    let table = classes::table();
    text.trim_matches(|c: char| table[c as usize] & (ALNUM | classes::MARK) == 0).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Judge<'_> = Judge { list: 0, stop_words: &[], compat: false };

    fn flags(token: &str) -> u16 {
        look_at(token, PLAIN).flags
    }

    #[test]
    fn kinds() {
        assert_eq!(flags("word"), IS_WORD | HAS_LETTER);
        assert_eq!(flags("word,"), IS_WORD | HAS_LETTER | ENDS_CLAUSE);
        assert_eq!(flags("USA"), IS_WORD | HAS_LETTER | IS_CAPITALS);
        assert_eq!(flags("42"), IS_WORD);
        assert_eq!(flags("--"), 0);
        assert_eq!(flags("中"), IS_WORD | HAS_LETTER | IS_UNIT);
    }

    #[test]
    fn different_tokens_have_different_numbers() {
        let text = "a ab abc abcdefgh abcdefghi abcdefghj abcdefghijklmnop abcdefghijklmnopq \
                    abcdefghijklmnopabcdefghijklmnopx abcdefghijklmnopabcdefghijklmnopy a";
        let mut vocabulary = Vocabulary::default();
        vocabulary.reset(0);
        let numbers: Vec<u32> = text
            .split(' ')
            .filter(|token| !token.is_empty())
            .map(|token| {
                let from = token.as_ptr() as usize - text.as_ptr() as usize;
                vocabulary.number(text, from, from + token.len(), PLAIN)
            })
            .collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    }

    #[test]
    fn stop_words_ignore_case_and_punctuation() {
        let list = [key(b"the")];
        let judge = Judge { list: 1, stop_words: &list, compat: false };
        for (token, want) in [("the", true), ("The,", true), ("(the)", true), ("they", false)] {
            let found = look_at(token, judge).flags & IS_STOP_WORD != 0;
            assert_eq!(found, want, "{token}");
        }
        let exact = Judge { compat: true, ..judge };
        assert_eq!(look_at("The", exact).flags & IS_STOP_WORD, 0);
    }
}
