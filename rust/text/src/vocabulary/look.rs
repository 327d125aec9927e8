//! What a token looks like: found once, when it is met for the first time.

use super::hash::{key, load};
use crate::classes::{self, ALNUM, ALPHA, CLAUSE, LOWER, SYMBOL, UNIT, UPPER};
use crate::phrases;

/// The token has a letter or digit (or, in `compat`, a character outside datatrove's punctuation).
pub const IS_WORD: u16 = 1;
/// The token has a letter.
pub const HAS_LETTER: u16 = 1 << 1;
/// All cased letters of the token are capitals, and there is one.
pub const IS_CAPITALS: u16 = 1 << 2;
/// The token is one character of a script without blanks.
pub const IS_UNIT: u16 = 1 << 3;
/// The token has punctuation that ends a clause.
pub const ENDS_CLAUSE: u16 = 1 << CLAUSE_SHIFT;
/// Which bit that is.
pub const CLAUSE_SHIFT: u32 = 4;
/// The token is a stop word of the record's language.
pub const IS_STOP_WORD: u16 = 1 << 5;
/// Where a stop word's place in its list (below 256) stands in the flags.
pub const STOP_WORD_SHIFT: u32 = 8;
/// The token may be part of a phrase that C4 looks for.
pub const IN_PHRASE: u16 = 1 << 6;

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

