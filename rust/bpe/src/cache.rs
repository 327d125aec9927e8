//! Pieces that were merged before: bounded, one a thread, never locked.
//!
//! Two entries share a cache line with their ids, so a piece that is known costs one memory access,
//! which is asked for some hundred pieces ahead. Pieces wait in a queue, over the ends of texts, so
//! that those that are not known can be merged many at a time.

use crate::keys::{SHORT, hash_of_key, hash_of_long, key};
use crate::merges::prefetch;
use crate::pages::{Table, Zero};
use crate::pieces::Ends;
use crate::runs::Runs;

/// Longer pieces than this are not entered: they hardly ever repeat.
const LONG: usize = 256;
const BUCKETS: usize = 1 << 17;
/// As many are enough for a text or two.
const FEW_BUCKETS: usize = 1 << 10;
const LONG_SLOTS: usize = 1 << 16;
/// Ids and bytes that entries may point to before the cache starts afresh.
const MOST_IDS: usize = 1 << 20;
const MOST_BYTES: usize = 1 << 22;
/// Most pieces in the queue.
const QUEUE: usize = 1024;

/// Ids that fit into an entry; the fourth number counts them, or is `ELSEWHERE` or more.
const INLINE: u32 = 3;
/// The ids are in the arena: `[start, end, _, ELSEWHERE]`.
const ELSEWHERE: u32 = 4;
/// The piece is about to be merged; the value is that of a place in the queue: `[place, _, _, SOON]`.
const SOON: u32 = 5;

type Value = [u32; 4];

/// A piece's key and its ids.
pub(crate) type Known = (u128, Value);
/// Most pieces that are told of at once.
const MOST_NEWS: usize = 1 << 13;

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
    /// Short pieces that were entered.
    learned: usize,
    /// Some of them, for other threads.
    news: Vec<Known>,
    /// Whether there are other threads.
    tells: bool,
    queue: Box<Queue>,
    /// Number of ids at the end of each text that ended, until they are taken.
    text_ends: Vec<i64>,
}

/// Pieces on their way to ids, in order.
struct Queue {
    /// 0: the value was there from the start.
    keys: [u128; QUEUE],
    places: [u32; QUEUE],
    values: [Value; QUEUE],
    /// Pieces to merge.
    unknown: [u16; QUEUE],
    unknown_count: usize,
    len: usize,
    /// How many have been looked up.
    known: usize,
    /// Where in the queue texts end.
    text_ends: Vec<u16>,
    /// Room for one piece's symbols.
    symbols: Vec<u32>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            keys: [0; QUEUE],
            places: [0; QUEUE],
            values: [[0; 4]; QUEUE],
            unknown: [0; QUEUE],
            unknown_count: 0,
            len: 0,
            known: 0,
            text_ends: Vec::new(),
            symbols: Vec::new(),
        }
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
    /// Calls `done` with the number and the ids of each of `count` pieces, in any order; `key` gives
    /// a piece's key.
    fn many(&self, count: usize, key: impl Fn(usize) -> u128, done: impl FnMut(usize, &[u32]));
}

impl Cache {
    /// Queues the pieces of `text` from `start` that end at `ends`; a queue that is full is emptied
    /// into `out`.
    ///
    /// `merge` makes the ids of pieces that are not known.
    #[inline]
    pub(crate) fn extend(
        &mut self,
        text: &[u8],
        start: usize,
        ends: &[usize],
        out: &mut Vec<u32>,
        merge: &impl Merge,
    ) {
        self.begin();
        let mut from = start;
        for ends in ends.chunks(Ends::MOST) {
            if self.queue.len + ends.len() > QUEUE {
                self.flush(out, merge);
            }
            // What was asked for before the text was cut has come.
            self.look_up();
            let mut mask = self.buckets.len() - 1;
            for &end in ends {
                let length = end - from;
                if length <= SHORT {
                    let key = key(text, from, length);
                    let place = hash_of_key(key) as usize & mask;
                    prefetch(&self.buckets[place]);
                    let queue = &mut *self.queue;
                    let index = queue.len % QUEUE;
                    (queue.keys[index], queue.places[index]) = (key, place as u32);
                    queue.len += 1;
                } else {
                    self.long(&text[from..end], out, merge);
                    mask = self.buckets.len() - 1;
                }
                from = end;
            }
        }
    }

    /// Tables come with the first piece: many a cache never has one.
    #[inline]
    fn begin(&mut self) {
        if self.buckets.is_empty() {
            self.buckets = Table::new(FEW_BUCKETS);
            self.long = vec![LongSlot::default(); LONG_SLOTS];
        }
    }

