//! Text to ids.

use std::borrow::Cow;

use rustc_hash::{FxHashMap, FxHashSet};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::special::{Allowed, Part};
use crate::tokenizer::{Alphabet, Tokenizer};
use crate::{BpeError, Cache};

/// The mark that stands for a space in SentencePiece-style vocabularies.
pub(crate) const SPACE_MARK: char = '\u{2581}';

/// A vocabulary over characters: their ids, byte fallback, and which neighbours can ever join.
///
/// Without a pattern merging runs over a whole document. But a token is a string of the vocabulary,
/// so no merge crosses a pair of neighbours that occurs inside no token: cutting there first gives
/// the same ids in pieces that can be cached.
#[derive(Debug, Clone)]
pub struct Characters {
    ids: FxHashMap<char, u32>,
    ascii_ids: [u32; 128],
    byte_ids: [u32; 256],
    joins: FxHashSet<u64>,
    ascii_joins: [u128; 128],
}

const UNKNOWN: u32 = u32::MAX;

impl Characters {
    /// From all `(string, id)` of the vocabulary and the ids of the 256 byte tokens.
    pub(crate) fn new<'v>(
        vocabulary: impl IntoIterator<Item = (&'v str, u32)>,
        byte_ids: [u32; 256],
    ) -> Self {
        let mut this = Self {
            ids: FxHashMap::default(),
            ascii_ids: [UNKNOWN; 128],
            byte_ids,
            joins: FxHashSet::default(),
            ascii_joins: [0; 128],
        };
        for (token, id) in vocabulary {
            let mut characters = token.chars();
            let Some(mut previous) = characters.next() else { continue };
            if characters.as_str().is_empty() {
                this.ids.insert(previous, id);
                if previous.is_ascii() {
                    this.ascii_ids[previous as usize] = id;
                }
                continue;
            }
            for next in characters {
                if previous.is_ascii() && next.is_ascii() {
                    this.ascii_joins[previous as usize] |= 1 << (next as u32);
                } else {
                    this.joins.insert(u64::from(previous) << 32 | u64::from(next));
                }
                previous = next;
            }
        }
        this
    }

    #[inline]
    fn join(&self, left: char, right: char) -> bool {
        if left.is_ascii() && right.is_ascii() {
            self.ascii_joins[left as usize] >> (right as u32) & 1 == 1
        } else {
            self.joins.contains(&(u64::from(left) << 32 | u64::from(right)))
        }
    }

    /// Calls `piece` with stretches of text that no merge crosses.
    fn split<'t>(&self, text: &'t str, mut piece: impl FnMut(&'t str)) {
        let (mut start, mut previous) = (0, None);
        for (position, c) in text.char_indices() {
            let c = if c == ' ' { SPACE_MARK } else { c };
            if let Some(left) = previous
                && !self.join(left, c)
            {
                piece(&text[start..position]);
                start = position;
            }
            previous = Some(c);
        }
        if start < text.len() {
            piece(&text[start..]);
        }
    }

    /// The symbols of a piece before merging.
    fn symbols(&self, piece: &str, symbols: &mut Vec<u32>) {
        for c in piece.chars() {
            let c = if c == ' ' { SPACE_MARK } else { c };
            let id = if c.is_ascii() {
                self.ascii_ids[c as usize]
            } else {
                self.ids.get(&c).copied().unwrap_or(UNKNOWN)
            };
            if id == UNKNOWN {
                let mut bytes = [0; 4];
                let bytes = c.encode_utf8(&mut bytes).bytes();
                symbols.extend(bytes.map(|byte| self.byte_ids[usize::from(byte)]));
            } else {
                symbols.push(id);
            }
        }
    }
}

impl Tokenizer {
    /// Appends the ids of `text` to `ids`; `allowed` tokens become their ids, all else is text.
    pub fn encode_into(
        &self,
        text: &str,
        allowed: &Allowed,
        cache: &mut Cache,
        ids: &mut Vec<u32>,
    ) {
        allowed.split(text, |part| match part {
            Part::Token(id) => ids.push(id),
            Part::Text(text) => self.encode_text(text, cache, ids),
        });
    }

    /// The ids of `text`.
    #[must_use]
    pub fn encode(&self, text: &str, allowed: &Allowed) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_into(text, allowed, &mut Cache::default(), &mut ids);
        ids
    }

    fn encode_text(&self, text: &str, cache: &mut Cache, ids: &mut Vec<u32>) {
        let text = if self.nfc { nfc(text) } else { Cow::Borrowed(text) };
        match &self.alphabet {
            Alphabet::Bytes(pattern, byte_ids) => pattern.split(&text, |piece| {
                cache.extend(piece.as_bytes(), ids, |symbols| {
                    symbols.extend(piece.bytes().map(|byte| byte_ids[usize::from(byte)]));
                    self.merges.apply(symbols);
                });
            }),
            Alphabet::Characters(characters) => characters.split(&text, |piece| {
                cache.extend(piece.as_bytes(), ids, |symbols| {
                    characters.symbols(piece, symbols);
                    self.merges.apply(symbols);
                });
            }),
        }
    }

    /// Encodes many texts in parallel: all ids in order, and where each text's ids end.
    ///
    /// # Errors
    /// None at present; kept for backends that can fail.
    pub fn encode_batch(
        &self,
        texts: &[Option<&str>],
        allowed: &Allowed,
    ) -> Result<(Vec<u32>, Vec<i64>), BpeError> {
        use rayon::prelude::*;
        // Runs of texts of similar weight, so that a cache serves many of them.
        let total: usize = texts.iter().map(|text| text.map_or(0, str::len)).sum();
        let weight = (total / (rayon::current_num_threads() * 4)).max(1 << 16);
        let mut runs = vec![0];
        let mut sum = 0;
        for (index, text) in texts.iter().enumerate() {
            sum += text.map_or(0, str::len);
            if sum >= weight {
                runs.push(index + 1);
                sum = 0;
            }
        }
        runs.push(texts.len());
        let parts: Vec<(Vec<u32>, Vec<usize>)> = runs
            .par_windows(2)
            .map_init(Cache::default, |cache, run| {
                let (mut ids, mut ends) = (Vec::new(), Vec::new());
                for text in &texts[run[0]..run[1]] {
                    self.encode_into(text.unwrap_or(""), allowed, cache, &mut ids);
                    ends.push(ids.len());
                }
                (ids, ends)
            })
            .collect();
        let mut ids = Vec::with_capacity(parts.iter().map(|(ids, _)| ids.len()).sum());
        let mut offsets = Vec::with_capacity(texts.len() + 1);
        offsets.push(0);
        for (part, ends) in parts {
            let base = ids.len();
            offsets.extend(ends.into_iter().map(|end| (base + end) as i64));
            ids.extend_from_slice(&part);
        }
        Ok((ids, offsets))
    }
}

fn nfc(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}
