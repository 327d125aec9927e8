//! Pieces that were merged before: bounded, one a thread, never locked.
//!
//! A piece of up to 15 bytes is its own key: the bytes and the length in one integer of 128 bits.
//! Two entries share a cache line with their ids, so a piece that is known costs one memory access,
//! which is asked for some hundred pieces ahead.

use std::sync::Mutex;

use crate::merges::prefetch;
use crate::pages::{Table, Zero};
use crate::runs::Runs;

/// Longest piece with a key of its own.
const SHORT: usize = 15;
/// Longer pieces than this are not entered: they hardly ever repeat.
const LONG: usize = 256;
const BUCKETS: usize = 1 << 17;
const LONG_SLOTS: usize = 1 << 16;
/// Ids and bytes that entries may point to before the cache starts afresh.
const MOST_IDS: usize = 1 << 20;
const MOST_BYTES: usize = 1 << 22;

/// Ids that fit into an entry; the fourth number counts them, or is `ELSEWHERE` or more.
const INLINE: u32 = 3;
/// The ids are in the arena: `[start, end, _, ELSEWHERE]`.
const ELSEWHERE: u32 = 4;
/// A longer piece, which is looked up apart.
const APART: u32 = 5;

type Value = [u32; 4];

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Bucket {
    keys: [u128; 2],
    values: [Value; 2],
}

// SAFETY: integers only.
unsafe impl Zero for Bucket {}

#[derive(Clone, Copy, Default)]
struct LongSlot {
    hash: u64,
    text: u32,
    length: u32,
    start: u32,
    end: u32,
}

/// Piece → its ids.
#[derive(Default)]
pub struct Cache {
    buckets: Table<Bucket>,
    long: Vec<LongSlot>,
    ids: Vec<u32>,
    bytes: Vec<u8>,
    runs: Runs,
    work: Box<Work>,
}

/// Room for one block of pieces and for one piece's symbols.
struct Work {
    keys: [u128; BLOCK],
    places: [u32; BLOCK],
    values: [Value; BLOCK],
    symbols: Vec<u32>,
}

const BLOCK: usize = crate::pieces::Ends::FULL + crate::pieces::Ends::SPARE;

impl Default for Work {
    fn default() -> Self {
        let symbols = Vec::new();
        Self { keys: [0; BLOCK], places: [0; BLOCK], values: [[0; 4]; BLOCK], symbols }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cache({} ids)", self.ids.len())
    }
}

/// Makes the ids of pieces that are not known.
pub(crate) trait Merge {
    /// Appends the ids of one piece; `symbols` is room to work in.
    fn one(&self, piece: &[u8], symbols: &mut Vec<u32>, ids: &mut Vec<u32>);
    /// Where each token ends in a text; `None` where a piece can't be put together from parts.
    fn ends(&self, text: &[u8], ids: &[u32], ends: &mut Vec<usize>) -> Option<()>;
    /// Calls `done` with the ids of each of `pieces`, of at most 15 bytes, in any order.
    fn many(&self, pieces: &[&[u8]], done: impl FnMut(usize, &[u32]));
}

const MASKS: [u128; SHORT + 1] = {
    let mut masks = [0; SHORT + 1];
    let mut length = 1;
    while length <= SHORT {
        masks[length] = u128::MAX >> (128 - 8 * length);
        length += 1;
    }
    masks
};

/// The key of a short piece; 0 belongs to none.
#[inline(always)]
fn key(text: &[u8], start: usize, length: usize) -> u128 {
    let bytes = match text.get(start..start + 16) {
        Some(bytes) => bytes.try_into().unwrap_or([0; 16]),
        None => {
            let mut bytes = [0; 16];
            bytes[..length].copy_from_slice(&text[start..start + length]);
            bytes
        }
    };
    u128::from_le_bytes(bytes) & MASKS[length] | (length as u128) << 120
}