    /// Queues an id.
    pub(crate) fn push(&mut self, id: u32, out: &mut Vec<u32>, merge: &impl Merge) {
        self.begin();
        if self.queue.len == QUEUE {
            self.flush(out, merge);
        }
        self.queue.push([id, 0, 0, 1]);
    }

    /// Remembers that a text ends here.
    pub(crate) fn end_text(&mut self) {
        let queue = &mut *self.queue;
        queue.text_ends.push(queue.len as u16);
    }

    /// Number of ids at the end of each text that ended since this was asked for.
    pub(crate) fn take_text_ends(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.text_ends)
    }

    /// Empties the queue into `out`.
    pub(crate) fn flush(&mut self, out: &mut Vec<u32>, merge: &impl Merge) {
        self.look_up();
        if self.queue.unknown_count > 0 {
            self.learn(merge);
        }
        let mut from = 0;
        for number in 0..self.queue.text_ends.len() {
            let end = usize::from(self.queue.text_ends[number]);
            self.emit(from, end, out);
            self.text_ends.push(out.len() as i64);
            from = end;
        }
        self.emit(from, self.queue.len, out);
        let queue = &mut *self.queue;
        queue.text_ends.clear();
        (queue.len, queue.known, queue.unknown_count) = (0, 0, 0);
        self.make_room();
    }

    /// Fills in the values of pieces in the queue as far as they are known.
    #[inline(always)]
    fn look_up(&mut self) {
        let Self { buckets, queue, .. } = self;
        let Queue { keys, places, values, unknown, unknown_count, len, known, .. } = &mut **queue;
        let (from, mut count) = (*known, *unknown_count);
        for index in from..(*len).min(QUEUE) {
            let key = keys[index];
            let bucket = &buckets[places[index] as usize];
            let second = usize::from(bucket.keys[0] != key);
            let value = bucket.values[second];
            // An empty place has the key 0, and so have pieces whose value is there already.
            values[index] = if key == 0 { values[index] } else { value };
            unknown[count % QUEUE] = index as u16;
            count += usize::from(bucket.keys[second] != key && key != 0);
        }
        *known = *len;
        let first = *unknown_count;
        for number in first..count {
            let index = usize::from(unknown[number % QUEUE]);
            let (key, place) = (keys[index], places[index] as usize);
            let bucket = &mut buckets[place];
            if let Some(side) = bucket.keys.iter().position(|&other| other == key) {
                // The same piece came a little earlier.
                values[index] = bucket.values[side];
                continue;
            }
            bucket.enter(key, [index as u32, 0, 0, SOON]);
            unknown[*unknown_count % QUEUE] = index as u16;
            *unknown_count += 1;
        }
    }

    /// Merges short pieces and enters them.
    #[cold]
    #[inline(never)]
    fn learn(&mut self, merge: &impl Merge) {
        let tells = self.tells && self.has_room();
        let Self { buckets, ids, queue, learned, news, .. } = self;
        let Queue { keys, places, values, unknown, unknown_count, .. } = &mut **queue;
        *learned += *unknown_count;
        let index = |number: usize| usize::from(unknown[number % QUEUE]) % QUEUE;
        merge.many(
            *unknown_count,
            |number| keys[index(number)],
            |number, merged| {
                let index = index(number);
                let value = match *merged {
                    [] => [0; 4],
                    [a] => [a, 0, 0, 1],
                    [a, b] => [a, b, 0, 2],
                    [a, b, c] => [a, b, c, 3],
                    _ => elsewhere(ids, merged),
                };
                values[index] = value;
                buckets[places[index] as usize].enter(keys[index], value);
                if tells && value[3] <= INLINE && news.len() < MOST_NEWS {
                    news.push((keys[index], value));
                }
            },
        );
    }

    fn place(&self, key: u128) -> usize {
        hash_of_key(key) as usize & (self.buckets.len() - 1)
    }

    /// Whether pieces of other threads are welcome: they push out none of its own, and one that was
    /// learned late is rare.
    fn has_room(&self) -> bool {
        self.learned < 2 * BUCKETS
    }

    /// From now on what is learned is kept for [`Cache::take_news`], or no longer.
    pub(crate) fn tell(&mut self, tells: bool) {
        self.tells = tells;
    }

    /// Pieces learned since this was asked for.
    pub(crate) fn take_news(&mut self) -> Vec<Known> {
        std::mem::take(&mut self.news)
    }

    /// Enters what another cache learned, where there is an empty place.
    pub(crate) fn take_in(&mut self, pieces: &[Known]) {
        if !self.has_room() {
            return;
        }
        self.begin();
        self.learned += pieces.len();
        self.make_room();
        for some in pieces.chunks(Ends::MOST) {
            some.iter().for_each(|&(key, _)| prefetch(&self.buckets[self.place(key)]));
            for &(key, value) in some {
                let place = self.place(key);
                let bucket = &mut self.buckets[place];
                if bucket.keys[1] == 0 && bucket.keys[0] != key {
                    bucket.enter(key, value);
                }
            }
        }
    }

    /// Appends the ids of a stretch of the queue.
    fn emit(&self, from: usize, end: usize, out: &mut Vec<u32>) {
        let values = &self.queue.values;
        for some in values[from..end].chunks(Ends::MOST) {
            // Four numbers are written where up to three count; the rest is written over.
            let mut ready = [0; 4 * Ends::MOST];
            let mut count = 0;
            for value in some {
                let mut value = value;
                if value[3] > INLINE {
                    if value[3] == SOON {
                        value = &values[value[0] as usize % QUEUE];
                    }
                    if value[3] == ELSEWHERE {
                        out.extend_from_slice(&ready[..count]);
                        out.extend_from_slice(&self.ids[value[0] as usize..value[1] as usize]);
                        count = 0;
                        continue;
                    }
                }
                ready[count..count + 4].copy_from_slice(value);
                count += value[3] as usize;
            }
            out.extend_from_slice(&ready[..count]);
        }
    }

    #[inline(never)]
    fn long(&mut self, piece: &[u8], out: &mut Vec<u32>, merge: &impl Merge) {
        if piece.len() > LONG {
            self.flush(out, merge);
            self.runs.extend(piece, out, &mut self.queue.symbols, merge);
            return;
        }
        let hash = hash_of_long(piece);
        let slot = self.long[hash as usize % LONG_SLOTS];
        let text = slot.text as usize;
        let known = slot.hash == hash
            && slot.length as usize == piece.len()
            && &self.bytes[text..text + piece.len()] == piece;
        let value = match known {
            true => [slot.start, slot.end, 0, ELSEWHERE],
            false => self.learn_long(piece, hash, merge),
        };
        self.queue.push(value);
    }

    fn learn_long(&mut self, piece: &[u8], hash: u64, merge: &impl Merge) -> Value {
        let (text, start) = (self.bytes.len() as u32, self.ids.len() as u32);
        self.bytes.extend_from_slice(piece);
        merge.one(piece, &mut self.queue.symbols, &mut self.ids);
        let (length, end) = (piece.len() as u32, self.ids.len() as u32);
        self.long[hash as usize % LONG_SLOTS] = LongSlot { hash, text, length, start, end };
        [start, end, 0, ELSEWHERE]
    }

    /// Gives a full first table a larger successor, and starts afresh when the arenas are full; not
    /// while values in the queue point into them.
    fn make_room(&mut self) {
        if self.buckets.len() < BUCKETS && self.learned > FEW_BUCKETS {
            let few = std::mem::replace(&mut self.buckets, Table::new(BUCKETS));
            for bucket in few.iter() {
                for (&key, &value) in bucket.keys.iter().zip(&bucket.values) {
                    if key != 0 {
                        let place = self.place(key);
                        self.buckets[place].enter(key, value);
                    }
                }
            }
        }
        if self.ids.len() > MOST_IDS || self.bytes.len() > MOST_BYTES {
            self.ids.clear();
            self.bytes.clear();
            self.long.fill(LongSlot::default());
            self.learned = 0;
            for bucket in self.buckets.iter_mut() {
                bucket.keys = [0; 2];
            }
        }
    }
}

impl Bucket {
    /// Enters a piece: into an empty place, else over the later of two.
    #[inline(always)]
    fn enter(&mut self, key: u128, value: Value) {
        let side = usize::from(self.keys[0] != 0 && self.keys[0] != key);
        self.keys[side] = key;
        self.values[side] = value;
    }
}

impl Queue {
    /// Adds what needs no looking up.
    #[inline]
    fn push(&mut self, value: Value) {
        let index = self.len % QUEUE;
        (self.keys[index], self.places[index], self.values[index]) = (0, 0, value);
        self.len += 1;
    }
}

#[inline]
fn elsewhere(arena: &mut Vec<u32>, ids: &[u32]) -> Value {
    let start = arena.len() as u32;
    arena.extend_from_slice(ids);
    [start, arena.len() as u32, 0, ELSEWHERE]
}
