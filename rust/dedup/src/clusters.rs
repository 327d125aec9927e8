//! From documents to what is kept: sign, find candidates, confirm, decide in keep order.

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::bands::keys;
use crate::{Clusters, DedupError, MinHasher, Settings, Shingler, Verify, estimate, jaccard};

/// Documents confirmed in parallel before the decisions among themselves are made.
const BLOCK: usize = 512;

/// What was decided for each document.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Whether the document is kept.
    pub keep: Vec<bool>,
    /// The kept document it is a duplicate of; itself where it is kept.
    pub duplicate_of: Vec<u32>,
    /// The first document, in keep order, of its cluster.
    pub cluster: Vec<u32>,
    /// Similarity to `duplicate_of`; 1 for a kept document.
    pub jaccard: Vec<f64>,
    /// Pairs that were compared.
    pub comparisons: u64,
}

/// What is known of a document before any pair is looked at.
struct Signed {
    has_shingles: bool,
    identity: u128,
    keys: Vec<u64>,
    signature: Vec<u32>,
}

/// Finds near-duplicates.
///
/// `rank[i]` is the place of document i in keep order: of duplicates the one with the smaller rank
/// stays. Ranks must be a permutation for the outcome to be independent of the order of rows.
///
/// # Errors
/// Settings that make no sense, or not one rank a document.
pub fn deduplicate(
    texts: &[Option<&str>],
    rank: &[u32],
    settings: &Settings,
) -> Result<Outcome, DedupError> {
    settings.check()?;
    if rank.len() != texts.len() {
        return Err(DedupError::Ranks { documents: texts.len(), ranks: rank.len() });
    }
    let mut order: Vec<u32> = (0..texts.len() as u32).collect();
    order.par_sort_unstable_by_key(|&row| (rank[row as usize], row));
    let signed = sign_all(texts, settings);
    let all: Vec<u32> = (0..texts.len() as u32).collect();
    let mut outcome = Outcome {
        keep: vec![true; texts.len()],
        duplicate_of: all.clone(),
        cluster: all,
        jaccard: vec![1.0; texts.len()],
        comparisons: 0,
    };
    let (leaders, copies) = exact_groups(&order, &signed);
    let crowded = crowded_buckets(&leaders, &signed, settings);
    let candidates: Vec<u32> =
        leaders.into_iter().filter(|&row| !crowded[row as usize].is_empty()).collect();
    let sets = match settings.verify {
        Verify::Exact => shingle_sets(texts, &candidates, settings),
        Verify::Signature => FxHashMap::default(),
    };
    let similarity = |one: u32, two: u32| match settings.verify {
        Verify::Exact => jaccard(&sets[&one], &sets[&two]),
        Verify::Signature => {
            estimate(&signed[one as usize].signature, &signed[two as usize].signature)
        }
    };
    match settings.clusters {
        Clusters::Greedy => greedy(&candidates, &crowded, settings, similarity, &mut outcome),
        Clusters::Components => {
            components(&candidates, &crowded, settings, similarity, &mut outcome)
        }
    }
    // Copies of a leader share its fate.
    for (row, leader) in copies {
        let (row, leader) = (row as usize, leader as usize);
        outcome.keep[row] = false;
        outcome.duplicate_of[row] = outcome.duplicate_of[leader];
        outcome.jaccard[row] = outcome.jaccard[leader];
        outcome.cluster[row] = outcome.cluster[leader];
    }
    Ok(outcome)
}

fn sign_all(texts: &[Option<&str>], settings: &Settings) -> Vec<Signed> {
    let with_signature = settings.verify == Verify::Signature;
    texts
        .par_iter()
        .with_min_len(16)
        .map_init(
            || (MinHasher::new(settings), Vec::new()),
            |(hasher, signature), text| {
                signature.clear();
                let (has_shingles, identity) = hasher.sign(text.unwrap_or(""), signature);
                let mut bands = Vec::with_capacity(settings.bands);
                if has_shingles {
                    keys(signature, settings.bands, settings.rows, &mut bands);
                }
                let signature = if with_signature { signature.clone() } else { Vec::new() };
                Signed { has_shingles, identity, keys: bands, signature }
            },
        )
        .collect()
}

