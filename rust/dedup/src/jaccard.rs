//! Similarity of sets and of signatures.

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
    let union = one.len() + two.len() - shared;
    if union == 0 { 0.0 } else { shared as f64 / union as f64 }
}

/// Jaccard similarity estimated from two signatures: the share of equal slots.
#[must_use]
pub fn estimate(one: &[u32], two: &[u32]) -> f64 {
    if one.is_empty() {
        return 0.0;
    }
    let equal = one.iter().zip(two).filter(|(left, right)| left == right).count();
    equal as f64 / one.len() as f64
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
    }
}
