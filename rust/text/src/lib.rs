//! One-pass text statistics, rules, normalisation and language for corpus filtering.

mod identity;

pub use identity::record_id;
