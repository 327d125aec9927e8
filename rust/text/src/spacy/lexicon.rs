//! Chunks and tokens that were met, in this text or an earlier one: each chunk is cut once.

use std::ops::Range;

use super::affixed::{BEGINS, patterns};
use super::exceptions::exceptions;
use super::sentences::Kind;
use super::split::Splitter;
use crate::vocabulary::{Judge, hash, look_at};

/// A text begins with at most so many chunks known from texts before it: cutting one anew takes ten
/// times as long as fetching it from the third-level cache.
const REMEMBERED: usize = 1 << 17;
const SLOTS: usize = 1 << 13;

/// A token, whatever its text.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub struct Token {
    /// The text in which it was last met, and its number there.
    text: u32,
    name: u32,
    /// Characters.
    pub chars: u32,
    /// As in `Word`.
    pub flags: u16,
    /// What it is to patterns and to the sentencizer.
    pub look: Look,
}

/// What a token is to patterns and to the sentencizer.
#[derive(Clone, Copy)]
pub struct Look(u16);

const KIND_SHIFT: u32 = 12;

impl Look {
    fn of(token: &str) -> Self {
        Self(patterns().token(token) | (Kind::of(token) as u16) << KIND_SHIFT)
    }

    /// Its number in patterns.
    pub fn pattern(self) -> u16 {
        self.0 & !(3 << KIND_SHIFT)
    }

    /// Whether a pattern may begin with it.
    pub fn begins_pattern(self) -> bool {
        self.0 & BEGINS != 0
    }

    /// What it is to the sentencizer.
    pub fn kind(self) -> Kind {
        match self.0 >> KIND_SHIFT & 3 {
            1 => Kind::Punctuation,
            2 => Kind::Terminal,
            _ => Kind::Word,
        }
    }
}

/// How a chunk is cut.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Cut {
    first: u32,
    count: u32,
}

impl Cut {
    /// The token that all of the chunk is.
    pub fn single(self) -> Option<u32> {
        (self.count == 1).then_some(self.first)
    }

    /// Numbers of its pieces otherwise.
    pub fn pieces(self) -> Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }
}

/// A key and what is known under it.
#[derive(Clone, Copy, Default)]
struct Slot<T> {
    key: u64,
    /// `T::default()` where the slot is free.
    value: T,
}

/// Open addressing by hash, over a power of two.
struct Names<T> {
    slots: Vec<Slot<T>>,
    filled: usize,
}

impl<T: Copy + Default + PartialEq> Default for Names<T> {
    fn default() -> Self {
        Self { slots: vec![Slot::default(); SLOTS], filled: 0 }
    }
}

impl<T: Copy + Default + PartialEq> Names<T> {
    /// The slot of a key, a free one where the key is new.
    #[inline(always)]
    fn find(&self, key: u64) -> (usize, T) {
        let mask = self.slots.len() - 1;
        let mut at = (key >> 32) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.key == key || slot.value == T::default() {
                return (at, slot.value);
            }
            at = (at + 1) & mask;
        }
    }

    /// Fills a free slot that `find` gave.
    fn fill(&mut self, at: usize, key: u64, value: T) {
        self.slots[at] = Slot { key, value };
        self.filled += 1;
        if self.filled * 2 > self.slots.len() {
            let size = self.slots.len() * 2;
            let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
            for slot in old.into_iter().filter(|slot| slot.value != T::default()) {
                let (at, _) = self.find(slot.key);
                self.slots[at] = slot;
            }
        }
    }

    fn clear(&mut self) {
        self.slots.fill(Slot::default());
        self.filled = 0;
    }
}

/// The tables.
#[derive(Default)]
pub struct Lexicon {
    chunks: Names<Cut>,
    /// Token and byte after its last, from the chunk's start.
    pieces: Vec<(u32, u32)>,
    /// By first piece of a chunk: the text in which the chunk was last met, and where its pieces
    /// stand there.
    locals: Vec<(u32, u32)>,
    /// Number of each token plus one.
    names: Names<u32>,
    tokens: Vec<Token>,
    text: u32,
    splitter: Splitter,
    cuts: Vec<u32>,
}

impl Lexicon {
    /// Begins a text.
    pub fn next_text(&mut self) {
        if self.chunks.filled > REMEMBERED || self.text == u32::MAX {
            self.chunks.clear();
            self.pieces.clear();
            self.locals.clear();
            self.names.clear();
            self.tokens.clear();
            self.text = 0;
        }
        self.text += 1;
    }

    /// How a chunk is cut.
    #[inline(always)]
    pub fn chunk(&mut self, text: &str, from: usize, to: usize, judge: Judge<'_>) -> Cut {
        let key = hash(text.as_bytes(), from, to) ^ judge.kind();
        let (at, mut known) = self.chunks.find(key);
        if known == Cut::default() {
            known = self.cut(&text[from..to], judge);
            self.chunks.fill(at, key, known);
        }
        known
    }

    #[inline(never)]
    fn cut(&mut self, chunk: &str, judge: Judge<'_>) -> Cut {
        let mut cuts = std::mem::take(&mut self.cuts);
        cuts.clear();
        self.splitter.split(chunk, Some(exceptions()), &mut cuts);
        let count = cuts.len() as u32;
        let mut first = self.pieces.len() as u32;
        if count == 1 {
            first = self.token(chunk, judge);
        } else {
            let mut from = 0;
            for &to in &cuts {
                let token = self.token(&chunk[from as usize..to as usize], judge);
                self.pieces.push((token, to));
                self.locals.push((0, 0));
                from = to;
            }
        }
        self.cuts = cuts;
        Cut { first, count }
    }

    /// Where the pieces of a chunk stand in this text, if it was met there.
    #[inline(always)]
    pub fn local(&self, cut: Cut) -> Option<u32> {
        let (text, first) = self.locals[cut.first as usize];
        (text == self.text).then_some(first)
    }

    /// Says where they stand.
    #[inline(always)]
    pub fn set_local(&mut self, cut: Cut, first: u32) {
        self.locals[cut.first as usize] = (self.text, first);
    }

    /// A piece of a chunk: its token, and the byte after its last, from the chunk's start.
    #[inline(always)]
    pub fn piece(&self, at: usize) -> (u32, u32) {
        self.pieces[at]
    }

    /// The number of a token, for all texts.
    pub fn token(&mut self, token: &str, judge: Judge<'_>) -> u32 {
        let key = hash(token.as_bytes(), 0, token.len()) ^ judge.kind();
        let (at, known) = self.names.find(key);
        if known > 0 {
            return known - 1;
        }
        let (chars, flags) = look_at(token, judge);
        self.tokens.push(Token { text: 0, name: 0, chars, flags, look: Look::of(token) });
        let number = self.tokens.len() as u32;
        self.names.fill(at, key, number);
        number - 1
    }

    /// The number of a token in this text, `fresh` where it is new to it.
    #[inline(always)]
    pub fn name(&mut self, token: u32, fresh: u32) -> (u32, Token) {
        let token = &mut self.tokens[token as usize];
        if token.text != self.text {
            token.text = self.text;
            token.name = fresh;
        }
        (token.name, *token)
    }
}
