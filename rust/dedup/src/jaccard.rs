//! Similarity of sets of shingles and of signatures.

/// Jaccard similarity of two sorted sets: |A ∩ B| / |A ∪ B|; 0 where both are empty.
#[must_use]
pub fn jaccard(one: &[u64], two: &[u64]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0usize);
    while i < one.len() && j < two.len() {
        let (left, right) = (one[i], two[j]);
        shared += usize::from(left == right);
        i += usize::from(left <= right);
        j += usize::from(right <= left);
    }
    ratio(shared, one.len() + two.len() - shared)
}

fn ratio(shared: usize, union: usize) -> f64 {
    if union == 0 { 0.0 } else { shared as f64 / union as f64 }
}

/// Jaccard similarity estimated from two signatures: the share of equal slots.
#[must_use]
pub fn estimate(one: &[u32], two: &[u32]) -> f64 {
    let equal = one.iter().zip(two).filter(|(left, right)| left == right).count();
    ratio(equal, one.len())
}

/// One set of shingles, to compare others with: nothing needs to be sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probe {
    /// Open addressing: shingles by their lower bits, 0 for a free place.
    table: Vec<u64>,
    /// The comparison in which the place's shingle was last met.
    met: Vec<u32>,
    comparison: u32,
    size: usize,
}

impl Probe {
    /// Takes the set of these shingles, none of them 0, in place of the one before; returns its
    /// size.
    pub(crate) fn load(&mut self, shingles: &[u64]) -> usize {
        let places = (2 * shingles.len()).next_power_of_two().max(16);
        self.table.clear();
        self.table.resize(places, 0);
        self.met.clear();
        self.met.resize(places, 0);
        (self.comparison, self.size) = (0, 0);
        for &shingle in shingles {
            let place = self.find(shingle);
            self.size += usize::from(self.table[place] == 0);
            self.table[place] = shingle;
        }
        self.size
    }

    #[inline(always)]
    fn find(&self, shingle: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut place = shingle as usize & mask;
        while self.table[place] != 0 && self.table[place] != shingle {
            place = (place + 1) & mask;
        }
        place
    }

    /// Similarity to the set of `shingles`, which has `size` elements; `None` if it is below
    /// `threshold`, which ends the comparison as soon as it is certain.
    pub(crate) fn similarity(
        &mut self,
        shingles: &[u64],
        size: usize,
        threshold: f64,
    ) -> Option<f64> {
        let most = self.size.min(size);
        if ratio(most, self.size + size - most) < threshold {
            return None;
        }
        self.comparison += 1;
        let mut shared = 0;
        let mut left = shingles.len();
        for part in shingles.chunks(64) {
            for &shingle in part {
                let place = self.find(shingle);
                let new = self.table[place] != 0 && self.met[place] != self.comparison;
                self.met[place] = self.comparison;
                shared += usize::from(new);
            }
            left -= part.len();
            let most = (shared + left).min(self.size).min(size);
            if ratio(most, self.size + size - most) < threshold {
                return None;
            }
        }
        let similarity = ratio(shared, self.size + size - shared);
        (similarity >= threshold).then_some(similarity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert!((jaccard(&[1, 2, 3], &[2, 3, 4]) - 0.5).abs() < 1e-12);
        assert!((jaccard(&[1, 2], &[1, 2]) - 1.0).abs() < 1e-12);
        assert!(jaccard(&[], &[]).abs() < 1e-12);
        assert!(jaccard(&[1], &[]).abs() < 1e-12);
        assert!((estimate(&[1, 2, 3, 4], &[1, 0, 3, 0]) - 0.5).abs() < 1e-12);
        assert!(estimate(&[], &[]).abs() < 1e-12);
    }

    #[test]
    fn probe_agrees_with_sorted_sets() {
        let mut state = 11;
        let mut probe = Probe::default();
        for round in 0..500 {
            // Few values: repetitions and neighbours that share a place.
            let mut draw = |count: u64| -> Vec<u64> {
                (0..count)
                    .map(|_| crate::hash::split_mix(&mut state) % 90 + 1)
                    .map(|value| if round % 2 == 0 { value } else { value << 40 | 5 })
                    .collect()
            };
            let (one, two) = (draw(round % 150 + 1), draw(1 + round % 70));
            let set = |values: &[u64]| {
                let mut set = values.to_vec();
                set.sort_unstable();
                set.dedup();
                set
            };
            let (first, second) = (set(&one), set(&two));
            assert_eq!(probe.load(&one), first.len());
            let want = jaccard(&first, &second);
            for threshold in [1e-9, 0.2, want, want + 1e-9, 0.9] {
                let got = probe.similarity(&two, second.len(), threshold);
                assert_eq!(got, (want >= threshold).then_some(want));
            }
        }
    }
}
