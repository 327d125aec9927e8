//! What a deduplication is asked to do.

use std::io;
use std::path::PathBuf;

/// How a candidate pair is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// By the exact Jaccard similarity of the shingle sets.
    Exact,
    /// By the share of equal signature slots, an estimate.
    Signature,
}

/// What happens to chains of similar documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clusters {
    /// A document is removed only for a kept one that it is similar to itself.
    Greedy,
    /// Connected components: similarity is taken to be transitive.
    Components,
}

/// Settings of a deduplication.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Units in a shingle, at most `MAX_NGRAM`.
    pub ngram: usize,
    /// Slots of a signature.
    pub permutations: usize,
    /// Bands; documents that agree in all rows of one are candidates.
    pub bands: usize,
    /// Slots a band.
    pub rows: usize,
    /// Smallest Jaccard similarity of a duplicate.
    pub threshold: f64,
    /// Fixes the hash functions.
    pub seed: u64,
    /// Whether case, width, composition, punctuation and spacing are the same (see `units`).
    pub fold: bool,
    /// How candidates are confirmed.
    pub verify: Verify,
    /// What happens to chains.
    pub clusters: Clusters,
    /// Most documents that one document is compared with, those that share most bands with it.
    pub max_candidates: usize,
}

/// Most units in a shingle.
pub const MAX_NGRAM: usize = 256;

impl Default for Settings {
    fn default() -> Self {
        Self {
            ngram: 5,
            permutations: 128,
            bands: 25,
            rows: 5,
            threshold: 0.7,
            seed: 1,
            fold: true,
            verify: Verify::Exact,
            clusters: Clusters::Greedy,
            max_candidates: 256,
        }
    }
}

/// Settings or inputs that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// A count that must be at least one.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A shingle of too many units.
    #[error("ngram must be at most {MAX_NGRAM}, got {0}")]
    Ngram(usize),
    /// More slots are asked for than there are.
    #[error("bands × rows = {bands} × {rows} needs {} permutations, there are {permutations}", .bands.saturating_mul(*.rows))]
    TooManySlots {
        /// Bands.
        bands: usize,
        /// Rows a band.
        rows: usize,
        /// Slots of a signature.
        permutations: usize,
    },
    /// The threshold is no similarity.
    #[error("threshold must be above 0 and at most 1, got {0}")]
    Threshold(f64),
    /// One value a document is needed.
    #[error("{documents} documents but {values} values of {name}")]
    Lengths {
        /// Which values.
        name: &'static str,
        /// Documents.
        documents: usize,
        /// Values.
        values: usize,
    },
    /// Signatures of another length.
    #[error(
        "signatures of {given} slots were given; those compared here have {wanted} (permutations)"
    )]
    Slots {
        /// Slots of what was given.
        given: usize,
        /// Slots that are asked for.
        wanted: usize,
    },
    /// A text that is too long to be searched for repetitions.
    #[error(
        "document {row} has {bytes} bytes, and the memory allows for {limit}; give more max_memory \
         (20 bytes a byte of the longest text) or cut the document"
    )]
    LongDocument {
        /// Row of the document, from 0.
        row: usize,
        /// Bytes of its text.
        bytes: usize,
        /// Most bytes there is room for.
        limit: usize,
    },
    /// The suffix array was not made.
    #[error("no suffix array: {0}")]
    SuffixArray(String),
    /// A file can't be read or written: the disk is full, permission is missing.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{path}: {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Rows are numbered by 32 bits.
    #[error("{0} documents, at most 4294967295 can be compared at once")]
    TooManyDocuments(usize),
}

impl Settings {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn check(&self) -> Result<(), DedupError> {
        let counts = [
            ("ngram", self.ngram),
            ("permutations", self.permutations),
            ("bands", self.bands),
            ("rows", self.rows),
            ("max_candidates", self.max_candidates),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(DedupError::Zero(name));
            }
        }
        if self.ngram > MAX_NGRAM {
            return Err(DedupError::Ngram(self.ngram));
        }
        let Self { bands, rows, permutations, .. } = *self;
        if bands.saturating_mul(rows) > permutations {
            return Err(DedupError::TooManySlots { bands, rows, permutations });
        }
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return Err(DedupError::Threshold(self.threshold));
        }
        Ok(())
    }
}
