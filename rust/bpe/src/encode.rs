//! Text to ids.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::batch::{Pieces, SHORT};
use crate::cache::{Cache, Merge};
use crate::caches::Caches;
use crate::characters::Progress;
use crate::keys::piece_of;
use crate::patterns;
use crate::pieces::Ends;
use crate::special::{Allowed, Part};
use crate::tokenizer::{Alphabet, Splitter, Tokenizer};

/// Lets another thread end work early.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// From now on work ends soon.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Merge for Tokenizer {
    fn one(&self, piece: &[u8], symbols: &mut Vec<u32>, ids: &mut Vec<u32>) {
        if let Some(id) = self.whole(piece) {
            ids.push(id);
            return;
        }
        symbols.clear();
        match &self.alphabet {
            Alphabet::Bytes(bytes) => {
                symbols.extend(piece.iter().map(|&byte| bytes.ids[usize::from(byte)]));
            }
            Alphabet::Characters(characters) => characters.symbols(piece, |id| symbols.push(id)),
        }
        self.merges.apply(symbols, ids);
    }

    fn ends(&self, text: &[u8], ids: &[u32], ends: &mut Vec<usize>) -> Option<()> {
        if self.whole_first {
            return None;
        }
        let end = |at: &mut usize, &id: &u32| {
            *at = self.after(text, *at, id);
            Some(*at)
        };
        ends.extend(ids.iter().scan(0, end));
        Some(())
    }

    fn many(&self, count: usize, key: impl Fn(usize) -> u128, done: impl FnMut(usize, &[u32])) {
        let mut batch = Short { tokenizer: self, key, ranks: self.byte_ranks(), done };
        self.merges.apply_batch(count, &mut batch);
    }
}

/// Short pieces that are merged together.
struct Short<'t, K, F> {
    tokenizer: &'t Tokenizer,
    key: K,
    /// Ranks of pairs of bytes, or of ASCII characters.
    ranks: &'t [u32],
    done: F,
}

