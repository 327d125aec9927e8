//! Documents that can have to do with each other: joined, directly or over others, by equal keys.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::bands::equal_keys;
use crate::corpus::{Corpus, Signed};

/// Sets of numbers that can be united.
#[derive(Debug)]
pub(crate) struct Forest(Vec<u32>);

impl Forest {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    /// The smallest member of the set.
    pub(crate) fn root(&mut self, mut member: u32) -> u32 {
        while self.0[member as usize] != member {
            let above = self.0[self.0[member as usize] as usize];
            self.0[member as usize] = above;
            member = above;
        }
        member
    }

    pub(crate) fn unite(&mut self, one: u32, two: u32) {
        let (one, two) = (self.root(one), self.root(two));
        self.0[one.max(two) as usize] = one.min(two);
    }
}

/// As `Forest`, for several threads at a time.
#[derive(Debug)]
pub(crate) struct SharedForest(Vec<AtomicU32>);

impl SharedForest {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count as u32).map(AtomicU32::new).collect())
    }

    /// The smallest member of the set, once no thread unites any more.
    pub(crate) fn root(&self, mut member: u32) -> u32 {
        loop {
            let above = self.0[member as usize].load(Ordering::Relaxed);
            if above == member {
                return member;
            }
            let top = self.0[above as usize].load(Ordering::Relaxed);
            if top != above {
                // Shortens the way; another thread may have done so, then nothing is lost.
                let entry = &self.0[member as usize];
                let _ = entry.compare_exchange(above, top, Ordering::Relaxed, Ordering::Relaxed);
            }
            member = above;
        }
    }

    pub(crate) fn unite(&self, one: u32, two: u32) {
        loop {
            let (one, two) = (self.root(one), self.root(two));
            if one == two {
                return;
            }
            let (low, high) = (one.min(two), one.max(two));
            let entry = &self.0[high as usize];
            if entry.compare_exchange(high, low, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

/// Splits rows with shingles, in keep order, into the first of each set of equal ones, and
/// `(copy, first)`.
///
/// Copies never enter the buckets, so a page that occurs a million times costs a million.
pub(crate) fn copies(corpus: &Corpus<'_>, signed: &Signed) -> (Vec<u32>, Vec<(u32, u32)>) {
    let mut order = corpus.order();
    order.retain(|&row| signed.identities[row as usize].shingles > 0);
    let identity = |place: u32| signed.identities[order[place as usize] as usize];
    let mut leader: Vec<u32> = (0..order.len() as u32).collect();
    let note = |first: u32, copy: u32| leader[copy as usize] = first;
    equal_keys(identity, |identity| identity.sums[0], order.len(), note);
    let (mut leaders, mut copies) = (Vec::new(), Vec::new());
    for (place, (&row, &first)) in order.iter().zip(&leader).enumerate() {
        if first == place as u32 {
            leaders.push(row);
        } else {
            copies.push((row, order[first as usize]));
        }
    }
    (leaders, copies)
}

/// Groups of at least two rows that equal band keys join, each in keep order; no pair across groups
/// shares a band, so each group can be decided alone.
pub(crate) fn groups(leaders: &[u32], signed: &Signed, bands: usize) -> Vec<Vec<u32>> {
    let forest = SharedForest::new(leaders.len());
    (0..bands).into_par_iter().for_each(|band| {
        let keys: Vec<u64> = leaders.iter().map(|&row| signed.keys(row)[band]).collect();
        let note = |first, member| forest.unite(first, member);
        equal_keys(|place| keys[place as usize], |key| key, keys.len(), note);
    });
    // Numbers of groups by root; roots are the smallest, so they come first.
    let mut number = vec![u32::MAX; leaders.len()];
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for place in 0..leaders.len() as u32 {
        let root = forest.root(place);
        if root == place {
            continue;
        }
        let number = &mut number[root as usize];
        if *number == u32::MAX {
            *number = groups.len() as u32;
            groups.push(vec![leaders[root as usize]]);
        }
        groups[*number as usize].push(leaders[place as usize]);
    }
    groups
}
