//! Exceptions that the rules had cut: found again over the tokens of a whole text.
//!
//! spaCy looks for the tokens into which its rules cut an exception, and puts the exception's own
//! tokens in their place: `x-a.` is cut into `x - a .` and ends as `x - a.`. It looks over single
//! blanks too; what it finds there is not put in place, but hides what overlaps it.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::exceptions::{Exceptions, exceptions};
use super::split::{Splitter, is_cut};

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| Patterns::build(exceptions()));

/// The patterns, built once.
pub fn patterns() -> &'static Patterns {
    &PATTERNS
}

/// A token that may begin a pattern.
pub const BEGINS: u16 = 1 << 15;

/// Sequences of tokens, as a trie.
pub struct Patterns {
    /// Numbers (from 1) of the tokens that occur in patterns, with `BEGINS`.
    tokens: HashMap<Box<str>, u16>,
    /// Longest of them in bytes.
    longest: usize,
    /// From node and token to node; node 0 is the root.
    next: HashMap<(u16, u16), u16>,
    /// The exception that ends at a node.
    ends: Vec<Option<u32>>,
}

/// A pattern among the tokens of a text.
#[derive(Clone, Copy, Debug)]
pub struct Match {
    /// Number of its first token.
    pub from: usize,
    /// Number of the token after it.
    pub to: usize,
    /// The exception.
    pub exception: u32,
}

impl Patterns {
    fn build(exceptions: &Exceptions) -> Self {
        let mut patterns =
            Self { tokens: HashMap::new(), longest: 0, next: HashMap::new(), ends: vec![None] };
        let (mut splitter, mut cuts) = (Splitter::default(), Vec::new());
        for (number, text) in exceptions.texts().enumerate().filter(|(_, text)| is_cut(text)) {
            cuts.clear();
            splitter.split(text, None, &mut cuts);
            // One token is what it was.
            if cuts.len() > 1 {
                patterns.add(text, &cuts, number as u32);
            }
        }
        patterns
    }

    fn add(&mut self, text: &str, cuts: &[u32], number: u32) {
        let (mut node, mut from) = (0, 0);
        for &to in cuts {
            let token = &text[from..to as usize];
            let fresh = self.tokens.len() as u16 + 1;
            let id = self.tokens.entry(token.into()).or_insert(fresh);
            if from == 0 {
                *id |= BEGINS;
            }
            self.longest = self.longest.max(token.len());
            from = to as usize;
            let fresh = self.ends.len() as u16;
            node = *self.next.entry((node, *id & !BEGINS)).or_insert(fresh);
            if node == fresh {
                self.ends.push(None);
            }
        }
        self.ends[usize::from(node)] = Some(number);
    }

    /// The number of a token that occurs in patterns, with `BEGINS` where it begins one; else 0.
    pub fn token(&self, text: &str) -> u16 {
        if text.len() > self.longest { 0 } else { self.tokens.get(text).copied().unwrap_or(0) }
    }

    /// Adds the patterns that begin at token `from`. `follows` gives the number of the token after
    /// the given one where nothing but a blank at most parts them.
    pub fn find(
        &self,
        from: usize,
        first: u16,
        follows: impl Fn(usize) -> Option<u16>,
        found: &mut Vec<Match>,
    ) {
        let (mut node, mut at, mut token) = (0, from, first);
        while let Some(&next) = self.next.get(&(node, token & !BEGINS)) {
            node = next;
            if let Some(exception) = self.ends[usize::from(node)] {
                found.push(Match { from, to: at + 1, exception });
            }
            match follows(at) {
                Some(following) => (at, token) = (at + 1, following),
                None => break,
            }
        }
    }
}

/// Of overlapping patterns keeps the longest, of equally long ones the first. As spaCy does, only
/// the first and last token of a pattern are asked, and what was left out hides others all the same.
pub fn choose(found: &mut Vec<Match>, hidden: &mut Vec<bool>, tokens: usize) {
    found.sort_unstable_by_key(|m| (std::cmp::Reverse(m.to - m.from), m.from));
    hidden.clear();
    hidden.resize(tokens, false);
    found.retain(|m| {
        let free = !hidden[m.from] && !hidden[m.to - 1];
        hidden[m.from..m.to].fill(true);
        free
    });
    found.sort_unstable_by_key(|m| m.from);
}
