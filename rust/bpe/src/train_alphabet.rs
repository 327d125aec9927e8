//! The symbols that training starts from: bytes, or the characters of the text beside them.

use rustc_hash::FxHashMap;

use crate::bytelevel::byte_to_char;
use crate::characters::{Characters, SPACE_MARK};
use crate::tokenizer::{Alphabet, Splitter};
use crate::{BpeError, Pattern, WordCounts};

/// What merging starts from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Symbols {
    /// The 256 bytes; the pattern cuts text when it is encoded, too.
    Bytes,
    /// Characters, with the bytes for all others (SentencePiece's byte fallback); encoding knows no
    /// pattern.
    Characters {
        /// Share of the text's characters that get a token of their own, the most frequent ones
        /// first; 1 is all.
        coverage: f64,
    },
}

/// Ids before the first merge: special tokens, bytes, characters.
pub(crate) struct Base {
    pub(crate) pieces: Vec<Box<[u8]>>,
    pub(crate) byte_ids: [u32; 256],
    /// In order of id, which is that of their code points; a space stands as its mark.
    pub(crate) characters: Option<Vec<char>>,
    ids: FxHashMap<char, u32>,
}

impl Base {
    /// The base for some counts.
    pub(crate) fn of(
        words: &WordCounts,
        symbols: Symbols,
        first: &[String],
    ) -> Result<Self, BpeError> {
        let characters = match symbols {
            Symbols::Bytes => None,
            Symbols::Characters { coverage } => Some(covering(words, coverage)?),
        };
        Ok(Self::new(first, characters))
    }

    pub(crate) fn new(first: &[String], characters: Option<Vec<char>>) -> Self {
        let mut pieces: Vec<Box<[u8]>> = first.iter().map(|name| name.as_bytes().into()).collect();
        let mut bytes: Vec<u8> = (0..=255).collect();
        if characters.is_none() {
            // In the order of the characters that stand for them, as the reference does.
            bytes.sort_by_key(|&byte| byte_to_char(byte));
        }
        let mut byte_ids = [0; 256];
        for byte in bytes {
            byte_ids[usize::from(byte)] = pieces.len() as u32;
            pieces.push([byte].into());
        }
        let mut ids = FxHashMap::default();
        for &c in characters.iter().flatten() {
            ids.insert(c, pieces.len() as u32);
            pieces.push(unmarked(c).encode_utf8(&mut [0; 4]).as_bytes().into());
        }
        Self { pieces, byte_ids, characters, ids }
    }

    /// Calls `each` with the symbols of a piece; a character without a token parts it in two, for
    /// its bytes join nothing.
    pub(crate) fn symbols(&self, piece: &[u8], held: &mut Vec<u32>, mut each: impl FnMut(&[u32])) {
        held.clear();
        if self.characters.is_none() {
            held.extend(piece.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
            return each(held);
        }
        for c in piece.utf8_chunks().flat_map(|chunk| chunk.valid().chars()) {
            match self.ids.get(&marked(c)) {
                Some(&id) => held.push(id),
                None => {
                    each(held);
                    held.clear();
                }
            }
        }
        each(held);
    }

    /// How a tokenizer of these pieces reads text.
    pub(crate) fn alphabet(
        &self,
        pieces: &[Box<[u8]>],
        special: usize,
        pattern: Pattern,
    ) -> Alphabet {
        if self.characters.is_none() {
            return Alphabet::bytes(Splitter::Known(pattern), self.byte_ids);
        }
        let written: Vec<(String, u32)> = (pieces.iter().zip(0..))
            .skip(special + 256)
            .map(|(piece, id)| (String::from_utf8_lossy(piece).chars().map(marked).collect(), id))
            .collect();
        let vocabulary = written.iter().map(|(text, id)| (text.as_str(), *id));
        Alphabet::Characters(Box::new(Characters::new(vocabulary, self.byte_ids)))
    }
}

/// The most frequent characters, in order of their code points.
fn covering(words: &WordCounts, coverage: f64) -> Result<Vec<char>, BpeError> {
    let mut counts: FxHashMap<char, u64> = FxHashMap::default();
    let mut total = 0u64;
    words.each(|piece, count| {
        for c in piece.utf8_chunks().flat_map(|chunk| chunk.valid().chars()) {
            *counts.entry(marked(c)).or_default() += count;
            total += count;
        }
    })?;
    // A space can always be written.
    counts.entry(SPACE_MARK).or_default();
    let mut sorted: Vec<(char, u64)> = counts.into_iter().collect();
    sorted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut covered = 0;
    let kept = sorted.iter().take_while(|&&(_, count)| {
        let enough = coverage < 1.0 && covered as f64 >= coverage * total as f64;
        covered += count;
        !enough
    });
    let mut characters: Vec<char> = kept.map(|&(c, _)| c).collect();
    if !characters.contains(&SPACE_MARK) {
        characters.push(SPACE_MARK);
    }
    characters.sort_unstable();
    Ok(characters)
}

fn marked(c: char) -> char {
    if c == ' ' { SPACE_MARK } else { c }
}

fn unmarked(c: char) -> char {
    if c == SPACE_MARK { ' ' } else { c }
}