/// The first document of each group with equal shingles, in keep order; and `(copy, first)`.
///
/// Copies never enter the buckets, so a page that occurs a million times costs a million.
fn exact_groups(order: &[u32], signed: &[Signed]) -> (Vec<u32>, Vec<(u32, u32)>) {
    let mut first: FxHashMap<u128, u32> = FxHashMap::default();
    let (mut leaders, mut copies) = (Vec::new(), Vec::new());
    for &row in order {
        let document = &signed[row as usize];
        if !document.has_shingles {
            continue;
        }
        let leader = *first.entry(document.identity).or_insert(row);
        if leader == row {
            leaders.push(row);
        } else {
            copies.push((row, leader));
        }
    }
    (leaders, copies)
}

/// For each document the buckets, as numbers, that it shares with another one.
fn crowded_buckets(leaders: &[u32], signed: &[Signed], settings: &Settings) -> Vec<Vec<u32>> {
    let bands: Vec<Vec<Vec<u32>>> = (0..settings.bands)
        .into_par_iter()
        .map(|band| {
            let mut keyed: Vec<(u64, u32)> =
                leaders.iter().map(|&row| (signed[row as usize].keys[band], row)).collect();
            keyed.sort_unstable();
            let groups = keyed.chunk_by(|left, right| left.0 == right.0);
            let members = |group: &[(u64, u32)]| group.iter().map(|&(_, row)| row).collect();
            groups.filter(|group| group.len() > 1).map(members).collect()
        })
        .collect();
    let mut crowded = vec![Vec::new(); signed.len()];
    for (number, bucket) in bands.iter().flatten().enumerate() {
        for &row in bucket {
            crowded[row as usize].push(number as u32);
        }
    }
    crowded
}

fn shingle_sets(
    texts: &[Option<&str>],
    candidates: &[u32],
    settings: &Settings,
) -> FxHashMap<u32, Vec<u64>> {
    let set = |shingler: &mut Shingler, &row: &u32| {
        (row, shingler.set(texts[row as usize].unwrap_or("")))
    };
    candidates.par_iter().with_min_len(16).map_init(|| Shingler::new(settings), set).collect()
}

/// The documents of some buckets, each once, in keep order.
fn members(buckets: &[u32], contents: &FxHashMap<u32, Vec<u32>>, most: usize) -> Vec<u32> {
    // Places, not rows, are stored, so that sorting gives keep order.
    let mut found: Vec<u32> =
        buckets.iter().filter_map(|bucket| contents.get(bucket)).flatten().copied().collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(most);
    found
}

/// In keep order: a document stays unless a document that stays is similar to it.
///
/// Whole blocks are compared in parallel with what was kept before them, then one by one among
/// themselves; the first kept duplicate wins, so blocks leave no trace in the outcome.
fn greedy(
    candidates: &[u32],
    crowded: &[Vec<u32>],
    settings: &Settings,
    similarity: impl Fn(u32, u32) -> f64 + Sync,
    outcome: &mut Outcome,
) {
    let mut kept: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
    let first_similar = |row: u32, places: &[u32]| {
        let mut comparisons = 0u64;
        let hit = places.iter().find_map(|&place| {
            comparisons += 1;
            let similar = similarity(row, candidates[place as usize]);
            (similar >= settings.threshold).then_some((candidates[place as usize], similar))
        });
        (hit, comparisons)
    };
    for (block, start) in candidates.chunks(BLOCK).zip((0u32..).step_by(BLOCK)) {
        let before: Vec<_> = block
            .par_iter()
            .map(|&row| {
                let places = members(&crowded[row as usize], &kept, settings.max_candidates);
                let (hit, comparisons) = first_similar(row, &places);
                (hit, comparisons, places.len())
            })
            .collect();
        for (place, (&row, (mut hit, comparisons, seen))) in (start..).zip(block.iter().zip(before))
        {
            outcome.comparisons += comparisons;
            if hit.is_none() {
                let mut places = members(&crowded[row as usize], &kept, settings.max_candidates);
                places.retain(|&other| other >= start);
                places.truncate(settings.max_candidates - seen.min(settings.max_candidates));
                let (found, comparisons) = first_similar(row, &places);
                outcome.comparisons += comparisons;
                hit = found;
            }
            match hit {
                Some((target, similar)) => {
                    outcome.keep[row as usize] = false;
                    outcome.duplicate_of[row as usize] = target;
                    outcome.cluster[row as usize] = target;
                    outcome.jaccard[row as usize] = similar;
                }
                None => {
                    for &bucket in &crowded[row as usize] {
                        kept.entry(bucket).or_default().push(place);
                    }
                }
            }
        }
    }
}

