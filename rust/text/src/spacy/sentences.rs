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
struct Sentences {
    /// Sentences begun.
    count: u64,
    ended: bool,
}

impl Sentences {
    /// Gives the next token; whether it begins a sentence.
    fn push(&mut self, kind: Kind) -> bool {
        let begins = self.count == 0 || self.ended && kind == Kind::Word;
        if begins {
            self.count += 1;
            self.ended = false;
        }
        self.ended |= kind == Kind::Terminal;
        begins
    }
}

/// Sentences of `from..to`, one at least. `next` is a token at or before the first of them, and is
/// moved on.
pub fn count(text: &str, words: &Words, from: usize, to: usize, next: &mut usize) -> u64 {
    while words.spans.get(*next).is_some_and(|&(start, _)| (start as usize) < from) {
        *next += 1;
    }
    walk(text, words, from, to, next, |_| {}).max(1)
}

/// The pieces into which sentences cut `text`, as datatrove cuts it: each with the blanks before it,
/// the last one to the end.
pub fn pieces(text: &str, words: &Words, mut piece: impl FnMut(usize, usize)) {
    let mut from = 0;
    walk(text, words, 0, text.len(), &mut 0, |end| {
        if end > 0 {
            piece(from, end);
        }
        from = end;
    });
    piece(from, text.len());
}

/// Counts the sentences of `from..to`, giving for each the end of the token before it.
fn walk(
    text: &str,
    words: &Words,
    from: usize,
    to: usize,
    next: &mut usize,
    mut begins: impl FnMut(usize),
) -> u64 {
    let bytes = text.as_bytes();
    let mut sentences = Sentences::default();
    let mut end = from;
    let blanks =
        |sentences: &mut Sentences, end: usize, until: usize, begins: &mut dyn FnMut(usize)| {
            // A plain blank after a token belongs to it.
            let token = end + usize::from(end > from && bytes.get(end) == Some(&b' '));
            if until > token && sentences.push(Kind::Word) {
                begins(end);
            }
            if until > token { until } else { end }
        };
    while let Some(&(start, stop)) = words.spans.get(*next) {
        let (start, stop) = (start as usize, stop as usize);
        if stop > to {
            break;
        }
        end = blanks(&mut sentences, end, start, &mut begins);
        if sentences.push(words.looks[words.tokens[*next] as usize].kind()) {
            begins(end);
        }
        end = stop;
        *next += 1;
    }
    blanks(&mut sentences, end, to, &mut begins);
    sentences.count
}