#[inline(always)]
pub(crate) fn fold(left: u64, right: u64) -> u64 {
    let product =
        u128::from(left ^ 0x9E37_79B9_7F4A_7C15) * u128::from(right ^ 0xD1B5_4A32_D192_ED03);
    product as u64 ^ (product >> 64) as u64
}

impl Cache {
    /// Appends the ids of the pieces of `text` from `start` that end at `ends`.
    ///
    /// `merge` makes the ids of pieces that are not known.
    #[inline]
    pub(crate) fn extend(
        &mut self,
        text: &[u8],
        start: usize,
        ends: &[usize],
        out: &mut Vec<u32>,
        merge: impl Merge,
    ) {
        if self.buckets.is_empty() {
            self.buckets = Table::new(BUCKETS);
            self.long = vec![LongSlot::default(); LONG_SLOTS];
        }
        self.make_room();
        let mut from = start;
        for (index, &end) in ends.iter().enumerate() {
            let length = end - from;
            if length <= SHORT {
                let key = key(text, from, length);
                let place = fold(key as u64, (key >> 64) as u64) as usize % BUCKETS;
                prefetch(&self.buckets[place]);
                let work = &mut *self.work;
                (work.keys[index], work.places[index]) = (key, place as u32);
            } else {
                self.work.keys[index] = 0;
            }
            from = end;
        }
        self.look_up(text, start, ends, &merge);
        // Four numbers are written where up to three count; the rest is written over.
        let mut ready = [0; 4 * BLOCK];
        let mut count = 0;
        let mut from = start;
        for (index, &end) in ends.iter().enumerate() {
            let value = self.work.values[index];
            if value[3] <= INLINE {
                ready[count..count + 4].copy_from_slice(&value);
                count += value[3] as usize;
            } else {
                out.extend_from_slice(&ready[..count]);
                count = 0;
                if value[3] == ELSEWHERE {
                    out.extend_from_slice(&self.ids[value[0] as usize..value[1] as usize]);
                } else {
                    self.long(&text[from..end], out, &merge);
                }
            }
            from = end;
        }
        out.extend_from_slice(&ready[..count]);
    }

    /// Fills in the values of a block; pieces that are not known are merged together, and entered.
    #[inline(always)]
    fn look_up(&mut self, text: &[u8], start: usize, ends: &[usize], merge: &impl Merge) {
        let Work { keys, places, values, .. } = &mut *self.work;
        let (mut unknown, mut count) = ([0u16; BLOCK + 1], 0);
        for index in 0..ends.len().min(BLOCK) {
            let key = keys[index];
            let bucket = &self.buckets[places[index] as usize % BUCKETS];
            let second = usize::from(bucket.keys[0] != key);
            values[index] = bucket.values[second];
            unknown[count] = index as u16;
            // A long piece has the key 0 and no place of its own.
            count += usize::from(bucket.keys[second] != key && key != 0);
            if key == 0 {
                values[index] = [0, 0, 0, APART];
            }
        }
        if count > 0 {
            self.learn(text, start, ends, &unknown[..count], merge);
        }
    }

    /// Merges short pieces and enters them.
    #[cold]
    #[inline(never)]
    fn learn(
        &mut self,
        text: &[u8],
        start: usize,
        ends: &[usize],
        unknown: &[u16],
        merge: &impl Merge,
    ) {
        let mut pieces = [&text[..0]; BLOCK];
        for (piece, &index) in pieces.iter_mut().zip(unknown) {
            let index = usize::from(index);
            let from = if index == 0 { start } else { ends[index - 1] };
            *piece = &text[from..ends[index]];
        }
        merge.many(&pieces[..unknown.len()], |piece, merged| {
            let index = usize::from(unknown[piece]);
            let (place, key) = (self.work.places[index] as usize, self.work.keys[index]);
            self.work.values[index] = self.enter(place, key, merged);
        });
    }

