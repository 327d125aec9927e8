//! Counts of pairs, kept up to date while words shrink.

use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::merges::prefetch;
use crate::train_alphabet::Base;
use crate::{BpeError, WordCounts};

pub(crate) type IdPair = (u32, u32);

/// Most ids of which all pairs have a place in a table.
const DENSE: usize = 512;
/// How many words ahead one is asked for.
const AHEAD: usize = 12;
/// Numbers before a word's symbols; words start at multiples of it.
const HEAD: usize = 4;
/// By how much the count falls until pairs of lower counts enter the heap.
const STEP: i64 = 8;

/// A pair: how often it occurs, and the words it may stand in (each that does is listed).
#[derive(Default)]
struct Pair {
    count: i64,
    places: Vec<u32>,
}

/// All words, and what of their pairs is needed to find the most frequent one.
#[derive(Default)]
pub(crate) struct Learner {
    /// Of each word the number of symbols it had, the number it has, its count in two halves, and the
    /// symbols, all in one place of memory; its name is that place, over [`HEAD`].
    words: Vec<u32>,
    pairs: FxHashMap<IdPair, Pair>,
    /// Most frequent first, then smallest ids; entries may be out of date and are checked.
    heap: BinaryHeap<u128>,
    /// Every pair that occurs as often is in the heap: most never get to be joined.
    floor: Option<i64>,
    /// Of the merge at hand: its neighbours on the left and on the right.
    before: Changes,
    after: Changes,
}

/// A pair in the heap.
fn entry(count: i64, ids: IdPair) -> u128 {
    (count as u128) << 64 | u128::from(!(u64::from(ids.0) << 32 | u64::from(ids.1)))
}

/// A word's symbols and count, and where the next word starts.
fn word(words: &[u32], at: usize) -> Option<(&[u32], i64, usize)> {
    let &[room, length, low, high] = words.get(at..at + HEAD)? else { return None };
    let start = at + HEAD;
    let count = (u64::from(high) << 32 | u64::from(low)) as i64;
    let next = (start + room as usize).next_multiple_of(HEAD);
    Some((&words[start..start + length as usize], count, next))
}

