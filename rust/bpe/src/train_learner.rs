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

/// A pair: how often it occurs, and which stretch of [`Learner::places`] lists the words it may stand
/// in (each that does is listed).
#[derive(Default, Clone, Copy)]
struct Pair {
    count: i64,
    start: usize,
    length: usize,
}

/// All words, and what of their pairs is needed to find the most frequent one.
#[derive(Default)]
pub(crate) struct Learner {
    /// Of each word the number of symbols it had, the number it has, its count in two halves, and the
    /// symbols, all in one place of memory; its name is that place, over [`HEAD`].
    words: Vec<u32>,
    pairs: FxHashMap<IdPair, Pair>,
    /// Lists of words, one after the other. A list that is done with stays: all of them together are
    /// no longer than twice the symbols there were, and a list each would be a million allocations.
    places: Vec<u32>,
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
        let mut found = Found::new(size);
        self.each_pair(|ids, count, place| {
            let (pair, last) = found.of(ids);
            pair.count += count;
            if pair.length == 0 || *last != place {
                pair.length += 1;
                *last = place;
            }
        });
        // How long the lists are is known: now they can be written one after the other.
        let mut size = 0;
        for (pair, _) in found.all() {
            (pair.start, size) = (size, size + pair.length);
            pair.length = 0;
        }
        let mut places = vec![0; size];
        self.each_pair(|ids, _, place| {
            let (pair, last) = found.of(ids);
            if pair.length == 0 || *last != place {
                places[pair.start + pair.length] = place;
                pair.length += 1;
                *last = place;
            }
        });
        (self.places, self.pairs) = (places, found.into_pairs());
    }

    /// Calls `each` with every two neighbours, how often their word occurs, and its place.
    fn each_pair(&self, mut each: impl FnMut(IdPair, i64, u32)) {
        let mut at = 0;
        while let Some((symbols, count, next)) = word(&self.words, at) {
            let place = (at / HEAD) as u32;
            symbols.windows(2).for_each(|pair| each((pair[0], pair[1]), count, place));
            at = next;
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
        let Self { words, places, before, after, .. } = self;
        let pair = self.pairs.remove(&joined).unwrap_or_default();
        let places = &places[pair.start..pair.start + pair.length];
        for (number, &place) in places.iter().enumerate() {
            // Words lie far apart: each is asked for before its turn.
            if let Some(&later) = places.get(number + AHEAD) {
                prefetch(&words[later as usize * HEAD]);
            }
            join_in(words, place, joined, id, before, after);
        }
        self.settle(joined, id);
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
        let mut grow = |ids: IdPair, change: &mut Change, places: &mut Vec<u32>| {
            if change.gained > 0 {
                let pair = pairs.entry(ids).or_default();
                pair.count += change.gained;
                // A pair that was there before moves to where its list can go on.
                let earlier = pair.start..pair.start + pair.length;
                (pair.start, pair.length) = (places.len(), pair.length + change.length);
                places.extend_from_within(earlier);
                change.next = places.len();
                places.resize(places.len() + change.length, 0);
                // Twice for a pair that gains on both sides: the first entry is out of date then.
                if floor.is_some_and(|floor| pair.count >= floor) {
                    heap.push(entry(pair.count, ids));
                }
            }
            (change.lost, change.gained, change.length) = (0, 0, 0);
        };
        for &x in &self.before.seen {
            grow((x, id), &mut self.before.of[x as usize], &mut self.places);
        }
        // Before a pair that gains on both sides takes its list with it.
        self.before.list(&mut self.places);
        for &y in &self.after.seen {
            grow((id, y), &mut self.after.of[y as usize], &mut self.places);
        }
        self.after.list(&mut self.places);
    }
}

/// Joins a pair in one word.
#[inline(always)]
fn join_in(
    words: &mut [u32],
    place: u32,
    joined: IdPair,
    id: u32,
    before: &mut Changes,
    after: &mut Changes,
) {
    let (head, rest) = words[place as usize * HEAD..].split_at_mut(HEAD);
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
            before.lose(word[write - 1], count);
            before.gain(word[write - 1], count, place);
        }
        if let Some(&next) = word.get(read + 2) {
            after.lose(next, count);
            after.gain(if is_joined(word, read + 2) { id } else { next }, count, place);
        }
        word[write] = id;
        (read, write, after_join) = (read + 2, write + 1, true);
    }
    head[1] = write as u32;
}

/// Pairs while they are counted, each with the place of the last word it was found in.
enum Found {
    /// Of all pairs of so many ids: bytes have few, and no place needs hashing then.
    Dense(usize, Vec<(Pair, u32)>),
    Sparse(FxHashMap<IdPair, (Pair, u32)>),
}

impl Found {
    fn new(size: usize) -> Self {
        match size <= DENSE {
            true => Self::Dense(size, vec![Default::default(); size * size]),
            false => Self::Sparse(FxHashMap::default()),
        }
    }

    #[inline]
    fn of(&mut self, ids: IdPair) -> &mut (Pair, u32) {
        match self {
            Self::Dense(size, table) => &mut table[ids.0 as usize * *size + ids.1 as usize],
            Self::Sparse(map) => map.entry(ids).or_default(),
        }
    }

    fn all(&mut self) -> Box<dyn Iterator<Item = &mut (Pair, u32)> + '_> {
        match self {
            Self::Dense(_, table) => Box::new(table.iter_mut()),
            Self::Sparse(map) => Box::new(map.values_mut()),
        }
    }

    fn into_pairs(self) -> FxHashMap<IdPair, Pair> {
        match self {
            Self::Dense(size, table) => (table.into_iter().enumerate())
                .filter(|(_, (pair, _))| pair.count > 0)
                .map(|(at, (pair, _))| (((at / size) as u32, (at % size) as u32), pair))
                .collect(),
            Self::Sparse(map) => map.into_iter().map(|(ids, (pair, _))| (ids, pair)).collect(),
        }
    }
}

/// What one neighbour of a merge lost and gained.
#[derive(Default)]
struct Change {
    lost: i64,
    gained: i64,
    /// How many words it gained in, and the last of them.
    length: usize,
    last: u32,
    /// Where the next of them is listed.
    next: usize,
}

/// Changes by the id of the neighbour: no hashing for each place, only for each pair.
#[derive(Default)]
struct Changes {
    of: Vec<Change>,
    seen: Vec<u32>,
    /// Neighbours that gained, and the words they did in.
    gains: Vec<(u32, u32)>,
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

    #[inline]
    fn lose(&mut self, id: u32, count: i64) {
        self.at(id).lost += count;
    }

    #[inline]
    fn gain(&mut self, id: u32, count: i64, place: u32) {
        let change = self.at(id);
        change.gained += count;
        if change.length == 0 || change.last != place {
            change.length += 1;
            change.last = place;
            self.gains.push((id, place));
        }
    }

    /// Writes each gain where its list has room for it, and forgets all.
    fn list(&mut self, places: &mut [u32]) {
        for (id, place) in self.gains.drain(..) {
            let next = &mut self.of[id as usize].next;
            places[*next] = place;
            *next += 1;
        }
        self.seen.clear();
    }
}
