//! Shingles, MinHash signatures, bands, exact verification and clusters for deduplication.
//!
//! The promise: every removed document has a kept one whose shingle set it shares at a Jaccard
//! similarity of at least the threshold, and the outcome depends on the documents and their keep
//! order alone, never on threads or on the order of rows.

mod bands;
mod clusters;
mod jaccard;
mod minhash;
mod settings;
mod shingles;
mod units;

pub use bands::candidate_probability;
pub use clusters::{Outcome, deduplicate};
pub use jaccard::{estimate, jaccard};
pub use minhash::MinHasher;
pub use settings::{Clusters, DedupError, Settings, Unit, Verify};
pub use shingles::Shingler;
