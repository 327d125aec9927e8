//! Training: count pieces, then join the most frequent pair until the vocabulary is full.

use rustc_hash::FxHashMap;

use crate::bytelevel::byte_to_char;
use crate::special::AddedToken;
use crate::tokenizer::{Alphabet, Splitter, Tokenizer};
use crate::train_learner::Learner;
use crate::{BpeError, Merges, Pattern, Rule, WordCounts};

/// What a trained vocabulary should look like.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Number of ids in all: special tokens, 256 bytes and learned tokens.
    pub vocab_size: usize,
    /// A pair that occurs less often is not joined.
    pub min_frequency: u64,
    /// Longest token in bytes, 0 for no limit.
    pub max_token_length: usize,
    /// How text is cut before counting.
    pub pattern: Pattern,
    /// Control tokens with the first ids.
    pub first: Vec<String>,
    /// Control tokens with the last ids.
    pub last: Vec<String>,
}

/// Learns merges from counts.
///
/// Among pairs of equal count the one with the smaller ids is joined first (as the reference
/// library does), so the result depends on the counts alone. `progress` is called with the number
/// of merges made; it stops the training by returning `false`.
///
/// # Errors
/// No text, or a vocabulary too small for the bytes and special tokens.
pub fn train(
    words: &WordCounts,
    options: &TrainOptions,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Tokenizer, BpeError> {
    let fixed = options.first.len() + options.last.len() + 256;
    if options.vocab_size < fixed {
        return Err(BpeError::Training(format!(
            "vocab_size {} is below {fixed}: 256 bytes and {} special tokens",
            options.vocab_size,
            fixed - 256
        )));
    }
    // A pair can give a token that another pair gave: more merges than ids, in theory twice as many.
    Merges::check_sizes(options.vocab_size, options.vocab_size.saturating_mul(2))?;
    if words.is_empty() {
        return Err(BpeError::Training("no text to train on: every text was empty".into()));
    }
    let mut pieces: Vec<Box<[u8]>> =
        options.first.iter().map(|name| name.as_bytes().into()).collect();
    let byte_ids = byte_alphabet(&mut pieces);
    let mut learner = Learner::new(words, &byte_ids)?;
    let mut merges = Merges::default();
    let wanted = options.vocab_size - options.last.len();
    let mut known: FxHashMap<Box<[u8]>, u32> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id as u32)).collect();
    let mut rank = 0;
    while pieces.len() < wanted {
        let Some(pair) = learner.best(options.min_frequency) else { break };
        let joined = [&*pieces[pair.0 as usize], &*pieces[pair.1 as usize]].concat();
        if options.max_token_length > 0 && joined.len() > options.max_token_length {
            continue;
        }
        // Two ways to one string share an id.
        let id = *known.entry(joined.as_slice().into()).or_insert_with(|| {
            pieces.push(joined.as_slice().into());
            pieces.len() as u32 - 1
        });
        // A pair can come back when a shared id makes new occurrences; its rule is there already.
        if merges.insert(Rule { rank, left: pair.0, right: pair.1, result: id }) {
            rank += 1;
        }
        learner.join(pair, id);
        if rank % 256 == 0 && !progress(rank as usize) {
            return Err(BpeError::Training("interrupted".into()));
        }
    }
    let mut added: Vec<AddedToken> =
        (options.first.iter().zip(0..)).map(|(name, id)| AddedToken::control(name, id)).collect();
    for name in &options.last {
        added.push(AddedToken::control(name, pieces.len() as u32));
        pieces.push(name.as_bytes().into());
    }
    Ok(Tokenizer {
        pieces,
        merges,
        alphabet: Alphabet::bytes(Splitter::Known(options.pattern), byte_ids),
        normal: Default::default(),
        added,
        always: Default::default(),
        whole_first: false,
        template: Default::default(),
        strips_space: false,
        ascii_ranks: Default::default(),
        whole: Default::default(),
    })
}

/// Appends the 256 bytes in the order of the characters that stand for them, as the reference does.
fn byte_alphabet(pieces: &mut Vec<Box<[u8]>>) -> [u32; 256] {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|&byte| byte_to_char(byte));
    let mut ids = [0; 256];
    for byte in bytes {
        ids[usize::from(byte)] = pieces.len() as u32;
        pieces.push([byte].into());
    }
    ids
}
