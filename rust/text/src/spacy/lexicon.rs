//! Chunks and tokens that were met, in this text or an earlier one: each chunk is cut once.

use std::ops::Range;

use super::affixed::{BEGINS, patterns};
use super::exceptions::exceptions;
use super::sentences::Kind;
use super::split::Splitter;
use crate::vocabulary::{Judge, hash, look_at};

/// A text begins with at most so many chunks known from texts before it.
const REMEMBERED: usize = 1 << 15;
const SLOTS: usize = 1 << 17;

/// A token, whatever its text.
#[derive(Clone, Copy)]
pub struct Token {
    /// The text in which it was last met, and its number there.
    text: u32,
    name: u32,
    /// Characters.
    pub chars: u32,
    /// As in `Word`.
    pub flags: u16,
    /// Its number in patterns.
    pub pattern: u16,
    /// What it is to the sentencizer.
    pub kind: Kind,
}

impl Token {
    /// Whether a pattern may begin with it.
    pub fn begins_pattern(&self) -> bool {
        self.pattern & BEGINS != 0
    }
}

/// Open addressing by hash, over a power of two.
#[derive(Clone, Copy, Default)]
struct Slot {
    key: u64,
    /// Number plus one; 0 is free.
    number: u32,
}

#[derive(Default)]
struct Names {
    slots: Vec<Slot>,
    filled: usize,
}

impl Names {
    /// The number under a key, `fresh` where it is new.
    #[inline(always)]
    fn get_or_insert(&mut self, key: u64, fresh: u32) -> u32 {
        if self.filled * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = (key >> 32) as usize;
        loop {
            let slot = &mut self.slots[at & mask];
            if slot.number == 0 {
                *slot = Slot { key, number: fresh + 1 };
                self.filled += 1;
                return fresh;
            }
            if slot.key == key {
                return slot.number - 1;
            }
            at += 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        let mask = size - 1;
        for slot in old.into_iter().filter(|slot| slot.number != 0) {
            let mut at = (slot.key >> 32) as usize;
            while self.slots[at & mask].number != 0 {
                at += 1;
            }
            self.slots[at & mask] = slot;
        }
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.filled = 0;
    }
}

/// The tables.
#[derive(Default)]
pub struct Lexicon {
    chunk_names: Names,
    /// Where the tokens of each chunk stand in `pieces`; a last one says where they end.
    chunks: Vec<u32>,
    /// Token and byte after its last, from the chunk's start.
    pieces: Vec<(u32, u32)>,
    token_names: Names,
    tokens: Vec<Token>,
    text: u32,
    splitter: Splitter,
    cuts: Vec<u32>,
}

impl Lexicon {
    /// Begins a text.
    pub fn next_text(&mut self) {
        if self.chunks.len() > REMEMBERED || self.chunks.is_empty() || self.text == u32::MAX {
            self.chunk_names.clear();
            self.token_names.clear();
            self.tokens.clear();
            self.pieces.clear();
            self.chunks.clear();
            self.chunks.push(0);
            self.text = 0;
        }
        self.text += 1;
    }

    /// Numbers of the pieces of a chunk.
    pub fn chunk(&mut self, text: &str, from: usize, to: usize, judge: Judge<'_>) -> Range<usize> {
        let key = hash(text.as_bytes(), from, to) ^ judge.kind();
        let fresh = self.chunks.len() as u32 - 1;
        let number = self.chunk_names.get_or_insert(key, fresh);
        if number == fresh {
            self.cut(&text[from..to], judge);
        }
        self.chunks[number as usize] as usize..self.chunks[number as usize + 1] as usize
    }

    #[inline(never)]
    fn cut(&mut self, chunk: &str, judge: Judge<'_>) {
        let mut cuts = std::mem::take(&mut self.cuts);
        cuts.clear();
        self.splitter.split(chunk, Some(exceptions()), &mut cuts);
        let mut from = 0;
        for &to in &cuts {
            let token = self.token(&chunk[from as usize..to as usize], judge);
            self.pieces.push((token, to));
            from = to;
        }
        self.chunks.push(self.pieces.len() as u32);
        self.cuts = cuts;
    }

    /// A piece of a chunk: its token, and the byte after its last, from the chunk's start.
    #[inline(always)]
    pub fn piece(&self, at: usize) -> (u32, u32) {
        self.pieces[at]
    }

    /// The number of a token, for all texts.
    pub fn token(&mut self, token: &str, judge: Judge<'_>) -> u32 {
        let key = hash(token.as_bytes(), 0, token.len()) ^ judge.kind();
        let fresh = self.tokens.len() as u32;
        let number = self.token_names.get_or_insert(key, fresh);
        if number == fresh {
            let (chars, flags) = look_at(token, judge);
            let (pattern, kind) = (patterns().token(token), Kind::of(token));
            self.tokens.push(Token { text: 0, name: 0, chars, flags, pattern, kind });
        }
        number
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
