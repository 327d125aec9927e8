//! The different tokens of a text: each gets a number, and is looked at once, when it is new.

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

impl Judge<'_> {
    /// Part of a token's key: its look depends on the list and on whose definitions hold.
    #[inline(always)]
    pub fn kind(self) -> u64 {
        (self.list << 1 | u64::from(self.compat)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
}

/// Slots to begin with, 16 bytes each: common tokens stay in the second-level cache.
const SLOTS: usize = 1 << 16;
/// A text begins with at most so many tokens known from texts before it.
const REMEMBERED: usize = SLOTS / 2;

/// A token that was met, in this text or an earlier one: what a token is depends on nothing else.
#[derive(Clone, Copy, Default)]
#[repr(align(16))]
struct Slot {
    /// 0 marks an empty slot.
    key: u64,
    look: Look,
    /// Its number in the text in which it was last met.
    number: u32,
}

/// What a token looks like: flags in the lower bits, characters in the upper ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look(u32);

/// Flags reach up to the six bits of a stop word's place.
const FLAG_BITS: u32 = STOP_WORD_SHIFT + 6;
/// Tokens of as many characters or more are counted each time.
const MANY: u32 = u32::MAX >> FLAG_BITS;

impl Look {
    fn new(chars: u32, flags: u16) -> Self {
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

/// The tokens of a text, by place.
#[derive(Default)]
pub struct Tokens {
    /// First byte of each token; more may stand behind.
    pub starts: Vec<u32>,
    /// The byte after its last; more may stand behind.
    pub ends: Vec<u32>,
    keys: Vec<u64>,
    /// The number of each token in the text.
    pub numbers: Vec<u32>,
    /// What each looks like.
    pub looks: Vec<Look>,
    /// 0, and the characters of all tokens up to and with each.
    pub reach: Vec<u32>,
}

/// So many tokens before a token is counted, its place in the table begins to be loaded.
const AHEAD: usize = 16;

/// Numbers the different tokens of one text in order of appearance.
///
/// One table serves all texts: so a token is looked at once, and a lookup that finds it known from
/// an earlier text costs no more than one that finds it known from this. Whether a number is of this
/// text says the list of this text's keys (the sparse set of Briggs and Torczon 1993).
pub struct Vocabulary {
    slots: Box<[Slot]>,
    shift: u32,
    filled: usize,
    /// The different tokens, and room for one more; their keys.
    words: Vec<Word>,
    keys: Vec<u64>,
    len: usize,
}

impl Default for Vocabulary {
    fn default() -> Self {
        let mut empty = Self {
            slots: Box::default(),
            shift: 0,
            filled: 0,
            words: Vec::new(),
            keys: Vec::new(),
            len: 0,
        };
        empty.clear(SLOTS);
        empty
    }
}

impl Vocabulary {
    /// Forgets the last text; the next one has so many tokens.
    fn reset(&mut self, tokens: usize) {
        if self.filled > REMEMBERED {
            self.clear(SLOTS);
        }
        self.len = 0;
        let empty = Word { count: 0, chars: 0, flags: 0 };
        if self.words.len() <= tokens {
            self.words.resize(tokens + 1, empty);
        }
        if self.keys.len() <= tokens {
            self.keys.resize(tokens + 1, 0);
        }
    }

    /// Bytes that the table takes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// The different tokens of the text, by number.
    pub fn words(&self) -> &[Word] {
        &self.words[..self.len]
    }

    /// Puts other words in the place of the text's own.
    pub fn replace(&mut self, words: &[Word]) {
        self.words.clear();
        self.words.extend_from_slice(words);
        self.len = words.len();
    }

    /// Numbers the first `count` tokens between `starts` and `ends`.
    #[inline(always)]
    pub fn number(&mut self, text: &str, count: usize, tokens: &mut Tokens, judge: Judge<'_>) {
        self.reset(count);
        let (starts, ends) = (&tokens.starts[..count], &tokens.ends[..count]);
        let bounds = starts.iter().zip(ends);
        tokens.keys.clear();
        tokens.keys.extend(bounds.map(|(&from, &to)| key_of(text, from, to, judge)));
        // Keys past the end are only looked ahead to.
        tokens.keys.resize(count + AHEAD, 1);
        // Written token by token: what was there before does not matter.
        tokens.numbers.resize(count, 0);
        tokens.looks.resize(count, Look::default());
        tokens.reach.resize(count + 1, 0);
        let keys = &tokens.keys[..count + AHEAD];
        let (numbers, looks) = (&mut tokens.numbers[..count], &mut tokens.looks[..count]);
        let reach = &mut tokens.reach[1..=count];
        let (mut place, mut total) = (0, 0);
        keys[..AHEAD].iter().for_each(|&key| expect(&self.slots, key >> self.shift));
        loop {
            // Held in registers until a token is met for the first time.
            let (slots, shift) = (&mut *self.slots, self.shift);
            let (listed, words) = (&mut *self.keys, &mut *self.words);
            let mask = slots.len() - 1;
            let mut len = self.len;
            let mut free = None;
            while place < count {
                expect(slots, keys[place + AHEAD] >> shift);
                let key = keys[place];
                let mut at = (key >> shift) as usize & mask;
                while slots[at].key != key && slots[at].key != 0 {
                    at = (at + 1) & mask;
                }
                let slot = &mut slots[at];
                if slot.key == 0 {
                    free = Some(at);
                    break;
                }
                let mut chars = slot.look.chars();
                if chars == MANY {
                    chars = count_chars(text, starts[place], ends[place]);
                }
                let old = slot.number as usize;
                // Whether a token is new to the text is a coin toss: nothing here branches on it.
                let is_new = (old >= len) | (listed[old] != key);
                let number = if is_new { len } else { old };
                slot.number = number as u32;
                listed[len] = key;
                words[len] = Word { count: 0, chars, flags: slot.look.flags() };
                words[number].count += 1;
                len += usize::from(is_new);
                total += chars;
                numbers[place] = number as u32;
                looks[place] = slot.look;
                reach[place] = total;
                place += 1;
            }
            self.len = len;
            let Some(free) = free else {
                return;
            };
            let (from, to) = (starts[place] as usize, ends[place] as usize);
            self.meet(&text[from..to], keys[place], free, judge);
        }
    }

    /// Puts a token that no text had before into the table, at a free slot.
    #[inline(never)]
    fn meet(&mut self, token: &str, key: u64, free: usize, judge: Judge<'_>) {
        let (chars, flags) = look_at(token, judge);
        // Any number will do: the list of keys does not have this key yet.
        self.slots[free] = Slot { key, look: Look::new(chars, flags), number: 0 };
        self.filled += 1;
        if self.filled * 2 > self.slots.len() {
            self.grow();
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.clear(old.len() * 2);
        for slot in old.iter().filter(|slot| slot.key != 0) {
            let at = self.free(slot.key);
            self.slots[at] = *slot;
            self.filled += 1;
        }
    }

    fn free(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (key >> self.shift) as usize & mask;
        while self.slots[at].key != 0 {
            at = (at + 1) & mask;
        }
        at
    }

    fn clear(&mut self, slots: usize) {
        if self.slots.len() == slots {
            self.slots.fill(Slot::default());
        } else {
            self.slots = vec![Slot::default(); slots].into_boxed_slice();
        }
        self.shift = 64 - slots.trailing_zeros();
        self.filled = 0;
    }
}

/// The key of the token at `from..to`; never 0.
#[inline(always)]
fn key_of(text: &str, from: u32, to: u32, judge: Judge<'_>) -> u64 {
    (hash(text.as_bytes(), from as usize, to as usize) ^ judge.kind()) | 1
}

/// Starts to load a slot.
#[inline(always)]
fn expect(slots: &[Slot], at: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, without effect on what the program can see; every x86-64 has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(slots.as_ptr().wrapping_add(at as usize).cast::<i8>());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slots, at);
}

#[cold]
#[inline(never)]
fn count_chars(text: &str, from: u32, to: u32) -> u32 {
    text[from as usize..to as usize].chars().count() as u32
}

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

    /// Numbers, looks and reach of what blanks part in `text`.
    fn number(words: &mut Vocabulary, text: &str) -> Tokens {
        let mut tokens = Tokens::default();
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            let from = token.as_ptr() as usize - text.as_ptr() as usize;
            tokens.starts.push(from as u32);
            tokens.ends.push((from + token.len()) as u32);
        }
        words.number(text, tokens.starts.len(), &mut tokens, PLAIN);
        tokens
    }

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
        let capitals: u64 =
            (0..=255u8).map(|b| u64::from(lower_bits(u64::from(b) << 24) != 0)).sum();
        assert_eq!(
            (capitals, lower_bits(u64::from_le_bytes(*b"aZ@[Az\x80A"))),
            (26, 0x2000_0020_0000_2000)
        );
    }

    #[test]
    fn long_tokens_keep_their_length() {
        let mut vocabulary = Vocabulary::default();
        for length in [MANY - 1, MANY, MANY + 1, 3 * MANY] {
            let token = "x".repeat(length as usize);
            let tokens = number(&mut vocabulary, &format!("{token} {token} y"));
            assert_eq!(tokens.numbers, [0, 0, 1]);
            assert_eq!(tokens.reach, [0, length, 2 * length, 2 * length + 1]);
            assert_eq!(vocabulary.words()[0].chars, length);
        }
    }

    #[test]
    fn different_tokens_have_different_numbers() {
        let text = "a ab abc abcdefgh abcdefghi abcdefghj abcdefghijklmnop abcdefghijklmnopq \
                    abcdefghijklmnopabcdefghijklmnopx abcdefghijklmnopabcdefghijklmnopy a";
        let numbers = number(&mut Vocabulary::default(), text).numbers;
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    }

    #[test]
    fn runs_of_one_character_are_told_apart() {
        let mut vocabulary = Vocabulary::default();
        let mut tokens = Vec::new();
        for length in 1..100 {
            tokens.extend(
                ["+", "-", "=", "|"].map(|first| first.to_owned() + &"-".repeat(length - 1)),
            );
        }
        let reach = number(&mut vocabulary, &tokens.join(" ")).reach;
        assert!(
            (0..tokens.len()).all(|at| (reach[at + 1] - reach[at]) as usize == tokens[at].len())
        );
        assert_eq!(vocabulary.words().len(), 4 * 99);
    }

    #[test]
    fn a_token_is_counted_anew_in_each_text() {
        let mut vocabulary = Vocabulary::default();
        // Enough different tokens to make the table grow, and to be forgotten.
        for text in 0..3 {
            let tokens: Vec<String> = (0..80_000).map(|place| format!("w{place}")).collect();
            let numbers = number(&mut vocabulary, &(tokens.join(" ") + " w7")).numbers;
            assert!(numbers[..80_000].iter().copied().eq(0..80_000), "text {text}");
            assert_eq!(numbers[80_000], 7, "text {text}");
            assert_eq!(vocabulary.words().len(), 80_000);
            assert_eq!(vocabulary.words()[7].count, 2);
            assert_eq!(vocabulary.words()[8].count, 1);
        }
    }

    #[test]
    fn numbers_are_those_of_a_naive_count() {
        let mut vocabulary = Vocabulary::default();
        let mut state = 1u32;
        for _ in 0..300 {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 8
            };
            let count = next() % 90;
            let tokens: Vec<String> =
                (0..count).map(|_| format!("{}", next() % (1 + next() % 50))).collect();
            let got = number(&mut vocabulary, &tokens.join(" "));
            let mut seen: Vec<&String> = Vec::new();
            for (at, token) in tokens.iter().enumerate() {
                let place = seen.iter().position(|one| *one == token).unwrap_or(seen.len());
                if place == seen.len() {
                    seen.push(token);
                }
                assert_eq!(got.numbers[at] as usize, place);
                assert_eq!(got.looks[at].flags(), IS_WORD);
                assert_eq!((got.reach[at + 1] - got.reach[at]) as usize, token.len());
            }
            assert_eq!(vocabulary.words().len(), seen.len());
            for (word, token) in vocabulary.words().iter().zip(&seen) {
                assert_eq!(word.count as usize, tokens.iter().filter(|one| one == token).count());
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
