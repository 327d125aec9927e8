//! InternLM2's forward pass on a CPU: packed weights, paged keys and values.
//!
//! - [`matrix`]: weights in fp32, bf16, 8 or 4 bits, and products with a few rows or many;
//! - [`cache`]: keys and values in pages, fp32, bf16 or 8 bits, and attention over them;
//! - [`decoder`]: the layers, over the new tokens of many sequences at once;
//! - `tiles`: the products' inner loops;
//! - `simd`: sixteen lanes on whatever the processor has.
//!
//! The promise of all of it: what comes out for a token depends on the tokens before it in its own
//! sequence and on nothing else, to the last bit.

pub mod cache;
pub mod decoder;
pub mod matrix;
mod simd;
mod tiles;

pub use simd::{Level, level};

/// What can be wrong with weights or steps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arrays that don't fit each other.
    #[error("{0}")]
    Shape(String),
    /// A page that the cache doesn't have.
    #[error("page {0} of a cache of {1} pages")]
    Page(u32, usize),
    /// An id that the vocabulary doesn't have.
    #[error("id {0} in a vocabulary of {1} entries; was it made with this model's tokenizer?")]
    Token(u32, usize),
}
