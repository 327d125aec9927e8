//! Within a group: who stays.

use rayon::prelude::*;

use crate::Clusters;
use crate::candidates::{Candidates, Shared};
use crate::compare::{Comparer, Prepared};
use crate::groups::Forest;

/// Members from which on a group is decided by several threads.
const LARGE: usize = 256;

/// Most members, and bytes of text, whose comparisons are made together.
const BLOCK: usize = 1024;
const BLOCK_BYTES: usize = 16 << 20;

/// Bytes of shingles that a group keeps; those beyond are made again when they are needed.
pub(crate) const STORE: usize = 128 << 20;

/// A row that goes, the row it is a duplicate of, and their similarity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Removal {
    pub(crate) row: u32,
    pub(crate) target: u32,
    pub(crate) similarity: f64,
}

/// What was decided for a group or several.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) removals: Vec<Removal>,
    pub(crate) comparisons: u64,
    /// Documents that were not compared with all their candidates.
    pub(crate) cut_short: u64,
}

impl Decisions {
    fn append(mut self, mut other: Self) -> Self {
        self.removals.append(&mut other.removals);
        self.comparisons += other.comparisons;
        self.cut_short += other.cut_short;
        self
    }
}

/// What all groups are decided with.
pub(crate) struct Decider<'a, S> {
    pub(crate) comparer: Comparer<'a>,
    /// What tells whom the members of the group of this number share bands with.
    pub(crate) shared: S,
    pub(crate) clusters: Clusters,
    pub(crate) max_candidates: usize,
    /// Bytes of shingles kept for a group.
    pub(crate) store: usize,
}

impl<'s, S: Fn(usize) -> Shared<'s> + Sync> Decider<'_, S> {
    /// Decides all groups, large ones first and one by one.
    pub(crate) fn decide(&self, groups: &[Vec<u32>]) -> Decisions {
        let (large, small): (Vec<usize>, Vec<usize>) =
            (0..groups.len()).partition(|&number| groups[number].len() >= LARGE);
        let alone = |number: usize, comparer: &mut Comparer<'_>| {
            let (group, shared) = (&groups[number], (self.shared)(number));
            let (kept, store) = self.start(group, &shared);
            match self.clusters {
                Clusters::Greedy => greedy(group, kept, store, comparer),
                Clusters::Components => components(group, kept, store, comparer),
            }
        };
        let mut all = Decisions::default();
        for number in large {
            all = all.append(match self.clusters {
                Clusters::Greedy => {
                    let shared = (self.shared)(number);
                    let (kept, store) = self.start(&groups[number], &shared);
                    let inside = || Candidates::new(&shared, self.max_candidates);
                    in_blocks(&groups[number], kept, store, inside, &self.comparer)
                }
                Clusters::Components => alone(number, &mut self.comparer.clone()),
            });
        }
        let small = small
            .par_iter()
            .with_min_len(4)
            .map_init(|| self.comparer.clone(), |comparer, &number| alone(number, comparer))
            .reduce(Decisions::default, Decisions::append);
        all.append(small)
    }

    fn start<'g>(&self, group: &[u32], shared: &'g Shared<'g>) -> (Candidates<'g>, Store) {
        (Candidates::new(shared, self.max_candidates), Store::new(group.len(), self.store))
    }
}

/// Stored shingles of those that stay, within bounds.
struct Store {
    members: Vec<Option<Prepared>>,
    bytes: usize,
    limit: usize,
}

impl Store {
    fn new(count: usize, limit: usize) -> Self {
        Self { members: (0..count).map(|_| None).collect(), bytes: 0, limit }
    }

    fn put(&mut self, member: u32, mut prepared: Prepared) {
        if self.bytes + prepared.bytes() > self.limit {
            prepared.shrink();
        }
        self.bytes += prepared.bytes();
        self.members[member as usize] = Some(prepared);
    }

    /// The first of some members, in their order, that is similar to what `comparer` holds.
    fn first_similar(&self, members: &[u32], comparer: &mut Comparer<'_>) -> Option<(u32, f64)> {
        members.iter().find_map(|&member| {
            let other = self.members[member as usize].as_ref()?;
            comparer.similarity(other).map(|similarity| (member, similarity))
        })
    }
}

/// In keep order: a document stays unless one that stays is similar to it.
fn greedy(
    group: &[u32],
    mut kept: Candidates<'_>,
    mut store: Store,
    comparer: &mut Comparer<'_>,
) -> Decisions {
    let (mut decisions, before) = (Decisions::default(), comparer.comparisons);
    let mut found = Vec::new();
    for (member, &row) in (0u32..).zip(group) {
        if comparer.is_fixed(row) {
            found.clear();
        } else {
            decisions.cut_short += u64::from(kept.find(member, &mut found));
        }
        let prepared = comparer.prepare(row);
        match store.first_similar(&found, comparer) {
            Some((target, similarity)) => {
                let target = group[target as usize];
                decisions.removals.push(Removal { row, target, similarity });
            }
            None => {
                kept.add(member);
                store.put(member, prepared);
            }
        }
    }
    decisions.comparisons = comparer.comparisons - before;
    decisions
}

