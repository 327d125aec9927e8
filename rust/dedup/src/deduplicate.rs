//! From documents to what is kept: sign, group by bands, confirm and decide in keep order.

use crate::candidates::Shared;
use crate::compare::Comparer;
use crate::corpus::{Corpus, Signed};
use crate::decide::{Decider, STORE};
use crate::documents::AtHand;
use crate::groups::{copies, groups};
use crate::{DedupError, Settings};

/// What was decided for each document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Whether the document is kept.
    pub keep: Vec<bool>,
    /// The kept document it is a duplicate of; itself where it is kept. Those with the same one are
    /// a cluster.
    pub duplicate_of: Vec<u32>,
    /// Similarity to `duplicate_of`; 1 for a kept document.
    pub jaccard: Vec<f64>,
    /// What it took.
    pub effort: Effort,
}

/// What a deduplication took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Documents with the same shingles as another one, which took no comparison.
    pub copies: u64,
    /// Documents that share a band with another one that is no copy.
    pub candidates: u64,
    /// Pairs that were compared.
    pub comparisons: u64,
    /// Documents with more candidates than `max_candidates`, not compared with all of them.
    pub cut_short: u64,
}

/// Finds near-duplicates. The outcome depends on the documents and their ranks alone.
///
/// # Errors
/// Settings that make no sense, or not one rank a document.
pub fn deduplicate(corpus: &Corpus<'_>, settings: &Settings) -> Result<Outcome, DedupError> {
    settings.check()?;
    corpus.check()?;
    let signed = Signed::new(corpus, settings);
    let (leaders, copies) = copies(corpus, &signed);
    let groups = groups(&leaders, &signed, settings.bands);
    drop(leaders);
    let documents = AtHand { corpus, signed: &signed };
    let decider = Decider {
        comparer: Comparer::new(&documents, settings),
        shared: |number: usize| Shared::new(&signed, &groups[number], settings.bands),
        clusters: settings.clusters,
        max_candidates: settings.max_candidates,
        store: STORE,
    };
    let decisions = decider.decide(&groups);

    let count = corpus.texts.len();
    let mut outcome = Outcome {
        keep: vec![true; count],
        duplicate_of: (0..count as u32).collect(),
        jaccard: vec![1.0; count],
        effort: Effort {
            copies: copies.len() as u64,
            candidates: groups.iter().map(|group| group.len() as u64).sum(),
            comparisons: decisions.comparisons,
            cut_short: decisions.cut_short,
        },
    };
    for removal in &decisions.removals {
        let row = removal.row as usize;
        outcome.keep[row] = false;
        outcome.duplicate_of[row] = removal.target;
        outcome.jaccard[row] = removal.similarity;
    }
    // Copies share the fate of the document they equal.
    for (row, first) in copies {
        let (row, first) = (row as usize, first as usize);
        outcome.keep[row] = false;
        outcome.duplicate_of[row] = outcome.duplicate_of[first];
        outcome.jaccard[row] = outcome.jaccard[first];
    }
    Ok(outcome)
}

#[cfg(test)]
pub(crate) mod tests;