    fn long(&mut self, piece: &[u8], out: &mut Vec<u32>, merge: &impl Merge) {
        if piece.len() > LONG {
            self.runs.extend(piece, out, &mut self.work.symbols, merge);
            return;
        }
        let hash = hash_of_long(piece);
        if !self.known_long(piece, hash, out) {
            let before = out.len();
            merge.one(piece, &mut self.work.symbols, out);
            self.enter_long(piece, hash, &out[before..]);
        }
    }

    fn known_long(&self, piece: &[u8], hash: u64, out: &mut Vec<u32>) -> bool {
        let slot = self.long[hash as usize % LONG_SLOTS];
        let text = slot.text as usize;
        let known = slot.hash == hash
            && slot.length as usize == piece.len()
            && &self.bytes[text..text + piece.len()] == piece;
        if known {
            out.extend_from_slice(&self.ids[slot.start as usize..slot.end as usize]);
        }
        known
    }

    fn enter_long(&mut self, piece: &[u8], hash: u64, merged: &[u32]) {
        let (text, start) = (self.bytes.len() as u32, self.ids.len() as u32);
        self.bytes.extend_from_slice(piece);
        self.ids.extend_from_slice(merged);
        let (length, end) = (piece.len() as u32, self.ids.len() as u32);
        self.long[hash as usize % LONG_SLOTS] = LongSlot { hash, text, length, start, end };
    }

    /// Enters a short piece: into an empty place, else over the later of two.
    #[inline(always)]
    fn enter(&mut self, place: usize, key: u128, merged: &[u32]) -> Value {
        let value = match *merged {
            [] => [0; 4],
            [a] => [a, 0, 0, 1],
            [a, b] => [a, b, 0, 2],
            [a, b, c] => [a, b, c, 3],
            _ => {
                let start = self.ids.len() as u32;
                self.ids.extend_from_slice(merged);
                [start, self.ids.len() as u32, 0, ELSEWHERE]
            }
        };
        let bucket = &mut self.buckets[place % BUCKETS];
        let side = usize::from(bucket.keys[0] != 0 && bucket.keys[0] != key);
        bucket.keys[side] = key;
        bucket.values[side] = value;
        value
    }

    /// Starts afresh when the arenas are full: between blocks only, for the values of a block point
    /// into them.
    fn make_room(&mut self) {
        if self.ids.len() > MOST_IDS || self.bytes.len() > MOST_BYTES {
            self.ids.clear();
            self.bytes.clear();
            self.long.fill(LongSlot::default());
            for bucket in self.buckets.iter_mut() {
                bucket.keys = [0; 2];
            }
        }
    }
}

/// Caches that wait for their next text; as many as ever worked at the same time.
#[derive(Debug, Default)]
pub struct Caches(Mutex<Vec<Cache>>);

impl Caches {
    /// Lends a cache for the time of `work`.
    ///
    /// It never waits: while another thread, or one that a fork left behind, holds the lock, the
    /// work is done with a new cache. A cache whose work panicked is not taken back.
    pub fn lend<T>(&self, work: impl FnOnce(&mut Cache) -> T) -> T {
        let waiting = self.0.try_lock().ok().and_then(|mut caches| caches.pop());
        let mut cache = waiting.unwrap_or_default();
        let result = work(&mut cache);
        if let Ok(mut caches) = self.0.try_lock() {
            caches.push(cache);
        }
        result
    }
}

/// Of a piece of sixteen bytes or more.
#[inline]
pub(crate) fn hash_of_long(piece: &[u8]) -> u64 {
    let mut hash = piece.len() as u64;
    for at in (0..piece.len()).step_by(16).take_while(|at| at + 16 <= piece.len()) {
        let key = key_of_sixteen(&piece[at..]);
        hash = fold(hash ^ key as u64, (key >> 64) as u64);
    }
    let key = key_of_sixteen(&piece[piece.len() - 16..]);
    fold(hash ^ key as u64, (key >> 64) as u64)
}

#[inline(always)]
fn key_of_sixteen(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes[..16].try_into().unwrap_or([0; 16]))
}
