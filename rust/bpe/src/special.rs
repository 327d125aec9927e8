//! Added tokens: strings that stand for one id when, and only when, the caller allows them.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::BpeError;

/// A token that is matched as a whole string before any splitting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedToken {
    /// Its written form.
    pub content: String,
    /// Its id.
    pub id: u32,
    /// Whether it is a control token (left out when decoding for people).
    pub special: bool,
    /// Swallows white space before it.
    pub lstrip: bool,
    /// Swallows white space after it.
    pub rstrip: bool,
    /// Matches only between word boundaries.
    pub single_word: bool,
    /// Is looked for in the normalised text, not in the text as it is.
    pub normalized: bool,
}

impl AddedToken {
    /// A control token without stripping.
    #[must_use]
    pub fn control(content: impl Into<String>, id: u32) -> Self {
        Self {
            content: content.into(),
            id,
            special: true,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
        }
    }
}

/// Strings that are looked for in a text.
#[derive(Debug, Clone, Default)]
pub struct Group {
    matcher: Option<AhoCorasick>,
    tokens: Vec<AddedToken>,
}

/// The added tokens that one call may find in its text.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// Looked for in the text as it is.
    pub(crate) raw: Group,
    /// Looked for, after those, in the normalised text.
    pub(crate) normalized: Group,
}

/// A stretch of text between added tokens, or one of them.
pub enum Part {
    /// Ordinary text.
    Text(Range<usize>),
    /// An added token's id.
    Token(u32, Range<usize>),
}

impl Allowed {
    /// No token may be found: the text is text, whatever it spells.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The first of the tokens in a text, if there is one.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        let mut first: Option<(usize, u32)> = None;
        for group in [&self.raw, &self.normalized] {
            group.split(text, |part| {
                if let Part::Token(id, range) = part
                    && first.is_none_or(|(at, _)| range.start < at)
                {
                    first = Some((range.start, id));
                }
            });
        }
        first.map(|(_, id)| id)
    }
}

impl Group {
    /// These tokens may be found; where two start together the longer wins.
    ///
    /// # Errors
    /// The tokens are too large for a matcher.
    pub fn new(tokens: impl IntoIterator<Item = AddedToken>) -> Result<Self, BpeError> {
        let tokens: Vec<_> = tokens.into_iter().filter(|t| !t.content.is_empty()).collect();
        if tokens.is_empty() {
            return Ok(Self::default());
        }
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| &token.content))
            .map_err(|error| BpeError::malformed("added_tokens", error.to_string()))?;
        Ok(Self { matcher: Some(matcher), tokens })
    }

    pub(crate) fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// Calls `part` with the text's parts in order.
    pub fn split(&self, text: &str, mut part: impl FnMut(Part)) {
        let mut done = 0;
        if let Some(matcher) = &self.matcher {
            for found in matcher.find_iter(text) {
                let token = &self.tokens[found.pattern().as_usize()];
                let (mut start, mut end) = (found.start(), found.end());
                if start < done || (token.single_word && !stands_alone(text, start, end)) {
                    continue;
                }
                if token.lstrip {
                    start = done + text[done..start].trim_end().len();
                }
                if token.rstrip {
                    end = text.len() - text[end..].trim_start().len();
                }
                if start > done {
                    part(Part::Text(done..start));
                }
                part(Part::Token(token.id, start..end));
                done = end;
            }
        }
        if done < text.len() {
            part(Part::Text(done..text.len()));
        }
    }
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    !text[..start].chars().next_back().is_some_and(is_word)
        && !text[end..].chars().next().is_some_and(is_word)
}