impl Learner {
    pub(crate) fn new(words: &WordCounts, base: &Base) -> Result<Self, BpeError> {
        let (mut this, mut held) = (Self::default(), Vec::new());
        let mut too_many = false;
        words.each(|piece, count| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            base.symbols(piece, &mut held, |symbols| too_many |= !this.push(symbols, count));
        })?;
        if too_many {
            let problem = "more distinct pieces than fit 64 GB; train on a sample of the text";
            return Err(BpeError::Training(problem.into()));
        }
        this.count_pairs();
        Ok(this)
    }

    /// Adds a word that occurs `count` times, if there is room; one symbol alone teaches nothing.
    pub(crate) fn push(&mut self, symbols: &[u32], count: i64) -> bool {
        if symbols.len() < 2 {
            return true;
        }
        if u32::try_from(self.words.len() / HEAD).is_err() {
            return false;
        }
        let length = symbols.len() as u32;
        self.words.extend([length, length, count as u32, (count >> 32) as u32]);
        self.words.extend_from_slice(symbols);
        self.words.resize(self.words.len().next_multiple_of(HEAD), 0);
        true
    }

    /// The symbols of each word as they are now, and how often it occurs.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&[u32], i64)> {
        let mut at = 0;
        let all = std::iter::from_fn(move || {
            let (symbols, count, next) = word(&self.words, at)?;
            at = next;
            Some((symbols, count))
        });
        all.filter(|(symbols, _)| symbols.len() > 1)
    }

    /// Counts all pairs; to be called once, after the last word.
    pub(crate) fn count_pairs(&mut self) {
        let size = self.words().flat_map(|word| word.0).max().map_or(0, |&id| id as usize + 1);
        // Bytes have few pairs: a table of all of them, and no hashing for each place.
        let mut table: Vec<Pair> = Vec::new();
        if size <= DENSE {
            table.resize_with(size * size, Pair::default);
        }
        let mut at = 0;
        while let Some((symbols, count, next)) = word(&self.words, at) {
            let place = (at / HEAD) as u32;
            for pair in symbols.windows(2) {
                let pair = match table.get_mut(pair[0] as usize * size + pair[1] as usize) {
                    Some(pair) => pair,
                    None => self.pairs.entry((pair[0], pair[1])).or_default(),
                };
                pair.count += count;
                if pair.places.last() != Some(&place) {
                    pair.places.push(place);
                }
            }
            at = next;
        }
        for (at, pair) in table.into_iter().enumerate().filter(|(_, pair)| pair.count > 0) {
            self.pairs.insert(((at / size) as u32, (at % size) as u32), pair);
        }
    }

    /// The most frequent pair; the same again only if it occurs as often as before.
    pub(crate) fn best(&mut self, min_frequency: u64) -> Option<IdPair> {
        let least = i64::try_from(min_frequency).unwrap_or(i64::MAX).max(1);
        loop {
            let Some(entry) = self.heap.pop() else {
                if !self.lower(least) {
                    return None;
                }
                continue;
            };
            let (count, ids) = ((entry >> 64) as i64, !(entry as u64));
            let ids = ((ids >> 32) as u32, ids as u32);
            let now = self.pairs.get(&ids).map_or(0, |pair| pair.count);
            if now == count {
                return (count >= least).then_some(ids);
            }
            self.enter(now, ids);
        }
    }

    /// Puts pairs of lower counts into the empty heap; false if there are no more.
    fn lower(&mut self, least: i64) -> bool {
        if self.floor.is_some_and(|floor| floor <= least) {
            return false;
        }
        let most = || self.pairs.values().map(|pair| pair.count).max().unwrap_or(0);
        let floor = (self.floor.unwrap_or_else(most) / STEP).max(least);
        let some = self.pairs.iter().filter(|(_, pair)| pair.count >= floor);
        self.heap = some.map(|(&ids, pair)| entry(pair.count, ids)).collect();
        self.floor = Some(floor);
        true
    }

    fn enter(&mut self, count: i64, ids: IdPair) {
        if self.floor.is_some_and(|floor| count >= floor) {
            self.heap.push(entry(count, ids));
        }
    }

    pub(crate) fn join(&mut self, joined: IdPair, id: u32) {
        let places = self.pairs.remove(&joined).unwrap_or_default().places;
        for (number, &place) in places.iter().enumerate() {
            // Words lie far apart: each is asked for before its turn.
            if let Some(&later) = places.get(number + AHEAD) {
                prefetch(&self.words[later as usize * HEAD]);
            }
            self.join_in(place, joined, id);
        }
        self.settle(joined, id);
    }

    #[inline(always)]
    fn join_in(&mut self, place: u32, joined: IdPair, id: u32) {
        let (head, rest) = self.words[place as usize * HEAD..].split_at_mut(HEAD);
        let count = (u64::from(head[3]) << 32 | u64::from(head[2])) as i64;
        let word = &mut rest[..head[1] as usize];
        // A word listed twice, or that lost the pair to another merge, is left as it is.
        let Some(first) = word.windows(2).position(|pair| (pair[0], pair[1]) == joined) else {
            return;
        };
        let is_joined =
            |word: &[u32], at: usize| at + 1 < word.len() && (word[at], word[at + 1]) == joined;
        let (mut read, mut write, mut after_join) = (first, first, false);
        while read < word.len() {
            if !is_joined(word, read) {
                word[write] = word[read];
                (read, write, after_join) = (read + 1, write + 1, false);
                continue;
            }
            if write > 0 && !after_join {
                // Only around what is joined now: the id may have stood in the word before.
                let change = self.before.at(word[write - 1]);
                change.lost += count;
                change.gain(count, place);
            }
            if let Some(&next) = word.get(read + 2) {
                self.after.at(next).lost += count;
                let next = if is_joined(word, read + 2) { id } else { next };
                self.after.at(next).gain(count, place);
            }
            word[write] = id;
            (read, write, after_join) = (read + 2, write + 1, true);
        }
        head[1] = write as u32;
    }

    /// Brings what the neighbours of a merge lost and gained into the counts of pairs.
    fn settle(&mut self, joined: IdPair, id: u32) {
        let (pairs, heap, floor) = (&mut self.pairs, &mut self.heap, self.floor);
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
                if floor.is_some_and(|floor| pair.count >= floor) {
                    heap.push(entry(pair.count, ids));
                }
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
