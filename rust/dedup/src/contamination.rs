//! Items of test sets that stand, whole or in part, in training records.
//!
//! The overlap of a record with an item is the share of the item's n-grams that the record has
//! too, over the same units and hashes as near-duplicates. An item shorter than n units is looked
//! for as the run of all its units; one shorter than `min_units` only as a whole record, for a few
//! words are in many texts by chance.

use std::collections::BTreeMap;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::{Settings, Shingler};

/// The item that a record has most of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contamination {
    /// Row of the item.
    pub item: u32,
    /// Share of the item's n-grams that the record has.
    pub overlap: f64,
    /// Jaccard similarity of both sets of n-grams.
    pub jaccard: f64,
}

/// Items by their shingles, and how many different ones each item has.
struct Items {
    shingler: Shingler,
    by_shingle: FxHashMap<u64, Vec<u32>>,
    sizes: FxHashMap<u32, u32>,
}

/// Items by the length of their shingles.
fn index(items: &[Option<&str>], code: bool, settings: &Settings, min_units: usize) -> Vec<Items> {
    let with = |ngram: usize| Shingler::new(&Settings { ngram, ..settings.clone() });
    let mut by_length: BTreeMap<usize, Items> = BTreeMap::new();
    let mut counter = with(1);
    for (row, item) in items.iter().enumerate() {
        let text = item.unwrap_or("");
        let units = counter.shingles(text, code).len();
        if units == 0 {
            continue;
        }
        let whole = units >= settings.ngram || units < min_units;
        let ngram = if whole { settings.ngram } else { units };
        let found = by_length.entry(ngram).or_insert_with(|| Items {
            shingler: with(ngram),
            by_shingle: FxHashMap::default(),
            sizes: FxHashMap::default(),
        });
        let set = found.shingler.set(text, code);
        found.sizes.insert(row as u32, set.len() as u32);
        for shingle in set {
            found.by_shingle.entry(shingle).or_default().push(row as u32);
        }
    }
    by_length.into_values().collect()
}

/// For each record the item it has most of, by overlap, Jaccard similarity and row of the item;
/// none where no n-gram is shared.
///
/// Items are cut as the record is: as code where `code` (which may be empty) says so.
#[must_use]
pub fn contamination(
    items: &[Option<&str>],
    texts: &[Option<&str>],
    code: &[bool],
    settings: &Settings,
    min_units: usize,
) -> Vec<Option<Contamination>> {
    let prose = index(items, false, settings, min_units);
    let as_code = code.contains(&true).then(|| index(items, true, settings, min_units));
    texts
        .par_iter()
        .enumerate()
        .map_init(
            || {
                let shinglers =
                    |items: &[Items]| items.iter().map(|item| item.shingler.clone()).collect();
                (shinglers(&prose), as_code.as_deref().map(shinglers).unwrap_or_default())
            },
            |(plain, other): &mut (Vec<Shingler>, Vec<Shingler>), (row, text)| {
                let text = (*text)?;
                match as_code.as_deref().filter(|_| code.get(row) == Some(&true)) {
                    Some(items) => best(items, other, text, true),
                    None => best(&prose, plain, text, false),
                }
            },
        )
        .collect()
}

fn best(
    items: &[Items],
    shinglers: &mut [Shingler],
    text: &str,
    code: bool,
) -> Option<Contamination> {
    let mut best: Option<Contamination> = None;
    let mut shared: FxHashMap<u32, u32> = FxHashMap::default();
    for (items, shingler) in items.iter().zip(shinglers) {
        shared.clear();
        let set = shingler.set(text, code);
        for shingle in &set {
            for &item in items.by_shingle.get(shingle).into_iter().flatten() {
                *shared.entry(item).or_default() += 1;
            }
        }
        for (&item, &count) in &shared {
            let (size, count) = (f64::from(items.sizes[&item]), f64::from(count));
            let overlap = count / size;
            let jaccard = count / (set.len() as f64 + size - count);
            let found = Contamination { item, overlap, jaccard };
            let better = best.is_none_or(|best| {
                let order =
                    (found.overlap, found.jaccard).partial_cmp(&(best.overlap, best.jaccard));
                order.is_some_and(|order| order.then(best.item.cmp(&item)).is_gt())
            });
            if better {
                best = Some(found);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_items_within_long_records() {
        let item = "a farmer has seven red hens and sells three of them on monday";
        let short = "how tall is the tower";
        let items = [Some(item), Some(short), Some("red hens"), Some("")];
        let long =
            format!("It was told that {item}, as ever. {}", "the tide rose again ".repeat(9));
        let asks = "He asked: How tall is the TOWER? Nobody knew.";
        let texts = [Some(&*long), Some(asks), Some("many red hens here"), Some("Red hens"), None];
        let settings = Settings { ngram: 8, ..Settings::default() };
        let found = contamination(&items, &texts, &[], &settings, 5);
        let at = |row: usize| found[row].map(|found| (found.item, found.overlap));
        assert_eq!([at(0), at(1), at(2)], [Some((0, 1.0)), Some((1, 1.0)), None]);
        assert_eq!([at(3), at(4)], [Some((2, 1.0)), None]);
        assert!(found[0].is_some_and(|found| found.jaccard < 0.5));
    }
}
