//! Training: count pieces, then join the most frequent pair until the vocabulary is full.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::bytelevel::byte_to_char;
use crate::special::AddedToken;
use crate::tokenizer::{Alphabet, Splitter, Tokenizer};
use crate::{BpeError, Merges, Pattern, Rule};

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

/// Pieces of text and how often each occurs.
#[derive(Debug, Clone, Default)]
pub struct WordCounts(FxHashMap<Box<[u8]>, u64>);

impl WordCounts {
    /// Counts the pieces of some texts, in parallel; the order of texts never matters.
    pub fn add(&mut self, texts: &[Option<&str>], pattern: Pattern) {
        let counts = texts
            .par_iter()
            .fold(FxHashMap::<&[u8], u64>::default, |mut counts, text| {
                pattern.each(text.unwrap_or(""), |piece| {
                    *counts.entry(piece.as_bytes()).or_default() += 1;
                });
                counts
            })
            .reduce(FxHashMap::default, |left, right| {
                let (mut large, small) =
                    if left.len() < right.len() { (right, left) } else { (left, right) };
                for (piece, count) in small {
                    *large.entry(piece).or_default() += count;
                }
                large
            });
        for (piece, count) in counts {
            match self.0.get_mut(piece) {
                Some(known) => *known += count,
                None => {
                    self.0.insert(piece.into(), count);
                }
            }
        }
    }

    /// Number of different pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

type IdPair = (u32, u32);

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
    let mut learner = Learner::new(words, &byte_ids);
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

/// Counts of pairs, kept up to date while words shrink.
struct Learner {
    words: Vec<Vec<u32>>,
    counts: Vec<i64>,
    pair_counts: FxHashMap<IdPair, i64>,
    places: FxHashMap<IdPair, FxHashSet<u32>>,
    /// Most frequent first, then smallest ids; entries may be out of date and are checked.
    heap: BinaryHeap<(i64, Reverse<IdPair>)>,
}

impl Learner {
    fn new(words: &WordCounts, byte_ids: &[u32; 256]) -> Self {
        let mut sorted: Vec<(&[u8], u64)> =
            words.0.iter().filter(|(piece, _)| piece.len() > 1).map(|(p, &c)| (&**p, c)).collect();
        sorted.par_sort_unstable();
        let mut this = Self {
            words: Vec::with_capacity(sorted.len()),
            counts: Vec::with_capacity(sorted.len()),
            pair_counts: FxHashMap::default(),
            places: FxHashMap::default(),
            heap: BinaryHeap::new(),
        };
        for (index, (piece, count)) in sorted.into_iter().enumerate() {
            let word: Vec<u32> = piece.iter().map(|&byte| byte_ids[usize::from(byte)]).collect();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            for pair in word.windows(2) {
                let pair = (pair[0], pair[1]);
                *this.pair_counts.entry(pair).or_default() += count;
                this.places.entry(pair).or_default().insert(index as u32);
            }
            this.words.push(word);
            this.counts.push(count);
        }
        this.heap = this.pair_counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        this
    }

    fn best(&mut self, min_frequency: u64) -> Option<IdPair> {
        while let Some((count, Reverse(pair))) = self.heap.pop() {
            let now = self.pair_counts.get(&pair).copied().unwrap_or(0);
            if now != count {
                if now > 0 {
                    self.heap.push((now, Reverse(pair)));
                }
                continue;
            }
            if count < 1 || count < i64::try_from(min_frequency).unwrap_or(i64::MAX) {
                return None;
            }
            return Some(pair);
        }
        None
    }

    fn join(&mut self, pair: IdPair, id: u32) {
        let mut grown: FxHashMap<IdPair, FxHashSet<u32>> = FxHashMap::default();
        for index in self.places.remove(&pair).unwrap_or_default() {
            let (word, count) = (&mut self.words[index as usize], self.counts[index as usize]);
            let (mut read, mut write) = (0, 0);
            let mut change = |changed: IdPair, by: i64| {
                *self.pair_counts.entry(changed).or_default() += by;
                if by > 0 {
                    grown.entry(changed).or_default().insert(index);
                }
            };
            while read < word.len() {
                if read + 1 < word.len() && (word[read], word[read + 1]) == pair {
                    if write > 0 {
                        change((word[write - 1], pair.0), -count);
                        change((word[write - 1], id), count);
                    }
                    if let Some(&next) = word.get(read + 2) {
                        change((pair.1, next), -count);
                        change((id, next), count);
                    }
                    word[write] = id;
                    read += 2;
                } else {
                    word[write] = word[read];
                    read += 1;
                }
                write += 1;
            }
            word.truncate(write);
        }
        self.pair_counts.remove(&pair);
        for (pair, indices) in grown {
            let count = self.pair_counts.get(&pair).copied().unwrap_or(0);
            if count > 0 {
                self.heap.push((count, Reverse(pair)));
                self.places.entry(pair).or_default().extend(indices);
            }
        }
    }
}
