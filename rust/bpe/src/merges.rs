//! The merge engine: repeatedly join the adjacent pair of lowest rank, leftmost first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

const NONE: u32 = u32::MAX;

/// Up to this many symbols a scan of an array beats a heap.
const SCAN_LIMIT: usize = 48;

/// Which pairs join, in which order of priority, and what they become.
#[derive(Debug, Clone, Default)]
pub struct Merges {
    pairs: FxHashMap<u64, (u32, u32)>,
}

#[inline]
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merges {
    /// Adds a rule; a pair that is there already keeps its first rank and `false` is returned.
    pub fn insert(&mut self, left: u32, right: u32, rank: u32, result: u32) -> bool {
        let entry = self.pairs.entry(key(left, right));
        let is_new = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
        entry.or_insert((rank, result));
        is_new
    }

    /// Takes out every rule whose result is `id`, so that no text can become it.
    pub fn forget_result(&mut self, id: u32) {
        self.pairs.retain(|_, (_, result)| *result != id);
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Rules as `(rank, left, right, result)` in order of rank.
    #[must_use]
    pub fn sorted(&self) -> Vec<(u32, u32, u32, u32)> {
        let rule = |(&key, &(rank, result)): (&u64, &(u32, u32))| {
            (rank, (key >> 32) as u32, key as u32, result)
        };
        let mut rules: Vec<_> = self.pairs.iter().map(rule).collect();
        rules.sort_unstable();
        rules
    }

    #[inline]
    fn rank(&self, left: u32, right: u32) -> (u32, u32) {
        self.pairs.get(&key(left, right)).copied().unwrap_or((NONE, 0))
    }

    /// Joins `symbols` in place until no rule applies.
    pub fn apply(&self, symbols: &mut Vec<u32>) {
        match symbols.len() {
            0 | 1 => {}
            n if n <= SCAN_LIMIT => self.apply_by_scan(symbols),
            _ => self.apply_by_heap(symbols),
        }
    }

    fn apply_by_scan(&self, symbols: &mut Vec<u32>) {
        let mut ranks = [(NONE, 0u32); SCAN_LIMIT];
        let mut pairs = symbols.len() - 1;
        for (slot, pair) in ranks.iter_mut().zip(symbols.windows(2)) {
            *slot = self.rank(pair[0], pair[1]);
        }
        loop {
            let mut best = (NONE, 0);
            for (index, slot) in ranks[..pairs].iter().enumerate() {
                if slot.0 < best.0 {
                    best = (slot.0, index);
                }
            }
            if best.0 == NONE {
                return;
            }
            let at = best.1;
            symbols[at] = ranks[at].1;
            symbols.remove(at + 1);
            ranks.copy_within(at + 1..pairs, at);
            pairs -= 1;
            if at > 0 {
                ranks[at - 1] = self.rank(symbols[at - 1], symbols[at]);
            }
            if at < pairs {
                ranks[at] = self.rank(symbols[at], symbols[at + 1]);
            }
        }
    }

    /// n log n for any text: a linked list of symbols and a heap of pairs, stale ones skipped.
    fn apply_by_heap(&self, symbols: &mut Vec<u32>) {
        let end = symbols.len();
        let mut next: Vec<u32> = (1..=end as u32).collect();
        let mut previous: Vec<u32> = (0..end as u32).map(|i| i.wrapping_sub(1)).collect();
        let mut heap: BinaryHeap<Reverse<(u32, u32)>> = (0..end - 1)
            .filter_map(|at| {
                let (rank, _) = self.rank(symbols[at], symbols[at + 1]);
                (rank != NONE).then_some(Reverse((rank, at as u32)))
            })
            .collect();
        while let Some(Reverse((rank, at))) = heap.pop() {
            let (left, right) = (at as usize, next[at as usize] as usize);
            if symbols[left] == NONE || right >= end {
                continue;
            }
            let (now, result) = self.rank(symbols[left], symbols[right]);
            if now != rank {
                continue;
            }
            symbols[left] = result;
            symbols[right] = NONE;
            let after = next[right];
            next[left] = after;
            if (after as usize) < end {
                previous[after as usize] = at;
                let (rank, _) = self.rank(result, symbols[after as usize]);
                if rank != NONE {
                    heap.push(Reverse((rank, at)));
                }
            }
            let before = previous[left];
            if before != NONE {
                let (rank, _) = self.rank(symbols[before as usize], result);
                if rank != NONE {
                    heap.push(Reverse((rank, before)));
                }
            }
        }
        symbols.retain(|&symbol| symbol != NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Merges {
        // 0=a 1=b 2=ab 3=aa 4=aba 5=aaaa
        let mut merges = Merges::default();
        merges.insert(0, 0, 1, 3);
        merges.insert(0, 1, 0, 2);
        merges.insert(2, 0, 2, 4);
        merges.insert(3, 3, 3, 5);
        merges
    }

    #[test]
    fn lowest_rank_first_then_leftmost() {
        let mut symbols = vec![0, 0, 1, 0];
        rules().apply(&mut symbols);
        assert_eq!(symbols, [0, 4]);
    }

    #[test]
    fn scan_and_heap_agree() {
        let merges = rules();
        let mut state = 7u32;
        for length in 2..=SCAN_LIMIT {
            for _ in 0..50 {
                let text: Vec<u32> = (0..length)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        state >> 31
                    })
                    .collect();
                let (mut scan, mut heap) = (text.clone(), text);
                merges.apply_by_scan(&mut scan);
                merges.apply_by_heap(&mut heap);
                assert_eq!(scan, heap);
            }
        }
    }

    #[test]
    fn a_million_equal_symbols() {
        let mut symbols = vec![0; 1_000_000];
        rules().apply(&mut symbols);
        assert_eq!(symbols.len(), 250_000);
    }
}
