//! Counts of pairs, kept up to date while words shrink.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::merges::prefetch;
use crate::train_alphabet::Base;
use crate::{BpeError, WordCounts};

pub(crate) type IdPair = (u32, u32);

/// Most ids of which all pairs have a place in a table.
const DENSE: usize = 512;
/// How many words ahead one is asked for.
const AHEAD: usize = 8;

/// A pair: how often it occurs, and the words it may stand in (each that does is listed).
#[derive(Default)]
struct Pair {
    count: i64,
    places: Vec<u32>,
}

/// All words in one array: a word is a stretch of it that gets shorter from its end.
#[derive(Default)]
pub(crate) struct Learner {
    ids: Vec<u32>,
    /// Start and length in `ids`, and count.
    words: Vec<(usize, u32, i64)>,
    pairs: FxHashMap<IdPair, Pair>,
    /// Most frequent first, then smallest ids; entries may be out of date and are checked.
    heap: BinaryHeap<(i64, Reverse<IdPair>)>,
    /// Of the merge at hand: its neighbours on the left and on the right.
    before: Changes,
    after: Changes,
    made: Vec<usize>,
}

impl Learner {
    pub(crate) fn new(words: &WordCounts, base: &Base) -> Result<Self, BpeError> {
        let (mut this, mut held) = (Self::default(), Vec::new());
        words.each(|piece, count| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            base.symbols(piece, &mut held, |symbols| this.push(symbols, count));
        })?;
        this.count_pairs();
        Ok(this)
    }

    /// Adds a word that occurs `count` times; one symbol alone teaches nothing.
    pub(crate) fn push(&mut self, symbols: &[u32], count: i64) {
        if symbols.len() > 1 {
            self.words.push((self.ids.len(), symbols.len() as u32, count));
            self.ids.extend_from_slice(symbols);
        }
    }

    /// The symbols of each word as they are now, and how often it occurs.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&[u32], i64)> {
        let word = |&(start, length, count): &(usize, u32, i64)| {
            (&self.ids[start..start + length as usize], count)
        };
        self.words.iter().map(word).filter(|(symbols, _)| symbols.len() > 1)
    }

    /// Counts all pairs; to be called once, after the last word.
    pub(crate) fn count_pairs(&mut self) {
        let size = self.ids.iter().max().map_or(0, |&id| id as usize + 1);
        // Bytes have few pairs: a table of all of them, and no hashing for each place.
        let mut table: Vec<Pair> = Vec::new();
        if size <= DENSE {
            table.resize_with(size * size, Pair::default);
        }
        for (index, &(start, length, count)) in (0..).zip(&self.words) {
            for pair in self.ids[start..start + length as usize].windows(2) {
                let pair = match table.get_mut(pair[0] as usize * size + pair[1] as usize) {
                    Some(pair) => pair,
                    None => self.pairs.entry((pair[0], pair[1])).or_default(),
                };
                pair.count += count;
                if pair.places.last() != Some(&index) {
                    pair.places.push(index);
                }
            }
        }
        for (at, pair) in table.into_iter().enumerate().filter(|(_, pair)| pair.count > 0) {
            self.pairs.insert(((at / size) as u32, (at % size) as u32), pair);
        }
        let entry = |(&ids, pair): (&IdPair, &Pair)| (pair.count, Reverse(ids));
        self.heap = self.pairs.iter().map(entry).collect();
    }

    pub(crate) fn best(&mut self, min_frequency: u64) -> Option<IdPair> {
        while let Some((count, Reverse(ids))) = self.heap.pop() {
            let now = self.pairs.get(&ids).map_or(0, |pair| pair.count);
            if now != count {
                if now > 0 {
                    self.heap.push((now, Reverse(ids)));
                }
                continue;
            }
            if count < 1 || count < i64::try_from(min_frequency).unwrap_or(i64::MAX) {
                return None;
            }
            return Some(ids);
        }
        None
    }

    pub(crate) fn join(&mut self, joined: IdPair, id: u32) {
        let places = self.pairs.remove(&joined).unwrap_or_default().places;
        for (number, &index) in places.iter().enumerate() {
            // Words lie far apart: each is asked for before its turn.
            if let Some(&later) = places.get(number + 2 * AHEAD) {
                prefetch(&self.words[later as usize]);
            }
            if let Some(&next) = places.get(number + AHEAD) {
                prefetch(&self.ids[self.words[next as usize].0]);
            }
            let (start, length, count) = self.words[index as usize];
            let word = &mut self.ids[start..start + length as usize];
            // A word listed twice, or that lost the pair to another merge, is left as it is.
            let Some(first) = word.windows(2).position(|pair| (pair[0], pair[1]) == joined) else {
                continue;
            };
            // Losses first, in the old word; then gains, in the new one.
            let (mut read, mut after_join) = (first, false);
            while read < word.len() {
                if read + 1 < word.len() && (word[read], word[read + 1]) == joined {
                    if read > 0 && !after_join {
                        self.before.at(word[read - 1]).lost += count;
                    }
                    if let Some(&next) = word.get(read + 2) {
                        self.after.at(next).lost += count;
                    }
                    (read, after_join) = (read + 2, true);
                } else {
                    (read, after_join) = (read + 1, false);
                }
            }
            self.made.clear();
            let (mut read, mut write) = (first, first);
            while read < word.len() {
                if read + 1 < word.len() && (word[read], word[read + 1]) == joined {
                    word[write] = id;
                    self.made.push(write);
                    read += 2;
                } else {
                    word[write] = word[read];
                    read += 1;
                }
                write += 1;
            }
            let word = &word[..write];
            // Only around what was joined now: the id may have stood in the word before.
            for (number, &at) in self.made.iter().enumerate() {
                if at > 0 && (number == 0 || self.made[number - 1] + 1 != at) {
                    self.before.at(word[at - 1]).gain(count, index);
                }
                if at + 1 < write {
                    self.after.at(word[at + 1]).gain(count, index);
                }
            }
            self.words[index as usize].1 = write as u32;
        }
        self.settle(joined, id);
    }

    /// Brings what the neighbours of a merge lost and gained into the counts of pairs.
    fn settle(&mut self, joined: IdPair, id: u32) {
        let (pairs, heap) = (&mut self.pairs, &mut self.heap);
        let lost =
            self.before.seen.iter().map(|&x| ((x, joined.0), self.before.of[x as usize].lost));
        let lost = lost.chain(
            self.after.seen.iter().map(|&y| ((joined.1, y), self.after.of[y as usize].lost)),
        );
        for (ids, lost) in lost.filter(|&(ids, lost)| lost > 0 && ids != joined) {
            if let Some(pair) = pairs.get_mut(&ids) {
                pair.count -= lost;
                if pair.count <= 0 {
                    pairs.remove(&ids);
                }
            }
        }
        let mut grow = |ids: IdPair, change: &mut Change| {
            if change.gained > 0 {
                let pair = pairs.entry(ids).or_default();
                pair.count += change.gained;
                let places = std::mem::take(&mut change.places);
                if pair.places.is_empty() {
                    pair.places = places;
                } else {
                    pair.places.extend(places);
                }
                // Twice for a pair that gains on both sides: the first entry is out of date then.
                heap.push((pair.count, Reverse(ids)));
            }
            (change.lost, change.gained) = (0, 0);
        };
        for x in self.before.seen.drain(..) {
            grow((x, id), &mut self.before.of[x as usize]);
        }
        for y in self.after.seen.drain(..) {
            grow((id, y), &mut self.after.of[y as usize]);
        }
    }
}

/// What one neighbour of a merge lost and gained.
#[derive(Default)]
struct Change {
    lost: i64,
    gained: i64,
    places: Vec<u32>,
}

impl Change {
    fn gain(&mut self, count: i64, index: u32) {
        self.gained += count;
        if self.places.last() != Some(&index) {
            self.places.push(index);
        }
    }
}

/// Changes by the id of the neighbour: no hashing for each place, only for each pair.
#[derive(Default)]
struct Changes {
    of: Vec<Change>,
    seen: Vec<u32>,
}

impl Changes {
    #[inline]
    fn at(&mut self, id: u32) -> &mut Change {
        let place = id as usize;
        if place >= self.of.len() {
            self.of.resize_with(place + 1, Change::default);
        }
        let change = &mut self.of[place];
        if change.lost == 0 && change.gained == 0 {
            self.seen.push(id);
        }
        change
    }
}
