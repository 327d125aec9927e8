//! Pieces that were merged before: bounded, one a thread, never locked.
//!
//! A piece of up to 15 bytes is its own key: the bytes and the length in one integer of 128 bits.
//! Two entries share a cache line with their ids, so a piece that is known costs one memory access,
//! which is asked for some hundred pieces ahead.

use std::sync::Mutex;

/// Longest piece with a key of its own.
const SHORT: usize = 15;
/// Longer pieces than this are merged anew each time: they hardly ever repeat.
const LONG: usize = 256;
const BUCKETS: usize = 1 << 16;
const LONG_SLOTS: usize = 1 << 14;
/// Ids and bytes that entries may point to before the cache starts afresh.
const MOST_IDS: usize = 1 << 20;
const MOST_BYTES: usize = 1 << 21;

/// Ids that fit into an entry; the fourth number counts them, or is `ELSEWHERE` or more.
const INLINE: u32 = 3;
/// The ids are in the arena: `[start, end, _, ELSEWHERE]`.
const ELSEWHERE: u32 = 4;

type Value = [u32; 4];

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Bucket {
    keys: [u128; 2],
    values: [Value; 2],
}

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
    buckets: Vec<Bucket>,
    long: Vec<LongSlot>,
    ids: Vec<u32>,
    bytes: Vec<u8>,
    work: Box<Work>,
}

/// Room for one block of pieces and for one piece's symbols.
struct Work {
    keys: [u128; BLOCK],
    places: [u32; BLOCK],
    symbols: Vec<u32>,
    merged: Vec<u32>,
}

const BLOCK: usize = crate::pieces::Ends::FULL + crate::pieces::Ends::SPARE;

impl Default for Work {
    fn default() -> Self {
        let (symbols, merged) = (Vec::new(), Vec::new());
        Self { keys: [0; BLOCK], places: [0; BLOCK], symbols, merged }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cache({} ids)", self.ids.len())
    }
}

/// Makes the ids of a piece: symbols are room to work in.
pub(crate) trait Merge: Fn(&[u8], &mut Vec<u32>, &mut Vec<u32>) {}
impl<F: Fn(&[u8], &mut Vec<u32>, &mut Vec<u32>)> Merge for F {}

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
fn fold(left: u64, right: u64) -> u64 {
    let product =
        u128::from(left ^ 0x9E37_79B9_7F4A_7C15) * u128::from(right ^ 0xD1B5_4A32_D192_ED03);
    product as u64 ^ (product >> 64) as u64
}

#[inline(always)]
fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on time, and the address is a reference's.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
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
            self.buckets = vec![Bucket { keys: [0; 2], values: [[0; 4]; 2] }; BUCKETS];
            self.long = vec![LongSlot::default(); LONG_SLOTS];
        }
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
        // Four numbers are written where up to three count; the rest is written over.
        let mut ready = [0; 4 * BLOCK];
        let mut count = 0;
        let mut from = start;
        for (index, &end) in ends.iter().enumerate() {
            let key = self.work.keys[index];
            if key != 0 {
                let bucket = &self.buckets[self.work.places[index] as usize % BUCKETS];
                let value = if bucket.keys[0] == key {
                    bucket.values[0]
                } else if bucket.keys[1] == key {
                    bucket.values[1]
                } else {
                    self.learn(&text[from..end], index, &merge)
                };
                if value[3] <= INLINE {
                    ready[count..count + 4].copy_from_slice(&value);
                    count += value[3] as usize;
                } else {
                    out.extend_from_slice(&ready[..count]);
                    count = 0;
                    out.extend_from_slice(&self.ids[value[0] as usize..value[1] as usize]);
                }
            } else if end > from {
                out.extend_from_slice(&ready[..count]);
                count = 0;
                self.long(&text[from..end], out, &merge);
            }
            from = end;
        }
        out.extend_from_slice(&ready[..count]);
    }

    /// Merges a short piece and enters it: into an empty place, else over the later of two.
    #[cold]
    #[inline(never)]
    fn learn(&mut self, piece: &[u8], index: usize, merge: &impl Merge) -> Value {
        self.make_room();
        let Work { symbols, merged, .. } = &mut *self.work;
        merged.clear();
        merge(piece, symbols, merged);
        let value = match merged[..] {
            [a] => [a, 0, 0, 1],
            [a, b] => [a, b, 0, 2],
            [a, b, c] => [a, b, c, 3],
            _ => {
                let start = self.ids.len() as u32;
                self.ids.extend_from_slice(merged);
                [start, self.ids.len() as u32, 0, ELSEWHERE]
            }
        };
        let bucket = &mut self.buckets[self.work.places[index] as usize];
        let side = usize::from(bucket.keys[0] != 0);
        bucket.keys[side] = self.work.keys[index];
        bucket.values[side] = value;
        value
    }

    fn long(&mut self, piece: &[u8], out: &mut Vec<u32>, merge: &impl Merge) {
        if piece.len() > LONG {
            merge(piece, &mut self.work.symbols, out);
            return;
        }
        let mut hash = piece.len() as u64;
        for at in (0..piece.len()).step_by(16).take_while(|at| at + 16 <= piece.len()) {
            let key = key_of_sixteen(&piece[at..]);
            hash = fold(hash ^ key as u64, (key >> 64) as u64);
        }
        let key = key_of_sixteen(&piece[piece.len() - 16..]);
        hash = fold(hash ^ key as u64, (key >> 64) as u64);
        let place = hash as usize % LONG_SLOTS;
        let slot = self.long[place];
        if slot.hash == hash && slot.length as usize == piece.len() {
            let text = slot.text as usize;
            if &self.bytes[text..text + piece.len()] == piece {
                out.extend_from_slice(&self.ids[slot.start as usize..slot.end as usize]);
                return;
            }
        }
        self.make_room();
        let before = out.len();
        merge(piece, &mut self.work.symbols, out);
        let (text, start) = (self.bytes.len() as u32, self.ids.len() as u32);
        self.bytes.extend_from_slice(piece);
        self.ids.extend_from_slice(&out[before..]);
        let end = self.ids.len() as u32;
        self.long[place] = LongSlot { hash, text, length: piece.len() as u32, start, end };
    }

    /// Starts afresh when the arenas are full.
    fn make_room(&mut self) {
        if self.ids.len() > MOST_IDS || self.bytes.len() > MOST_BYTES {
            self.ids.clear();
            self.bytes.clear();
            self.long.fill(LongSlot::default());
            for bucket in &mut self.buckets {
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

#[inline(always)]
fn key_of_sixteen(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes[..16].try_into().unwrap_or([0; 16]))
}
