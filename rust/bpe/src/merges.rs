//! The merge engine: repeatedly join the adjacent pair of lowest rank, leftmost first.
//!
//! Short pieces are joined in a small array; long ones window by window, which is exact: a sequence
//! of tokens is the encoding of its text if and only if each two neighbours are the encoding of
//! theirs (the first merge across a border would also happen between the two alone), so windows
//! that agree on a token can be put together there. Time is linear in the length of a piece.

use crate::BpeError;
use crate::pages::Table;

/// No rule for a pair.
pub(crate) const NONE: u32 = u32::MAX;
const ID_BITS: u32 = 21;
const RANK_BITS: u32 = 22;
const RANKS: u64 = (1 << RANK_BITS) - 1;
/// Rules in a bucket, half a cache line; they are compared at once.
const LANES: usize = 4;

/// Up to this many symbols a scan of an array beats a heap.
pub(crate) const SCAN: usize = 64;
/// Which pairs join, in which order of priority, and what they become.
#[derive(Debug, Clone)]
pub struct Merges {
    /// Hash table of `left, right, rank + 1`, packed into eight bytes, at most half full; a bucket
    /// is filled from the front and its surplus goes to the next. 0 is an empty place.
    buckets: Table<[u64; LANES]>,
    /// Rank → id of the result.
    results: Vec<u32>,
    /// What to add to a rank to have the id of its result, where that is the same for all.
    offset: Option<u32>,
    len: usize,
}

/// A rule: the pair `left, right` becomes `result`; rules of lower rank go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Priority.
    pub rank: u32,
    /// Id on the left.
    pub left: u32,
    /// Id on the right.
    pub right: u32,
    /// Id of both together.
    pub result: u32,
}

impl Default for Merges {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Merges {
    /// Ids and ranks that a rule can hold.
    ///
    /// # Errors
    /// More ids or ranks than that.
    pub fn check_sizes(ids: usize, ranks: usize) -> Result<(), BpeError> {
        if ids >= 1 << ID_BITS || ranks as u64 >= RANKS {
            let what = format!("{ids} ids with {ranks} merges");
            let supported = "fewer than 2,097,152 ids and 4,194,303 merges";
            return Err(BpeError::Unsupported { field: "model".into(), what, supported });
        }
        Ok(())
    }

    /// No rules, with room for `rules`.
    #[must_use]
    pub fn with_capacity(rules: usize) -> Self {
        let buckets = (rules * 2 / LANES).next_power_of_two().max(16);
        let results = Vec::with_capacity(rules);
        Self { buckets: Table::new(buckets), results, offset: None, len: 0 }
    }

    /// Adds a rule; a pair that is there already keeps its first rank and `false` is returned.
    pub fn insert(&mut self, rule: Rule) -> bool {
        debug_assert!(rule.left.max(rule.right) < 1 << ID_BITS && u64::from(rule.rank) < RANKS);
        if (self.len + 1) * 2 > self.buckets.len() * LANES {
            let larger = Table::new(self.buckets.len() * 2);
            let smaller = std::mem::replace(&mut self.buckets, larger);
            for &slot in smaller.iter().flatten().filter(|&&slot| slot != 0) {
                self.put(slot);
            }
        }
        let key = key(rule.left, rule.right);
        if self.rank(rule.left, rule.right) != NONE {
            return false;
        }
        self.put(key << RANK_BITS | (u64::from(rule.rank) + 1));
        if self.results.len() <= rule.rank as usize {
            self.results.resize(rule.rank as usize + 1, NONE);
        }
        self.results[rule.rank as usize] = rule.result;
        let offset = Some(rule.result.wrapping_sub(rule.rank));
        self.offset =
            if self.len == 0 { offset } else { self.offset.filter(|_| self.offset == offset) };
        self.len += 1;
        true
    }