/// The same for a large group, by all threads.
///
/// Blocks are compared in parallel with what stayed before them, and what is left of a block among
/// itself; then the decisions are made one by one. The first similar document decides, as above, so
/// blocks leave no trace in the outcome. They start small: a crowd of near-copies is then mostly
/// compared with the one of them that stays.
fn in_blocks<'g>(
    group: &[u32],
    mut kept: Candidates<'g>,
    mut store: Store,
    inside: impl Fn() -> Candidates<'g>,
    comparer: &Comparer<'_>,
) -> Decisions {
    let mut decisions = Decisions::default();
    let (mut start, mut size) = (0, 8);
    while start < group.len() {
        let block = &group[start..group.len().min(start + size)];
        let block = &block[..comparer.rows_within(block, BLOCK_BYTES)];
        let members = start as u32..(start + block.len()) as u32;
        (start, size) = (start + block.len(), BLOCK.min(2 * size));
        // With those that stayed before the block.
        let before: Vec<_> = members
            .into_par_iter()
            .map_init(
                || (comparer.clone(), Vec::new()),
                |(comparer, found), member| {
                    let row = group[member as usize];
                    found.clear();
                    let cut_short = !comparer.is_fixed(row) && kept.find(member, found);
                    comparer.comparisons = 0;
                    let prepared = comparer.prepare(row);
                    let similar = store.first_similar(found, comparer);
                    (member, prepared, similar, cut_short, comparer.comparisons)
                },
            )
            .collect();
        let mut open = Vec::new();
        for (member, prepared, similar, cut_short, comparisons) in before {
            decisions.cut_short += u64::from(cut_short);
            decisions.comparisons += comparisons;
            match similar {
                Some((target, similarity)) => decisions.removals.push(Removal {
                    row: group[member as usize],
                    target: group[target as usize],
                    similarity,
                }),
                None => open.push((member, prepared)),
            }
        }
        // With each other.
        let mut inside = inside();
        let found: Vec<Vec<u32>> = open
            .iter()
            .map(|&(member, _)| {
                let mut found = Vec::new();
                if !comparer.is_fixed(group[member as usize]) {
                    decisions.cut_short += u64::from(inside.find(member, &mut found));
                }
                inside.add(member);
                found
            })
            .collect();
        let place = |member: u32| open.binary_search_by_key(&member, |&(member, _)| member);
        let similar: Vec<(Vec<(u32, f64)>, u64)> = open
            .par_iter()
            .zip(&found)
            .map_init(
                || comparer.clone(),
                |comparer, ((_, prepared), found)| {
                    comparer.comparisons = 0;
                    if !found.is_empty() {
                        comparer.take(prepared);
                    }
                    let similar = found.iter().filter_map(|&other| {
                        let other_prepared = &open[place(other).ok()?].1;
                        comparer.similarity(other_prepared).map(|similarity| (other, similarity))
                    });
                    (similar.collect(), comparer.comparisons)
                },
            )
            .collect();
        for ((member, prepared), (similar, comparisons)) in open.into_iter().zip(similar) {
            decisions.comparisons += comparisons;
            let row = group[member as usize];
            let stays = |&&(other, _): &&(u32, f64)| store.members[other as usize].is_some();
            match similar.iter().find(stays) {
                Some(&(target, similarity)) => {
                    let target = group[target as usize];
                    decisions.removals.push(Removal { row, target, similarity });
                }
                None => {
                    kept.add(member);
                    store.put(member, prepared);
                }
            }
        }
    }
    decisions
}

/// Connected components over similar pairs; of each the first, in keep order, stays.
fn components(
    group: &[u32],
    mut seen: Candidates<'_>,
    mut store: Store,
    comparer: &mut Comparer<'_>,
) -> Decisions {
    let (mut decisions, before) = (Decisions::default(), comparer.comparisons);
    let (mut forest, mut found) = (Forest::new(group.len()), Vec::new());
    for (member, &row) in (0u32..).zip(group) {
        decisions.cut_short += u64::from(seen.find(member, &mut found));
        let prepared = comparer.prepare(row);
        for &other in &found {
            if forest.root(member) == forest.root(other) {
                continue;
            }
            let Some(prepared) = &store.members[other as usize] else { continue };
            if comparer.similarity(prepared).is_some() {
                forest.unite(member, other);
            }
        }
        seen.add(member);
        store.put(member, prepared);
    }
    for (member, &row) in (0u32..).zip(group) {
        let root = forest.root(member);
        if let Some(first) = store.members[root as usize].as_ref().filter(|_| root != member) {
            if let Some(prepared) = &store.members[member as usize] {
                comparer.take(prepared);
            }
            let similarity = comparer.at_least(first, 0.0).unwrap_or(0.0);
            decisions.removals.push(Removal { row, target: first.row, similarity });
        }
    }
    decisions.comparisons = comparer.comparisons - before;
    decisions
}
