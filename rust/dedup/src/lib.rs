//! Shingles, MinHash signatures, bands, exact verification and clusters for deduplication.
//!
//! The promise: every removed document has a kept one whose shingle set it shares at a Jaccard
//! similarity of at least the threshold, and the outcome depends on the documents and their keep
//! order alone, never on threads or on the order of rows.
//!
//! The way of a text: `units` (by `masks` and `classes`) → `shingles` → `minhash` → `bands`; of a
//! corpus: `corpus` (signed) → `groups` (by equal band keys) → `candidates`, `compare`, `decide`. A
//! corpus larger than memory takes the same way over files: `external`.
//!
//! Beside near-duplicates: equal values (`exact`), lines and paragraphs (`lines`) and passages
//! (`substring`) that several documents have, items of test sets in records (`contamination`).

mod bands;
mod candidates;
mod classes;
mod compare;
mod contamination;
mod corpus;
mod decide;
mod deduplicate;
mod documents;
mod exact;
pub mod external;
mod groups;
mod hash;
mod jaccard;
mod lines;
mod masks;
mod minhash;
mod order;
mod settings;
mod shingles;
mod substring;
mod units;

pub use bands::candidate_probability;
pub use contamination::{Contamination, contamination};
pub use corpus::{Corpus, band_keys, pair_similarities, signatures};
pub use deduplicate::{Effort, Outcome, deduplicate};
pub use exact::exact_copies;
pub use jaccard::{estimate, jaccard};
pub use lines::{Edited, LineSettings, RepeatedLines};
pub use minhash::{EMPTY, Identity, MinHasher};
pub use order::{KeepKeys, Key, OrderKey, keep_order, order_keys};
pub use settings::{Clusters, DedupError, MAX_NGRAM, Settings, Verify};
pub use shingles::Shingler;
pub use substring::{SUBSTRING_MEMORY, Span, SubstringSettings, repeated_substrings, without};
