//! Shingles, MinHash signatures, bands, exact verification and clusters for deduplication.