impl Judge<'_> {
    /// Part of a token's key: its look depends on the list and on whose definitions hold.
    #[inline(always)]
    pub fn kind(self) -> u64 {
        (self.list << 1 | u64::from(self.compat)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
}

/// What a token looks like: flags in the lower bits, characters in the upper ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look(u32);

/// Flags reach up to the six bits of a stop word's place.
const FLAG_BITS: u32 = STOP_WORD_SHIFT + 6;
/// Tokens of as many characters or more are counted each time.
pub const MANY: u32 = u32::MAX >> FLAG_BITS;

impl Look {
    /// From a token's characters and flags.
    pub fn new(chars: u32, flags: u16) -> Self {
        Self(chars.min(MANY) << FLAG_BITS | u32::from(flags))
    }

    /// `IS_WORD` and so on.
    #[inline(always)]
    pub fn flags(self) -> u16 {
        (self.0 & ((1 << FLAG_BITS) - 1)) as u16
    }

    /// Characters, at most `MANY`.
    #[inline(always)]
    pub fn chars(self) -> u32 {
        self.0 >> FLAG_BITS
    }

    /// The flags that either has; its characters mean nothing.
    #[inline(always)]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What an ASCII character is, for `look_at`: the bits of `classes` that it asks for, in one byte.
const ASCII_ALPHA: u8 = 1;
const ASCII_DIGIT: u8 = 1 << 1;
const ASCII_UPPER: u8 = 1 << 2;
const ASCII_LOWER: u8 = 1 << 3;
const ASCII_CLAUSE: u8 = 1 << 4;
/// No symbol in datatrove's sense.
const ASCII_PLAIN: u8 = 1 << 5;
const NOT_ASCII: u8 = 1 << 7;
static ASCII: [u8; 256] = {
    let mut table = [NOT_ASCII; 256];
    let mut code = 0;
    while code < 128 {
        let byte = code as u8;
        table[code] = match byte {
            b'0'..=b'9' => ASCII_DIGIT | ASCII_PLAIN,
            b'A'..=b'Z' => ASCII_ALPHA | ASCII_UPPER | ASCII_PLAIN,
            b'a'..=b'z' => ASCII_ALPHA | ASCII_LOWER | ASCII_PLAIN,
            b'\t' | b'\n' | b' ' => ASCII_PLAIN,
            b',' | b'.' | b';' | b':' | b'!' | b'?' => ASCII_CLAUSE,
            _ => 0,
        };
        code += 1;
    }
    table
};

/// Character count and flags of a token that was not seen before.
#[inline(never)]
pub fn look_at(token: &str, judge: Judge<'_>) -> (u32, u16) {
    let bytes = token.as_bytes();
    let any = bytes.iter().fold(0, |any, &byte| any | ASCII[usize::from(byte)]);
    if any & NOT_ASCII != 0 {
        return look_at_any(token, judge);
    }
    let mut flags = 0;
    let mut set = |flag: u16, on: bool| flags |= if on { flag } else { 0 };
    let word = if judge.compat { ASCII_PLAIN } else { ASCII_ALPHA | ASCII_DIGIT };
    set(IS_WORD, any & word != 0);
    set(HAS_LETTER, any & ASCII_ALPHA != 0);
    set(IS_CAPITALS, any & (ASCII_UPPER | ASCII_LOWER) == ASCII_UPPER);
    set(ENDS_CLAUSE, any & ASCII_CLAUSE != 0);
    set(IN_PHRASE, phrases::may_hold(bytes));
    let mut core = bytes;
    if !judge.compat {
        while let [first, rest @ ..] = core
            && !first.is_ascii_alphanumeric()
        {
            core = rest;
        }
        while let [rest @ .., last] = core
            && !last.is_ascii_alphanumeric()
        {
            core = rest;
        }
    }
    (bytes.len() as u32, flags | stop_flags(core, judge))
}

/// The same for any token.
fn look_at_any(token: &str, judge: Judge<'_>) -> (u32, u16) {
    let table = classes::table();
    let (mut any, mut all, mut chars) = (0u16, !0u16, 0u32);
    for character in token.chars() {
        chars += 1;
        any |= table[character as usize];
        all &= table[character as usize];
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
    let core = if judge.compat { token.as_bytes() } else { core(token) };
    (chars, flags | stop_flags(core, judge))
}

/// The stop word that a token is, without the punctuation around it.
#[inline(always)]
fn stop_flags(core: &[u8], judge: Judge<'_>) -> u16 {
    if core.len() > 8 || judge.stop_words.is_empty() {
        return 0;
    }
    let wanted = stop_key(core, judge.compat);
    let place = judge.stop_words.iter().position(|&key| key == wanted);
    place.map_or(0, |place| IS_STOP_WORD | (place as u16 & 0x3f) << STOP_WORD_SHIFT)
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
        look_at(token, PLAIN).1
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
    fn ascii_tokens_look_the_same_by_either_way() {
        let list = [key(b"the"), key(b"a1"), key(b"")];
        let mut tokens: Vec<String> = (0..128u8).map(|byte| char::from(byte).to_string()).collect();
        let mut state = 7u32;
        for length in 0..4_000 {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Mostly what words are made of, so that stop words and capitals occur.
                let all = b"thetheTHEaA1..,!-\"(\t\0\x1f";
                let byte = (state >> 24) as u8;
                char::from(if byte < 200 {
                    all[usize::from(byte) % all.len()]
                } else {
                    byte & 0x7f
                })
            };
            tokens.push((0..length % 14 + 1).map(next).collect());
        }
        tokens.extend(
            ["JavaScript", "xjavascripty", "jjavascript!", "Policy", "cookies,"].map(str::to_owned),
        );
        for token in &tokens {
            for compat in [false, true] {
                let judge = Judge { list: 1, stop_words: &list, compat };
                assert_eq!(look_at(token, judge), look_at_any(token, judge), "{token:?} {compat}");
            }
        }
    }

    #[test]
    fn stop_words_ignore_case_and_punctuation() {
        let list = [key(b"the")];
        let judge = Judge { list: 1, stop_words: &list, compat: false };
        for (token, want) in [("the", true), ("The,", true), ("(the)", true), ("they", false)] {
            let found = look_at(token, judge).1 & IS_STOP_WORD != 0;
            assert_eq!(found, want, "{token}");
        }
        let exact = Judge { compat: true, ..judge };
        assert_eq!(look_at("The", exact).1 & IS_STOP_WORD, 0);
    }
}