/// Connected components over confirmed pairs; the first of each, in keep order, stays.
fn components(
    candidates: &[u32],
    crowded: &[Vec<u32>],
    settings: &Settings,
    similarity: impl Fn(u32, u32) -> f64 + Sync,
    outcome: &mut Outcome,
) {
    let mut parent: Vec<u32> = (0..candidates.len() as u32).collect();
    let mut seen: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
    for (place, &row) in (0u32..).zip(candidates) {
        for other in members(&crowded[row as usize], &seen, settings.max_candidates) {
            let (one, two) = (find(&mut parent, place), find(&mut parent, other));
            if one == two {
                continue;
            }
            outcome.comparisons += 1;
            if similarity(row, candidates[other as usize]) >= settings.threshold {
                parent[one.max(two) as usize] = one.min(two);
            }
        }
        for &bucket in &crowded[row as usize] {
            seen.entry(bucket).or_default().push(place);
        }
    }
    for (place, &row) in (0u32..).zip(candidates) {
        let root = find(&mut parent, place);
        if root != place {
            let first = candidates[root as usize];
            outcome.keep[row as usize] = false;
            outcome.duplicate_of[row as usize] = first;
            outcome.cluster[row as usize] = first;
            outcome.jaccard[row as usize] = similarity(row, first);
        }
    }
}

fn find(parent: &mut [u32], mut place: u32) -> u32 {
    while parent[place as usize] != place {
        parent[place as usize] = parent[parent[place as usize] as usize];
        place = parent[place as usize];
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(texts: &[&str], settings: &Settings) -> Outcome {
        let texts: Vec<_> = texts.iter().map(|&text| Some(text)).collect();
        let rank: Vec<u32> = (0..texts.len() as u32).collect();
        deduplicate(&texts, &rank, settings).unwrap()
    }

    fn chain() -> Vec<String> {
        let words = |i: usize| (5 * i..5 * i + 100).map(|w| format!("w{w}"));
        (0..20).map(|i| words(i).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn short_and_empty_texts() {
        let outcome = run(
            &["red kite", "blue heron", "red kite", "三只鸟", "", "", "!!!"],
            &Settings::default(),
        );
        assert_eq!(outcome.keep, [true, true, false, true, true, true, true]);
        assert_eq!(outcome.duplicate_of[2], 0);
    }

    #[test]
    fn a_chain_is_not_one_cluster() {
        let texts = chain();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let settings = Settings { threshold: 0.8, ..Settings::default() };
        let kept: Vec<usize> = (0..20).filter(|&i| run(&texts, &settings).keep[i]).collect();
        assert_eq!(kept, [0, 3, 6, 9, 12, 15, 18]);
        let whole = Settings { clusters: Clusters::Components, ..settings };
        assert_eq!(run(&texts, &whole).keep.iter().filter(|&&keep| keep).count(), 1);
    }

    #[test]
    fn copies_cost_no_comparisons() {
        let texts = vec!["we use cookies to make this page better for you"; 30_000];
        let outcome = run(&texts, &Settings::default());
        assert_eq!(outcome.keep.iter().filter(|&&keep| keep).count(), 1);
        assert_eq!(outcome.comparisons, 0);
    }
}
