//! The different tokens of a text: each gets a number, and is looked at once, when it is new.

mod hash;
mod look;

pub use hash::{hash, key};
use look::MANY;
pub use look::{
    CLAUSE_SHIFT, HAS_LETTER, IN_PHRASE, IS_CAPITALS, IS_STOP_WORD, IS_UNIT, IS_WORD, Judge, Look,
    STOP_WORD_SHIFT, look_at,
};

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
        // Fuller than at a text's start: only a text with many tokens of its own makes it grow.
        if self.filled * 4 > self.slots.len() * 3 {
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
}
