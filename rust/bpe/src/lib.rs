//! Byte-pair encoding: vocabularies, encoding, decoding and training.
//!
//! One merge engine ([`Merges`]) serves two front ends: tokenizers over bytes that cut text into
//! pieces with a pattern first (tiktoken, Qwen), and tokenizers over characters with byte fallback
//! and no pattern (InternLM2). Priority is always the rank of a merge, never a token id.

mod batch;
mod blocks;
mod bytelevel;
mod cache;
mod caches;
mod characters;
mod decode;
mod encode;
mod error;
mod hf;
mod hf_added;
mod hf_parts;
mod hf_write;
mod junctions;
mod keys;
mod merges;
mod names;
mod normal;
mod offsets;
mod pages;
mod patterns;
mod pieces;
mod regexes;
mod runs;
mod scan;
mod scripts;
mod sentencepiece;
mod spaces;
mod special;
mod store;
mod template;
mod tiktoken;
mod tokenizer;
mod train;
mod train_alphabet;
mod train_counts;
mod train_cuts;
mod train_learner;
mod train_state;
mod unicode;
mod windows;

pub use bytelevel::{byte_to_char, char_to_byte};
pub use cache::Cache;
pub use caches::Caches;
pub use decode::Utf8Stream;
pub use encode::Stop;
pub use error::BpeError;
pub use hf::HfOptions;
pub use merges::{Merges, Rule};
pub use patterns::Pattern;
pub use special::{AddedToken, Allowed};
pub use store::Pieces;
pub use template::{Item, Template};
pub use tokenizer::{Alphabet, Tokenizer};
pub use train::{Step, Symbols, TrainOptions, train};
pub use train_counts::WordCounts;
pub use train_cuts::Cuts;
