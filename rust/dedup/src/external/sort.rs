//! Sorting records whose first number is a hash, quicker than by comparisons alone.

/// Records from which on spreading pays.
const MANY: usize = 2_048;

/// Records for which there is one place, on average.
const A_PLACE: usize = 8;

/// Sorts records that have 64 evenly spread bits, of which the upper `known` are the same in all.
///
/// One pass puts each where its next bits say, so that what is left to compare lies side by side.
pub(crate) fn sort_spread<R: Ord + Copy + Send>(
    records: &mut Vec<R>,
    known: u32,
    bits: impl Fn(&R) -> u64,
) {
    if records.len() < MANY {
        return records.sort_unstable();
    }
    let width = (records.len() / A_PLACE).ilog2().clamp(1, 16);
    let place = |record: &R| (bits(record) << known >> (64 - width)) as usize;
    let mut ends = vec![0u32; (1 << width) + 1];
    for record in records.iter() {
        ends[place(record) + 1] += 1;
    }
    for at in 1..ends.len() {
        ends[at] += ends[at - 1];
    }
    let mut spread = records.clone();
    for record in records.iter() {
        let end = &mut ends[place(record)];
        spread[*end as usize] = *record;
        *end += 1;
    }
    sort_places(&mut spread, 0, &ends[..1 << width]);
    *records = spread;
}

/// Places that one thread sorts.
const A_THREAD: usize = 1_024;

/// Sorts each of some places; `records` begin at `start`, and place by place they end at `ends`.
fn sort_places<R: Ord + Copy + Send>(records: &mut [R], start: u32, ends: &[u32]) {
    if ends.len() > A_THREAD {
        let (left, right) = ends.split_at(ends.len() / 2);
        let middle = left[left.len() - 1];
        let (one, two) = records.split_at_mut((middle - start) as usize);
        rayon::join(|| sort_places(one, start, left), || sort_places(two, middle, right));
        return;
    }
    let mut from = 0;
    for &end in ends {
        let end = (end - start) as usize;
        records[from..end].sort_unstable();
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::split_mix;

    #[test]
    fn as_by_comparison() {
        let mut state = 4;
        // Evenly spread; with a common beginning; all in one place; many equal ones.
        let spread = |x: u64| x;
        let beginning = |x: u64| (x >> 8) | (7 << 56);
        let makers: [(u32, &dyn Fn(u64) -> u64); 4] =
            [(0, &spread), (8, &beginning), (8, &|x| x & 0xff), (0, &|x| (x % 3) << 62)];
        for count in [0, 1, 2_047, 2_048, 50_000] {
            for (known, make) in makers {
                let mut records: Vec<(u64, u32)> =
                    (0..count).map(|row| (make(split_mix(&mut state)), row ^ 5)).collect();
                let mut want = records.clone();
                want.sort_unstable();
                sort_spread(&mut records, known, |record| record.0);
                assert!(records == want, "{count} {known}");
            }
        }
    }
}