    fn put(&mut self, slot: u64) {
        let mut at = self.bucket_of(slot >> RANK_BITS);
        loop {
            if let Some(place) = self.buckets[at].iter_mut().find(|place| **place == 0) {
                *place = slot;
                return;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    #[inline(always)]
    fn bucket_of(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & (self.buckets.len() - 1)
    }

    /// Takes out every rule whose result is one of `ids`, so that no text can become it; says
    /// whether there was one.
    pub fn forget_results(&mut self, ids: &[u32]) -> bool {
        if !self.results.iter().any(|result| ids.contains(result)) {
            return false;
        }
        for slot in self.buckets.iter_mut().flatten().filter(|slot| **slot != 0) {
            let rank = (*slot & RANKS) as usize - 1;
            if ids.contains(&self.results[rank]) {
                // Of a pair that no text has: what came after it in its bucket stays to be found.
                *slot |= !RANKS;
                self.len -= 1;
            }
        }
        true
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All rules in order of rank.
    #[must_use]
    pub fn sorted(&self) -> Vec<Rule> {
        let slots = self.buckets.iter().flatten();
        let slots = slots.filter(|&&slot| slot != 0 && slot | RANKS != u64::MAX);
        let mut rules: Vec<_> = slots.map(|&slot| self.rule(slot)).collect();
        rules.sort_unstable();
        rules
    }

    /// The rule of lowest rank that joins this id to anything.
    pub(crate) fn first_of(&self, id: u32) -> Option<Rule> {
        let (left, right) = (u64::from(id) << ID_BITS, u64::from(id));
        let has = |slot: u64| {
            let pair = slot >> RANK_BITS;
            (pair ^ left) >> ID_BITS == 0 || (pair ^ right) & ((1 << ID_BITS) - 1) == 0
        };
        let slots = self.buckets.iter().flatten();
        let slots = slots.filter(|&&slot| slot != 0 && slot | RANKS != u64::MAX && has(slot));
        slots.min_by_key(|&&slot| slot & RANKS).map(|&slot| self.rule(slot))
    }

    fn rule(&self, slot: u64) -> Rule {
        let (pair, rank) = (slot >> RANK_BITS, ((slot & RANKS) - 1) as u32);
        let (left, right) = (pair >> ID_BITS, pair & ((1 << ID_BITS) - 1));
        let result = self.results[rank as usize];
        Rule { rank, left: left as u32, right: right as u32, result }
    }

    /// The rank of a pair's rule, `NONE` without one. No branch depends on the pair as a rule.
    #[inline(always)]
    pub(crate) fn rank(&self, left: u32, right: u32) -> u32 {
        let key = key(left, right);
        let mut at = self.bucket_of(key);
        loop {
            let bucket = &self.buckets[at];
            let found = bucket.iter().fold(0, |found, &slot| {
                found | if slot >> RANK_BITS == key { slot & RANKS } else { 0 }
            });
            if found != 0 || bucket[LANES - 1] == 0 {
                // 0 becomes `NONE`.
                return (found as u32).wrapping_sub(1);
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// What the rule of this rank makes.
    #[inline(always)]
    pub(crate) fn result(&self, rank: u32) -> u32 {
        match self.offset {
            Some(offset) => rank.wrapping_add(offset),
            None => self.results[rank as usize],
        }
    }

    /// Asks for what [`Merges::rank`] will read.
    #[inline(always)]
    pub(crate) fn prefetch_pair(&self, left: u32, right: u32) {
        prefetch(&self.buckets[self.bucket_of(key(left, right))]);
    }

    /// Joins `symbols` until no rule applies and appends what they become to `ids`.
    pub fn apply(&self, symbols: &[u32], ids: &mut Vec<u32>) {
        if symbols.len() <= SCAN {
            self.scan(symbols, |id, _| ids.push(id));
        } else {
            self.windows(symbols, ids);
        }
    }

    /// Calls `token` with each id and where it ends in `symbols`.
    #[inline]
    pub(crate) fn scan(&self, symbols: &[u32], token: impl FnMut(u32, usize)) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just found.
            return unsafe { self.scan_avx2(symbols, token) };
        }
        self.scan_any(symbols, token);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn scan_avx2(&self, symbols: &[u32], token: impl FnMut(u32, usize)) {
        self.scan_any(symbols, token);
    }

    /// A linked list in arrays; the next pair to join is the minimum of `rank, position`.
    #[inline(always)]
    fn scan_any(&self, symbols: &[u32], mut token: impl FnMut(u32, usize)) {
        let count = symbols.len();
        if count < 2 {
            symbols.iter().for_each(|&symbol| token(symbol, 1));
            return;
        }
        debug_assert!(count <= SCAN);
        let (mut symbol, mut best) = ([NONE; SCAN + 1], [NONE; SCAN]);
        let (mut next, mut previous) = ([0u8; SCAN + 1], [0u8; SCAN + 1]);
        symbol[..count].copy_from_slice(symbols);
        let pack = |rank: u32, at: usize| if rank == NONE { NONE } else { rank << 6 | at as u32 };
        for at in 0..count {
            next[at] = at as u8 + 1;
            previous[at + 1] = at as u8;
            if at + 1 < count {
                best[at] = pack(self.rank(symbol[at], symbol[at + 1]), at);
            }
        }
        let lanes = (count - 1).next_multiple_of(8);
        loop {
            let first = best[..lanes].iter().fold(NONE, |least, &value| least.min(value));
            if first == NONE {
                break;
            }
            let at = (first & 63) as usize;
            let right = usize::from(next[at]);
            let after = usize::from(next[right]);
            let result = self.result(first >> 6);
            symbol[at] = result;
            if right < SCAN {
                best[right] = NONE;
            }
            next[at] = after as u8;
            previous[after] = at as u8;
            best[at] = match after < count {
                true => pack(self.rank(result, symbol[after]), at),
                false => NONE,
            };
            if at > 0 {
                let before = usize::from(previous[at]);
                best[before] = pack(self.rank(symbol[before], result), before);
            }
        }
        let mut at = 0;
        while at < count {
            let id = symbol[at];
            at = usize::from(next[at]);
            token(id, at);
        }
    }
}

#[inline(always)]
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

/// Asks for a cache line ahead of its use.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on time, and the address is a reference's.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Merges {
        // 0=a 1=b 2=ab 3=aa 4=aba 5=aaaa
        let mut merges = Merges::default();
        for (rank, (left, right, result)) in
            [(0, 1, 2), (0, 0, 3), (2, 0, 4), (3, 3, 5)].into_iter().enumerate()
        {
            assert!(merges.insert(Rule { rank: rank as u32, left, right, result }));
        }
        merges
    }

    /// Rules over two letters that join at random, so that long tokens of all kinds occur.
    fn random_rules(state: &mut u32, count: u32) -> Merges {
        let mut merges = Merges::default();
        for rank in 0..count {
            let (left, right) = (random(state) % (2 + rank), random(state) % (2 + rank));
            merges.insert(Rule { rank, left, right, result: 2 + rank });
        }
        merges
    }

    fn random(state: &mut u32) -> u32 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *state >> 8
    }

    fn heap(merges: &Merges, symbols: &[u32]) -> Vec<u32> {
        let mut ids = Vec::new();
        merges.heap(symbols, |id, _| ids.push(id));
        ids
    }

    fn apply(merges: &Merges, symbols: &[u32]) -> Vec<u32> {
        let mut ids = Vec::new();
        merges.apply(symbols, &mut ids);
        ids
    }

    /// The definition, word for word.
    fn slow(merges: &Merges, symbols: &[u32]) -> Vec<u32> {
        let mut ids = symbols.to_vec();
        while let Some((rank, at)) = (0..ids.len().saturating_sub(1))
            .map(|at| (merges.rank(ids[at], ids[at + 1]), at))
            .min()
            .filter(|&(rank, _)| rank != NONE)
        {
            ids[at] = merges.results[rank as usize];
            ids.remove(at + 1);
        }
        ids
    }

    #[test]
    fn lowest_rank_first_then_leftmost() {
        assert_eq!(apply(&rules(), &[0, 0, 1, 0]), [0, 4]);
    }

    #[test]
    fn all_ways_follow_the_definition() {
        let mut state = 7;
        for count in [1, 4, 12, 40] {
            for _ in 0..20 {
                let merges = random_rules(&mut state, count);
                for length in [0, 1, 2, 3, 9, 17, 63, 64, 65, 100, 300] {
                    let text: Vec<u32> = (0..length).map(|_| random(&mut state) % 2).collect();
                    let right = slow(&merges, &text);
                    assert_eq!(heap(&merges, &text), right);
                    assert_eq!(apply(&merges, &text), right);
                }
            }
        }
    }

    #[test]
    fn a_million_equal_symbols() {
        assert_eq!(apply(&rules(), &vec![0; 1_000_000]).len(), 250_000);
    }

    #[test]
    fn a_token_longer_than_any_window() {
        let mut merges = Merges::default();
        for rank in 0..10 {
            merges.insert(Rule { rank, left: rank, right: rank, result: rank + 1 });
        }
        let (text, right) = (vec![0; 5_000], slow(&merges, &[0; 5_000]));
        assert_eq!(apply(&merges, &text), right);
    }

    #[test]
    fn forgotten_results_and_order() {
        let mut merges = rules();
        assert!(!merges.insert(Rule { rank: 9, left: 0, right: 1, result: 8 }));
        merges.forget_results(&[3]);
        let results: Vec<u32> = merges.sorted().iter().map(|rule| rule.result).collect();
        assert_eq!(results, [2, 4, 5]);
        assert_eq!(apply(&merges, &[0, 0, 0]), [0, 0, 0]);
    }
}
