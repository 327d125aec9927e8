//! Within a group: which earlier documents share a band with one.

use rustc_hash::FxHashMap;

use crate::bands::equal_keys;
use crate::corpus::Signed;

/// Groups so small that comparing all keys is quicker than sorting them.
pub(crate) const FEW: usize = 16;

/// Members of a bucket that are remembered, as a multiple of the most candidates.
const CROWD: usize = 4;

/// For each member of a group, what tells whom it shares bands with.
pub(crate) enum Shared<'a> {
    Few(&'a Signed, &'a [u32]),
    /// For each member the numbers of the buckets it shares with another one.
    Many(Vec<Vec<u32>>),
    /// The same, read from disk.
    Listed(Listed<'a>),
}

/// Buckets of a group's members, one member after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'a> {
    /// Where each member's buckets end; the first member's begin at `start`.
    pub(crate) ends: &'a [usize],
    pub(crate) start: usize,
    pub(crate) buckets: &'a [u32],
}

impl Listed<'_> {
    fn of(&self, member: u32) -> &[u32] {
        let member = member as usize;
        let start = if member == 0 { self.start } else { self.ends[member - 1] };
        &self.buckets[start..self.ends[member]]
    }
}

impl<'a> Shared<'a> {
    /// For the rows of a group.
    pub(crate) fn new(signed: &'a Signed, group: &'a [u32], bands: usize) -> Self {
        if group.len() <= FEW {
            return Self::Few(signed, group);
        }
        let mut shared = vec![Vec::new(); group.len()];
        let mut count = 0;
        for band in 0..bands {
            let keys: Vec<u64> = group.iter().map(|&row| signed.keys(row)[band]).collect();
            let mut number = FxHashMap::default();
            let note = |first: u32, member: u32| {
                let number = *number.entry(first).or_insert_with(|| {
                    count += 1;
                    shared[first as usize].push(count);
                    count
                });
                shared[member as usize].push(number);
            };
            equal_keys(|place| keys[place as usize], |key| key, keys.len(), note);
        }
        Self::Many(shared)
    }
}

/// Members of a group, added in keep order, to be found by shared bands.
pub(crate) struct Candidates<'a> {
    shared: &'a Shared<'a>,
    most: usize,
    added: Vec<u32>,
    buckets: FxHashMap<u32, Vec<u32>>,
}

impl<'a> Candidates<'a> {
    /// `most` candidates are found for a member.
    pub(crate) fn new(shared: &'a Shared<'a>, most: usize) -> Self {
        Self { shared, most, added: Vec::new(), buckets: FxHashMap::default() }
    }

    pub(crate) fn add(&mut self, member: u32) {
        let most = self.most();
        match self.shared {
            Shared::Few(..) => self.added.push(member),
            Shared::Many(shared) => self.enter(&shared[member as usize], member, most),
            Shared::Listed(listed) => self.enter(listed.of(member), member, most),
        }
    }

    /// Small groups have no limit, however they come.
    fn most(&self) -> usize {
        match self.shared {
            Shared::Listed(listed) if listed.ends.len() <= FEW => FEW,
            _ => self.most,
        }
    }

    fn enter(&mut self, buckets: &[u32], member: u32, most: usize) {
        for &bucket in buckets {
            let bucket = self.buckets.entry(bucket).or_default();
            // A crowd alike in one band alone must not make all others slow.
            if bucket.len() < CROWD.saturating_mul(most) {
                bucket.push(member);
            }
        }
    }

    /// Fills `found` with the added members that share a band with `member`, in keep order; of too
    /// many, those that share most bands. Returns whether there were too many.
    pub(crate) fn find(&self, member: u32, found: &mut Vec<u32>) -> bool {
        found.clear();
        match self.shared {
            Shared::Few(signed, group) => {
                let keys = signed.keys(group[member as usize]);
                for &other in &self.added {
                    let others = signed.keys(group[other as usize]);
                    let shared = keys.iter().zip(others).filter(|(one, two)| one == two).count();
                    found.extend((shared > 0).then_some(other));
                }
                false
            }
            Shared::Many(shared) => self.find_by(&shared[member as usize], found),
            Shared::Listed(listed) => self.find_by(listed.of(member), found),
        }
    }

    fn find_by(&self, buckets: &[u32], found: &mut Vec<u32>) -> bool {
        let most = self.most();
        let buckets = buckets.iter();
        found.extend(buckets.filter_map(|bucket| self.buckets.get(bucket)).flatten());
        found.sort_unstable();
        let mut counts: Vec<(u32, u32)> = Vec::new();
        if found.len() > most {
            counts.extend(found.chunk_by(|one, two| one == two).map(|run| {
                let shared = run.len() as u32;
                (shared, run[0])
            }));
        }
        found.dedup();
        if found.len() <= most {
            return false;
        }
        counts.sort_unstable_by_key(|&(shared, other)| (u32::MAX - shared, other));
        found.clear();
        found.extend(counts[..most].iter().map(|&(_, other)| other));
        found.sort_unstable();
        true
    }
}
