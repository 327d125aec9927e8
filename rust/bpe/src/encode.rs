//! Text to ids.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::batch::{Pieces, SHORT};
use crate::cache::{Cache, Caches, Merge};
use crate::characters::Progress;
use crate::patterns;
use crate::pieces::Ends;
use crate::special::{Allowed, Part};
use crate::tokenizer::{Alphabet, Tokenizer};
use crate::unicode::nfc;

impl Merge for &Tokenizer {
    fn one(&self, piece: &[u8], symbols: &mut Vec<u32>, ids: &mut Vec<u32>) {
        symbols.clear();
        match &self.alphabet {
            Alphabet::Bytes(bytes) => {
                symbols.extend(piece.iter().map(|&byte| bytes.ids[usize::from(byte)]));
            }
            Alphabet::Characters(characters) => characters.symbols(piece, |id| symbols.push(id)),
        }
        self.merges.apply(symbols, ids);
    }

    fn is_encoding(&self, left: u32, right: u32, symbols: &mut Vec<u32>) -> bool {
        let both = [&*self.pieces[left as usize], &*self.pieces[right as usize]].concat();
        let mut ids = Vec::new();
        self.one(&both, symbols, &mut ids);
        ids == [left, right]
    }

    fn many(&self, pieces: &[&[u8]], done: impl FnMut(usize, &[u32])) {
        let mut batch = Short { tokenizer: self, pieces, ascii: self.ascii_ranks(), done };
        self.merges.apply_batch(pieces.len(), &mut batch);
    }
}

/// Short pieces that are merged together.
struct Short<'t, F> {
    tokenizer: &'t Tokenizer,
    pieces: &'t [&'t [u8]],
    /// Ranks of pairs of ASCII characters.
    ascii: &'t [u32],
    done: F,
}

impl<F: FnMut(usize, &[u32])> Pieces for Short<'_, F> {
    #[inline(always)]
    fn start(
        &mut self,
        piece: usize,
        symbols: &mut [u32; SHORT],
        ranks: &mut [u32; SHORT],
    ) -> usize {
        let (piece, mut count) = (self.pieces[piece], 0);
        match &self.tokenizer.alphabet {
            Alphabet::Bytes(bytes) => {
                for (symbol, &byte) in symbols.iter_mut().zip(piece) {
                    *symbol = bytes.ids[usize::from(byte)];
                }
                count = piece.len().min(SHORT);
            }
            Alphabet::Characters(characters) => characters.symbols(piece, |id| {
                symbols[count % SHORT] = id;
                count += 1;
            }),
        }
        let merges = &self.tokenizer.merges;
        if count == piece.len() {
            for at in 1..count.min(SHORT) {
                let (left, right) = (piece[at - 1], piece[at]);
                ranks[at - 1] = match left < 0x80 && right < 0x80 {
                    true => self.ascii[usize::from(left) << 7 | usize::from(right)],
                    false => merges.rank(symbols[at - 1], symbols[at]),
                };
            }
        } else {
            for at in 1..count.min(SHORT) {
                ranks[at - 1] = merges.rank(symbols[at - 1], symbols[at]);
            }
        }
        count
    }

    #[inline(always)]
    fn finish(&mut self, piece: usize, ids: &[u32]) {
        (self.done)(piece, ids);
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
        let (text, mut start, mut ends) = (text.as_ref(), 0, Ends::default());
        let (mut by_pattern, mut by_character) =
            (patterns::Progress::default(), Progress::default());
        while start < text.len() {
            let ends = match &self.alphabet {
                Alphabet::Bytes(bytes) => {
                    let junctions = (!text.is_ascii()).then(|| self.junctions(bytes));
                    bytes.pattern.split(text, &mut by_pattern, junctions, &mut ends);
                    ends.take()
                }
                Alphabet::Characters(characters) => {
                    characters.split(text, &mut by_character, &mut ends);
                    ends.take()
                }
            };
            cache.extend(text.as_bytes(), start, ends, ids, self);
            start = ends.last().copied().unwrap_or(text.len());
        }
    }

    /// Encodes many texts in parallel: all ids in order, and where each text's ids end.
    #[must_use]
    pub fn encode_batch(
        &self,
        texts: &[Option<&str>],
        allowed: &Allowed,
        caches: &Caches,
    ) -> (Vec<u32>, Vec<i64>) {
        // Runs of texts of similar weight, so that a cache serves many of them.
        let total: usize = texts.iter().map(|text| text.map_or(0, str::len)).sum();
        let weight = match rayon::current_num_threads() {
            1 => usize::MAX,
            threads => (total / (threads * 8)).max(1 << 15),
        };
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
        let mut parts: Vec<(Vec<u32>, Vec<i64>)> = runs
            .par_windows(2)
            .map(|run| {
                let texts = &texts[run[0]..run[1]];
                let bytes: usize = texts.iter().map(|text| text.map_or(0, str::len)).sum();
                let (mut ids, mut ends) = (Vec::with_capacity(bytes / 3), vec![0]);
                caches.lend(|cache| {
                    for text in texts {
                        self.encode_into(text.unwrap_or(""), allowed, cache, &mut ids);
                        ends.push(ids.len() as i64);
                    }
                });
                (ids, ends)
            })
            .collect();
        if parts.len() == 1 {
            return parts.swap_remove(0);
        }
        let mut ids = Vec::with_capacity(parts.iter().map(|(ids, _)| ids.len()).sum());
        let mut offsets = Vec::with_capacity(texts.len() + 1);
        offsets.push(0);
        for (part, ends) in parts {
            let base = ids.len() as i64;
            offsets.extend(ends[1..].iter().map(|end| base + end));
            ids.extend_from_slice(&part);
        }
        (ids, offsets)
    }
}