impl<K: Fn(usize) -> u128, F: FnMut(usize, &[u32])> Pieces for Short<'_, K, F> {
    #[inline(always)]
    fn start(
        &mut self,
        piece: usize,
        symbols: &mut [u32; SHORT],
        ranks: &mut [u32; SHORT],
    ) -> usize {
        let (bytes, length) = piece_of((self.key)(piece));
        let piece = &bytes[..length];
        if let Some(id) = self.tokenizer.whole(piece) {
            symbols[0] = id;
            return 1;
        }
        let pair = |at: usize| usize::from(piece[at - 1]) << 8 | usize::from(piece[at]);
        let characters = match &self.tokenizer.alphabet {
            Alphabet::Bytes(alphabet) => {
                for (symbol, &byte) in symbols.iter_mut().zip(piece) {
                    *symbol = alphabet.ids[usize::from(byte)];
                }
                for at in 1..length {
                    ranks[at - 1] = self.ranks[pair(at) % (1 << 16)];
                }
                return length;
            }
            Alphabet::Characters(characters) => characters,
        };
        let (merges, mut count) = (&self.tokenizer.merges, 0);
        characters.symbols(piece, |id| {
            symbols[count % SHORT] = id;
            count += 1;
        });
        if piece.is_ascii() {
            for at in 1..count.min(SHORT) {
                ranks[at - 1] = self.ranks[pair(at) % (1 << 16)];
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
    ///
    /// Once `stop` says so, it returns early, with ids of no use.
    pub fn encode_into(
        &self,
        text: &str,
        allowed: &Allowed,
        cache: &mut Cache,
        ids: &mut Vec<u32>,
        stop: &Stop,
    ) {
        self.queue(text, allowed, cache, ids, stop);
        cache.flush(ids, self);
    }

    /// As [`Tokenizer::encode_into`], but the last ids may stay in the cache's queue.
    fn queue(
        &self,
        text: &str,
        allowed: &Allowed,
        cache: &mut Cache,
        ids: &mut Vec<u32>,
        stop: &Stop,
    ) {
        allowed.raw.split(text, |part| match part {
            Part::Token(id, _) => cache.push(id, ids, self),
            Part::Text(range) => {
                let normal = self.normal.apply(&text[range.clone()], range.start == 0);
                self.parts(&normal, allowed, |part| match part {
                    Part::Token(id, _) => cache.push(id, ids, self),
                    Part::Text(range) => self.blocks(&normal[range], stop, |text, start, ends| {
                        cache.extend(text, start, ends, ids, self);
                    }),
                });
            }
        });
    }

    /// The ids of `text`.
    #[must_use]
    pub fn encode(&self, text: &str, allowed: &Allowed) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_into(text, allowed, &mut Cache::default(), &mut ids, &Stop::default());
        ids
    }

    /// The parts of a normalised stretch; ranges are within it.
    pub(crate) fn parts(&self, text: &str, allowed: &Allowed, mut found: impl FnMut(Part)) {
        allowed.normalized.split(text, |part| match part {
            Part::Text(outer) => self.always.split(&text[outer.clone()], |part| {
                let moved = |r: Range<usize>| outer.start + r.start..outer.start + r.end;
                found(match part {
                    Part::Text(range) => Part::Text(moved(range)),
                    Part::Token(id, range) => Part::Token(id, moved(range)),
                });
            }),
            token => found(token),
        });
    }

    /// Appends the ids of text that is normalised and holds no added token.
    pub(crate) fn encode_text(
        &self,
        text: &str,
        cache: &mut Cache,
        ids: &mut Vec<u32>,
        stop: &Stop,
    ) {
        self.blocks(text, stop, |text, start, ends| cache.extend(text, start, ends, ids, self));
        cache.flush(ids, self);
    }

    /// Calls `block` with the text, where a few hundred pieces start, and where each of them ends.
    #[inline(always)]
    pub(crate) fn blocks(
        &self,
        text: &str,
        stop: &Stop,
        mut block: impl FnMut(&[u8], usize, &[usize]),
    ) {
        let (bytes, mut start, mut ends) = (text.as_bytes(), 0, Ends::default());
        let (mut by_pattern, mut by_character) =
            (patterns::Progress::default(), Progress::default());
        if let Alphabet::Bytes(alphabet) = &self.alphabet
            && let Splitter::Regexes(regexes) = &alphabet.splitter
        {
            for ends in regexes.ends(text).chunks(Ends::FULL) {
                if stop.is_set() {
                    return;
                }
                block(bytes, start, ends);
                start = ends.last().copied().unwrap_or(text.len());
            }
            return;
        }
        while start < text.len() && !stop.is_set() {
            match &self.alphabet {
                Alphabet::Bytes(alphabet) => {
                    let Splitter::Known(pattern) = &alphabet.splitter else { return };
                    // A piece that may be a token as a whole must not be cut.
                    let cuts = !text.is_ascii() && !self.whole_first;
                    let junctions = cuts.then(|| self.junctions(alphabet));
                    pattern.split(text, &mut by_pattern, junctions, &mut ends);
                }
                Alphabet::Characters(characters) => {
                    let pairs = self.pairs_spaces(characters);
                    characters.split(text, &mut by_character, pairs, &mut ends);
                }
            }
            let ends = ends.take();
            block(bytes, start, ends);
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
        stop: &Stop,
    ) -> (Vec<u32>, Vec<i64>) {
        // Runs of texts of similar weight, so that a cache serves many of them.
        let total: usize = texts.iter().map(|text| text.map_or(0, str::len)).sum();
        let threads = rayon::current_num_threads();
        let weight = match threads {
            1 => usize::MAX,
            _ => (total / (threads * 32)).max(1 << 15),
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
                let mut ids = Vec::with_capacity(bytes / 3);
                let ends = caches.lend(threads > 1, |cache| {
                    for text in texts {
                        self.queue(text.unwrap_or(""), allowed, cache, &mut ids, stop);
                        cache.end_text();
                    }
                    cache.flush(&mut ids, self);
                    cache.take_text_ends()
                });
                (ids, ends)
            })
            .collect();
        if let [(ids, ends)] = parts.as_mut_slice() {
            ends.insert(0, 0);
            return (std::mem::take(ids), std::mem::take(ends));
        }
        let mut offsets = Vec::with_capacity(texts.len() + 1);
        offsets.push(0);
        let mut base = 0;
        for (part, ends) in &parts {
            offsets.extend(ends.iter().map(|end| base + end));
            base += part.len() as i64;
        }
        // Put together, and the parts given back, by all threads: one alone would take as long as a
        // tenth of the encoding.
        let size = base as usize;
        let mut ids = Vec::with_capacity(size);
        let mut rest = &mut ids.spare_capacity_mut()[..size];
        let mut places = Vec::with_capacity(parts.len());
        for (part, _) in parts {
            let (place, after) = rest.split_at_mut(part.len());
            places.push((place, part));
            rest = after;
        }
        places.into_par_iter().for_each(|(place, part)| {
            for (place, id) in place.iter_mut().zip(part) {
                place.write(id);
            }
        });
        // SAFETY: the places are the first `size` elements, and each had as many ids as it is long.
        unsafe { ids.set_len(size) };
        (ids, offsets)
    }
}
