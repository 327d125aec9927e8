//! What a deduplication is asked to do.

/// What a shingle is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Words where a script writes words apart, single characters where it does not.
    Text,
    /// Identifiers, numbers and operators; layout does not count.
    Code,
}

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
    /// Units in a shingle.
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
    /// What a shingle is made of.
    pub unit: Unit,
    /// Whether upper and lower case are the same.
    pub fold: bool,
    /// How candidates are confirmed.
    pub verify: Verify,
    /// What happens to chains.
    pub clusters: Clusters,
    /// Most documents that one document is compared with.
    pub max_candidates: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ngram: 5,
            permutations: 128,
            bands: 25,
            rows: 5,
            threshold: 0.7,
            seed: 1,
            unit: Unit::Text,
            fold: true,
            verify: Verify::Exact,
            clusters: Clusters::Greedy,
            max_candidates: 1000,
        }
    }
}

/// Settings or inputs that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// A count that must be at least one.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// More slots are asked for than there are.
    #[error("bands × rows = {bands} × {rows} needs {} permutations, there are {permutations}", .bands * .rows)]
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
    /// One rank a document is needed.
    #[error("{documents} documents but {ranks} ranks")]
    Ranks {
        /// Documents.
        documents: usize,
        /// Ranks.
        ranks: usize,
    },
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
