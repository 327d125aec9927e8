//! Exact copies: rows whose values are equal byte by byte.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

/// For each row the row that is kept of it: of equal values the first in keep order.
///
/// Rows without a value, or with an empty one, are copies of nothing. Equal hashes are confirmed by
/// the bytes, so the outcome does not rest on the hash; time is linear in the copies of one value.
///
/// # Panics
/// There are fewer ranks than rows.
#[must_use]
pub fn exact_copies(values: &[Option<&str>], rank: &[u32]) -> Vec<u32> {
    assert_eq!(values.len(), rank.len(), "one rank a row");
    let mut order: Vec<(u128, u32, u32)> = values
        .par_iter()
        .enumerate()
        .filter_map(|(row, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some((xxh3_128(value.as_bytes()), rank[row], row as u32))
        })
        .collect();
    order.par_sort_unstable();
    let mut kept: Vec<u32> = (0..values.len() as u32).collect();
    let mut leaders = Vec::new();
    for run in order.chunk_by(|one, two| one.0 == two.0) {
        leaders.clear();
        for &(_, _, row) in run {
            let same = |&leader: &u32| values[leader as usize] == values[row as usize];
            match leaders.iter().copied().find(same) {
                Some(leader) => kept[row as usize] = leader,
                None => leaders.push(row),
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_keep_order_stays() {
        let values = [Some("a"), Some("b"), Some("a"), None, Some(""), Some(""), None, Some("a")];
        assert_eq!(exact_copies(&values, &[0, 1, 2, 3, 4, 5, 6, 7]), [0, 1, 0, 3, 4, 5, 6, 0]);
        assert_eq!(exact_copies(&values, &[7, 6, 5, 4, 3, 2, 1, 0]), [7, 1, 7, 3, 4, 5, 6, 7]);
        assert!(exact_copies(&[], &[]).is_empty());
    }
}
