//! One-pass text statistics, rules, normalisation and language for corpus filtering.

mod ascii;
mod blocks;
mod boilerplate;
mod characters;
mod charset;
mod chinese;
mod citations;
mod classes;
mod compat;
mod grams;
mod identity;
mod index;
mod language;
mod lines;
mod markup;
mod measure;
mod metrics;
mod mojibake;
mod normalise;
mod phrases;
mod rules;
mod sentences;
pub mod spacy;
mod stop_words;
mod table;
mod vocabulary;

pub use boilerplate::{LineRuleError, LineRules};
pub use charset::{Decoded, Evidence, decode};
pub use compat::Words;
pub use identity::record_id;
pub use language::{Language, detect_language};
pub use measure::Measurer;
pub use metrics::{METRICS, Metric, Metrics};
pub use mojibake::suspects_mojibake;
pub use normalise::{EDIT_NAMES, EDITS, Edit, Edits, Form, Repairs, normalise};
pub use rules::{Failure, Profile, Rule, RuleError, RuleSet};
