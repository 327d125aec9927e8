//! Pieces too long for the small array of [`Merges::scan`]: a heap, and windows that agree.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::merges::{Merges, NONE, SCAN};

impl Merges {
    /// n log n for any text: a linked list of symbols and a heap of pairs, stale ones skipped.
    pub(crate) fn heap(&self, symbols: &[u32], mut token: impl FnMut(u32, usize)) {
        let end = symbols.len();
        let mut symbol = symbols.to_vec();
        let mut next: Vec<u32> = (1..=end as u32).collect();
        let mut previous: Vec<u32> = (0..end as u32).map(|at| at.wrapping_sub(1)).collect();
        let ranked = |left: u32, right: u32, at: u32| {
            let rank = self.rank(left, right);
            (rank != NONE).then_some(Reverse((rank, at)))
        };
        let pairs = symbols.windows(2).zip(0..);
        let mut heap: BinaryHeap<_> =
            pairs.filter_map(|(pair, at)| ranked(pair[0], pair[1], at)).collect();
        while let Some(Reverse((rank, at))) = heap.pop() {
            let (left, right) = (at as usize, next[at as usize] as usize);
            if symbol[left] == NONE
                || right >= end
                || self.rank(symbol[left], symbol[right]) != rank
            {
                continue;
            }
            let result = self.result(rank);
            symbol[left] = result;
            symbol[right] = NONE;
            let after = next[right];
            next[left] = after;
            if (after as usize) < end {
                previous[after as usize] = at;
                heap.extend(ranked(result, symbol[after as usize], at));
            }
            let before = previous[left];
            if before != NONE {
                heap.extend(ranked(symbol[before as usize], result, before));
            }
        }
        let mut at = 0;
        while at < end {
            let id = symbol[at];
            at = next[at] as usize;
            token(id, at);
        }
    }

    /// Window after window; each starts at a token of the one before and must make it again.
    pub(crate) fn windows(&self, symbols: &[u32], ids: &mut Vec<u32>) {
        let (mut size, mut start) = (SCAN, 0);
        let mut window = Window::default();
        window.fill(self, &symbols[..size]);
        loop {
            if start + size >= symbols.len() {
                ids.extend_from_slice(&window.ids);
                return;
            }
            let cut = window.ends.partition_point(|&end| end < size - size / 4);
            let (kept, skipped) = match window.ends.get(cut) {
                Some(&end) if end < size => (cut + 1, end),
                _ => (0, 0),
            };
            if kept > 0 {
                let from = start + skipped;
                let mut following = Window::default();
                following.fill(self, &symbols[from..symbols.len().min(from + size)]);
                let whole = window.ends[kept] - skipped;
                if following.ids[0] == window.ids[kept] && following.ends[0] == whole {
                    ids.extend_from_slice(&window.ids[..kept]);
                    (window, start) = (following, from);
                    continue;
                }
            }
            // Tokens too long for the window, or a choice that depends on more text.
            size *= 4;
            window.fill(self, &symbols[start..symbols.len().min(start + size)]);
        }
    }
}

/// The tokens of one window, and where each ends in it.
#[derive(Default)]
struct Window {
    ids: Vec<u32>,
    ends: Vec<usize>,
}

impl Window {
    fn fill(&mut self, merges: &Merges, symbols: &[u32]) {
        self.ids.clear();
        self.ends.clear();
        let token = |id, end| {
            self.ids.push(id);
            self.ends.push(end);
        };
        if symbols.len() <= SCAN {
            merges.scan(symbols, token)
        } else {
            merges.heap(symbols, token)
        }
    }
}
