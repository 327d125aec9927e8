//! Short pieces merged several at a time.
//!
//! A merge waits for the ranks of two pairs, which seldom lie in a near cache, and the next merge
//! of the piece waits for it. So sixteen pieces take turns: what one asks for arrives while the
//! others work. Each piece is joined as in [`Merges::apply`], lowest rank first, leftmost first.

use crate::merges::{Merges, NONE};

/// Most symbols of a piece.
pub(crate) const SHORT: usize = 16;
/// Pieces that take turns.
const LANES: usize = 16;

/// A piece at work. Position `i` lives while bit `i` of `alive` is set.
#[derive(Clone, Copy)]
struct Lane {
    symbols: [u32; SHORT],
    /// `rank << 4 | position` of the pair that starts there.
    best: [u32; SHORT],
    alive: u32,
    piece: u32,
    /// The pair to join next, an element of `best`.
    chosen: u32,
}

const IDLE: Lane =
    Lane { symbols: [NONE; SHORT], best: [NONE; SHORT], alive: 0, piece: 0, chosen: NONE };

#[inline(always)]
fn pack(rank: u32, at: usize) -> u32 {
    if rank == NONE { NONE } else { rank << 4 | at as u32 }
}

impl Lane {
    /// The living position after `at`; `SHORT` or more if there is none.
    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        (self.alive & (u32::MAX << at << 1)).trailing_zeros() as usize
    }

    /// The living position before `at`, if any.
    #[inline(always)]
    fn before(&self, at: usize) -> Option<usize> {
        (self.alive & ((1 << at) - 1)).checked_ilog2().map(|bit| bit as usize)
    }

    #[inline(always)]
    fn choose(&mut self) {
        self.chosen = self.best.iter().fold(NONE, |least, &value| least.min(value));
    }

    /// Joins the chosen pair and asks for the ranks that its new neighbours need.
    #[inline(always)]
    fn join(&mut self, merges: &Merges) {
        let at = (self.chosen & 15) as usize;
        let right = self.after(at) % SHORT;
        let result = merges.result(self.chosen >> 4);
        self.symbols[at] = result;
        self.alive &= !(1 << right);
        self.best[right] = NONE;
        let after = self.after(at);
        if after < SHORT {
            merges.prefetch_pair(result, self.symbols[after]);
        }
        if let Some(before) = self.before(at) {
            merges.prefetch_pair(self.symbols[before % SHORT], result);
        }
    }

    /// Takes in the ranks that were asked for.
    #[inline(always)]
    fn renew(&mut self, merges: &Merges) {
        let at = (self.chosen & 15) as usize;
        let after = self.after(at);
        self.best[at] = match after < SHORT {
            true => pack(merges.rank(self.symbols[at], self.symbols[after]), at),
            false => NONE,
        };
        if let Some(before) = self.before(at) {
            let before = before % SHORT;
            self.best[before] = pack(merges.rank(self.symbols[before], self.symbols[at]), before);
        }
    }
}

/// The pieces of a batch.
pub(crate) trait Pieces {
    /// Fills in the symbols of a piece and, for each pair that it can tell, its rank; returns the
    /// number of symbols.
    fn start(
        &mut self,
        piece: usize,
        symbols: &mut [u32; SHORT],
        ranks: &mut [u32; SHORT],
    ) -> usize;
    /// Takes the ids of a piece.
    fn finish(&mut self, piece: usize, ids: &[u32]);
}

impl Merges {
    /// Merges `count` pieces of at most [`SHORT`] symbols; they finish in any order.
    pub(crate) fn apply_batch(&self, count: usize, pieces: &mut impl Pieces) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
        {
            // SAFETY: the features were just found.
            return unsafe { self.apply_batch_avx2(count, pieces) };
        }
        self.apply_batch_any(count, pieces);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    fn apply_batch_avx2(&self, count: usize, pieces: &mut impl Pieces) {
        self.apply_batch_any(count, pieces);
    }

