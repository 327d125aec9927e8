//! Confirming candidates: one document at a time, compared with others.

use crate::documents::{Documents, Scratch};
use crate::jaccard::{Probe, estimate};
use crate::{Settings, Shingler, Verify};

/// A document as others are compared with it.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) row: u32,
    /// Size of its shingle set.
    size: usize,
    /// Its shingles; empty if they are to be made again from the text.
    shingles: Vec<u64>,
}

impl Prepared {
    /// Bytes that its shingles take.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.shingles.as_slice())
    }

    /// Gives up the shingles.
    pub(crate) fn shrink(&mut self) {
        self.shingles = Vec::new();
    }
}

/// A thread's tools to compare documents.
#[derive(Clone)]
pub(crate) struct Comparer<'a> {
    documents: &'a dyn Documents,
    verify: Verify,
    threshold: f64,
    shingler: Shingler,
    probe: Probe,
    row: u32,
    again: Vec<u64>,
    scratch: Scratch,
    signatures: [Vec<u32>; 2],
    /// Pairs compared so far.
    pub(crate) comparisons: u64,
}

impl<'a> Comparer<'a> {
    pub(crate) fn new(documents: &'a dyn Documents, settings: &Settings) -> Self {
        Self {
            documents,
            verify: settings.verify,
            threshold: settings.threshold,
            shingler: Shingler::new(settings),
            probe: Probe::default(),
            row: 0,
            again: Vec::new(),
            scratch: Scratch::default(),
            signatures: Default::default(),
            comparisons: 0,
        }
    }

    /// How many of some rows hold at most `bytes` of text together; at least one.
    pub(crate) fn rows_within(&self, rows: &[u32], bytes: usize) -> usize {
        let mut sum = 0;
        let fits = |&&row: &&u32| {
            sum += self.documents.length(row);
            sum <= bytes
        };
        rows.iter().take_while(fits).count().max(1)
    }

    /// Whether a document stays whatever it is like.
    pub(crate) fn is_fixed(&self, row: u32) -> bool {
        self.documents.is_fixed(row)
    }

    /// Takes a document as the one that `similarity` is about.
    pub(crate) fn prepare(&mut self, row: u32) -> Prepared {
        self.row = row;
        let mut prepared = Prepared { row, ..Prepared::default() };
        match self.verify {
            Verify::Exact => {
                prepared.shingles.reserve_exact(self.documents.shingles(row));
                let (shingler, scratch) = (&mut self.shingler, &mut self.scratch);
                self.documents.feed(row, shingler, scratch, &mut prepared.shingles);
                prepared.size = self.probe.load(&prepared.shingles);
            }
            Verify::Signature => self.load_signature(row),
        }
        prepared
    }

    /// Takes a document again that was prepared before.
    pub(crate) fn take(&mut self, prepared: &Prepared) {
        self.row = prepared.row;
        match self.verify {
            Verify::Exact if prepared.shingles.is_empty() => {
                self.prepare(prepared.row);
            }
            Verify::Exact => {
                self.probe.load(&prepared.shingles);
            }
            Verify::Signature => self.load_signature(prepared.row),
        }
    }

    fn load_signature(&mut self, row: u32) {
        self.documents.signature(row, &mut self.scratch, &mut self.signatures[0]);
    }

    /// Similarity of the document taken last to another one, if it reaches the threshold.
    pub(crate) fn similarity(&mut self, other: &Prepared) -> Option<f64> {
        self.at_least(other, self.threshold)
    }

    /// As `similarity` for a threshold of the caller's.
    pub(crate) fn at_least(&mut self, other: &Prepared, threshold: f64) -> Option<f64> {
        self.comparisons += 1;
        match self.verify {
            Verify::Signature => {
                let [one, two] = &mut self.signatures;
                self.documents.signature(other.row, &mut self.scratch, two);
                Some(estimate(one, two)).filter(|&similarity| similarity >= threshold)
            }
            Verify::Exact if other.shingles.is_empty() => {
                self.again.clear();
                let (shingler, scratch) = (&mut self.shingler, &mut self.scratch);
                self.documents.feed(other.row, shingler, scratch, &mut self.again);
                self.probe.similarity(&self.again, other.size, threshold)
            }
            Verify::Exact => self.probe.similarity(&other.shingles, other.size, threshold),
        }
    }
}
