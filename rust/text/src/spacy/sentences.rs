//! spaCy's rule-based sentencizer.
//!
//! A sentence ends after a token that is one ending mark, and after the punctuation that follows it.
//! Blanks count as a token where they are more than one plain blank.

use super::Words;
use super::classes::{PUNCTUATION, TERMINAL, table};

/// What a token is to the sentencizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It begins a sentence after an ending mark.
    #[default]
    Word,
    /// Punctuation only.
    Punctuation,
    /// A mark that ends a sentence.
    Terminal,
}

impl Kind {
    pub fn of(token: &str) -> Self {
        let table = table();
        let mut characters = token.chars();
        let first = characters.next().map_or(0, |c| table[c as usize]);
        if first & TERMINAL != 0 && characters.next().is_none() {
            return Self::Terminal;
        }
        if token.chars().all(|c| table[c as usize] & PUNCTUATION != 0) {
            Self::Punctuation
        } else {
            Self::Word
        }
    }
}

/// Where sentences begin, as tokens are given in order.
#[derive(Default)]
pub struct Sentences {
    /// Sentences begun.
    pub count: u64,
    ended: bool,
}

impl Sentences {
    /// Gives the next token; whether it begins a sentence.
    pub fn push(&mut self, kind: Kind) -> bool {
        let begins = self.count == 0 || self.ended && kind == Kind::Word;
        if begins {
            self.count += 1;
            self.ended = false;
        }
        self.ended |= kind == Kind::Terminal;
        begins
    }
}

/// Sentences of `from..to`, one at least; `next` is the first token at or after `from` and is moved on.
pub fn count(text: &str, words: &Words, from: usize, to: usize, next: &mut usize) -> u64 {
    let bytes = text.as_bytes();
    let mut sentences = Sentences::default();
    let mut end = from;
    while let Some(&(start, stop)) = words.spans.get(*next) {
        let (start, stop) = (start as usize, stop as usize);
        if stop > to {
            break;
        }
        // A plain blank after a token belongs to it.
        let spaced = end > from && bytes.get(end) == Some(&b' ');
        if start > end + usize::from(spaced) {
            sentences.push(Kind::Word);
        }
        sentences.push(words.looks[words.tokens[*next] as usize].kind);
        end = stop;
        *next += 1;
    }
    let spaced = end > from && bytes.get(end) == Some(&b' ');
    if to > end + usize::from(spaced) {
        sentences.push(Kind::Word);
    }
    sentences.count.max(1)
}