    #[inline(always)]
    fn apply_batch_any(&self, count: usize, pieces: &mut impl Pieces) {
        let mut lanes = [IDLE; LANES];
        let (mut live, mut next) = (0, 0);
        while live < LANES && begin(&mut lanes[live], &mut next, count, pieces) {
            live += 1;
        }
        while live > 0 {
            // Turn by turn, so that no lane reads at once what it has just written.
            for lane in &mut lanes[..live] {
                lane.join(self);
            }
            for lane in &mut lanes[..live] {
                lane.renew(self);
            }
            let mut number = 0;
            while number < live {
                let lane = &mut lanes[number];
                lane.choose();
                if lane.chosen == NONE {
                    finish(lane, pieces);
                    if !begin(lane, &mut next, count, pieces) {
                        live -= 1;
                        lanes[number] = lanes[live];
                        continue;
                    }
                }
                number += 1;
            }
        }
    }
}

/// Lets the next piece that has anything to join into a lane; false when none is left.
#[inline(always)]
fn begin(lane: &mut Lane, next: &mut usize, count: usize, pieces: &mut impl Pieces) -> bool {
    while *next < count {
        lane.piece = *next as u32;
        lane.best = [NONE; SHORT];
        let length = pieces.start(*next, &mut lane.symbols, &mut lane.best);
        lane.alive = ((1u64 << length) - 1) as u32;
        for (at, best) in lane.best.iter_mut().enumerate() {
            *best = pack(*best, at);
        }
        *next += 1;
        lane.choose();
        if lane.chosen != NONE {
            return true;
        }
        finish(lane, pieces);
    }
    false
}

#[inline(always)]
fn finish(lane: &Lane, pieces: &mut impl Pieces) {
    let (mut ids, mut count, mut alive) = ([0; SHORT], 0, lane.alive);
    while alive != 0 {
        ids[count % SHORT] = lane.symbols[alive.trailing_zeros() as usize % SHORT];
        count += 1;
        alive &= alive - 1;
    }
    pieces.finish(lane.piece as usize, &ids[..count.min(SHORT)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rule;

    struct Texts<'m>(&'m Merges, Vec<Vec<u32>>, Vec<Vec<u32>>);

    impl Pieces for Texts<'_> {
        fn start(
            &mut self,
            piece: usize,
            symbols: &mut [u32; SHORT],
            ranks: &mut [u32; SHORT],
        ) -> usize {
            let text = &self.1[piece];
            symbols[..text.len()].copy_from_slice(text);
            for (rank, pair) in ranks.iter_mut().zip(text.windows(2)) {
                *rank = self.0.rank(pair[0], pair[1]);
            }
            text.len()
        }
        fn finish(&mut self, piece: usize, ids: &[u32]) {
            assert!(self.2[piece].is_empty());
            self.2[piece] = ids.to_vec();
        }
    }

    #[test]
    fn a_batch_gives_what_each_piece_gives_alone() {
        let mut state = 3u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for count in [1, 4, 12, 40] {
            let mut merges = Merges::default();
            for rank in 0..count {
                let (left, right) = (random() % (2 + rank), random() % (2 + rank));
                merges.insert(Rule { rank, left, right, result: 2 + rank });
            }
            for pieces in [0, 1, 7, 8, 9, 100] {
                let texts: Vec<Vec<u32>> = (0..pieces)
                    .map(|_| (0..=random() % SHORT as u32).map(|_| random() % 2).collect())
                    .map(|text: Vec<u32>| text[..text.len().min(SHORT)].to_vec())
                    .collect();
                let mut batch = Texts(&merges, texts.clone(), vec![Vec::new(); pieces]);
                merges.apply_batch(pieces, &mut batch);
                for (text, got) in texts.iter().zip(&batch.2) {
                    let mut alone = Vec::new();
                    merges.apply(text, &mut alone);
                    assert_eq!(got, &alone);
                }
            }
        }
    }
}
