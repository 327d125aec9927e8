//! Training: count pieces, then join the most frequent pair until the vocabulary is full.

use std::path::PathBuf;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::characters::SPACE_MARK;
use crate::scripts::{NO_SCRIPT, Script, script_in, script_named};
use crate::special::AddedToken;
use crate::tokenizer::Tokenizer;
use crate::train_alphabet::Base;
pub use crate::train_alphabet::Symbols;
use crate::train_learner::{IdPair, Learner};
use crate::train_state as state;
use crate::{BpeError, Merges, Pattern, Rule, WordCounts};

/// What a trained vocabulary should look like.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Number of ids in all: special tokens, 256 bytes, characters and learned tokens.
    pub vocab_size: usize,
    /// A pair that occurs less often is not joined.
    pub min_frequency: u64,
    /// Longest token in bytes, 0 for no limit.
    pub max_token_length: usize,
    /// How many learned tokens of a script there may be, by Unicode's name of it.
    pub script_limits: Vec<(String, usize)>,
    /// What merging starts from.
    pub symbols: Symbols,
    /// How text is cut when a vocabulary over bytes encodes.
    pub pattern: Pattern,
    /// Control tokens with the first ids.
    pub first: Vec<String>,
    /// Control tokens with the last ids.
    pub last: Vec<String>,
    /// File that [`Step::Save`] writes; what is there already is gone on from.
    pub state: Option<PathBuf>,
}

impl TrainOptions {
    /// Whether some text could satisfy the options.
    ///
    /// # Errors
    /// As of [`train`].
    pub fn check(&self) -> Result<(), BpeError> {
        // A pair can give a token that another pair gave: more merges than ids, in theory twice as many.
        Merges::check_sizes(self.vocab_size, self.vocab_size.saturating_mul(2))?;
        let characters = match self.symbols {
            Symbols::Bytes => None,
            Symbols::Characters { coverage } if (0.0..=1.0).contains(&coverage) => {
                Some(vec![SPACE_MARK])
            }
            Symbols::Characters { coverage } => {
                return Err(BpeError::Training(format!("coverage {coverage}: expected 0 to 1")));
            }
        };
        Growing::new(&Base::new(&self.first, characters), self).map(drop)
    }
}

/// What is to come after some merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// More merges.
    Go,
    /// The state is written, then more merges.
    Save,
    /// The training ends with an error.
    Stop,
}

/// Learns merges from counts.
///
/// Among pairs of equal count the one with the smaller ids is joined first (as the reference
/// library does), so the result depends on the counts alone. `progress` is called with the number
/// of merges made and says what comes next.
///
/// # Errors
/// No text; a vocabulary too small for its bytes, characters and special tokens; special tokens or
/// limits that contradict each other; a state that can't be read or written.
pub fn train(
    words: &WordCounts,
    options: &TrainOptions,
    mut progress: impl FnMut(usize) -> Step,
) -> Result<Tokenizer, BpeError> {
    options.check()?;
    let saved = options.state.as_deref().map(state::read).transpose()?.flatten();
    if saved.is_none() && words.is_empty() {
        return Err(BpeError::Training("no text to train on: every text was empty".into()));
    }
    let (base, mut learner, rules) = match saved {
        Some(saved) => {
            let characters = (options.symbols != Symbols::Bytes).then_some(saved.characters);
            (Base::new(&options.first, characters), saved.learner, saved.rules)
        }
        None => {
            let base = Base::of(words, options.symbols, &options.first)?;
            let learner = Learner::new(words, &base)?;
            (base, learner, Vec::new())
        }
    };
    let mut grown = Growing::new(&base, options)?;
    rules.into_iter().for_each(|rule| grown.again(rule));
    let wanted = options.vocab_size - options.last.len();
    while grown.pieces.len() < wanted {
        let Some(pair) = learner.best(options.min_frequency) else { break };
        let Some(id) = grown.join(pair) else { continue };
        learner.join(pair, id);
        if grown.rank % 256 == 0 {
            match progress(grown.rank as usize) {
                Step::Go => {}
                Step::Save => {
                    if let Some(path) = &options.state {
                        let characters = base.characters.as_deref().unwrap_or_default();
                        state::write(path, characters, &grown.merges.sorted(), &learner)?;
                    }
                }
                Step::Stop => return Err(BpeError::Training("interrupted".into())),
            }
        }
    }
    Ok(grown.finish(&base, options))
}

/// The vocabulary while it grows.
struct Growing {
    pieces: Vec<Box<[u8]>>,
    merges: Merges,
    rank: u32,
    known: FxHashMap<Box<[u8]>, u32>,
    longest: usize,
    /// Strings that no text may become.
    forbidden: FxHashSet<Box<[u8]>>,
    /// How many more tokens a script may have.
    left: FxHashMap<Script, usize>,
}

impl Growing {
    fn new(base: &Base, options: &TrainOptions) -> Result<Self, BpeError> {
        let fixed = base.pieces.len() + options.last.len();
        if options.vocab_size < fixed {
            let characters = base.characters.as_ref().map_or(0, Vec::len);
            return Err(BpeError::Training(format!(
                "vocab_size {} is below {fixed}: 256 bytes and {} special tokens{}",
                options.vocab_size,
                fixed - 256 - characters,
                match characters {
                    0 => String::new(),
                    _ => format!(", {characters} characters (fewer with a lower coverage)"),
                }
            )));
        }
        let mut forbidden: FxHashSet<Box<[u8]>> = FxHashSet::default();
        for name in options.first.iter().chain(&options.last) {
            let one = match base.characters {
                Some(_) => name.chars().nth(1).is_none(),
                None => name.len() < 2,
            };
            if one || !forbidden.insert(name.as_bytes().into()) {
                return Err(BpeError::Training(format!(
                    "special token {name:?}: {}",
                    if one { "a name has at least two characters" } else { "given twice" }
                )));
            }
        }
        if base.characters.is_some() {
            forbidden.extend((0..=255).map(|byte| Box::from(format!("<0x{byte:02X}>").as_bytes())));
        }
        let mut left = FxHashMap::default();
        for (name, most) in &options.script_limits {
            let script = script_named(name).ok_or_else(|| {
                BpeError::Training(format!(
                    "script {name:?}: expected Unicode's name of one, as Latin or Han (which Hiragana and Katakana count as)"
                ))
            })?;
            left.insert(script, *most);
        }
        // Bytes stand before characters; only what can be joined is known, not control tokens.
        let bytes = if base.characters.is_some() { 256 } else { 0 };
        let known = (base.pieces.iter().zip(0..)).skip(options.first.len() + bytes);
        Ok(Self {
            known: known.map(|(piece, id)| (piece.clone(), id)).collect(),
            pieces: base.pieces.clone(),
            merges: Merges::default(),
            rank: 0,
            longest: match options.max_token_length {
                0 => usize::MAX,
                longest => longest,
            },
            forbidden,
            left,
        })
    }

    /// The id of a pair's result, new or known; `None` if it may not be joined.
    fn join(&mut self, pair: IdPair) -> Option<u32> {
        let joined = [&*self.pieces[pair.0 as usize], &*self.pieces[pair.1 as usize]].concat();
        if joined.len() > self.longest || self.forbidden.contains(joined.as_slice()) {
            return None;
        }
        // Two ways to one string share an id.
        let id = match self.known.get(joined.as_slice()) {
            Some(&id) => id,
            None => self.append(joined.into())?,
        };
        // A pair can come back when a shared id makes new occurrences; its rule is there already.
        if self.merges.insert(Rule { rank: self.rank, left: pair.0, right: pair.1, result: id }) {
            self.rank += 1;
        }
        Some(id)
    }

    fn append(&mut self, piece: Box<[u8]>) -> Option<u32> {
        if !self.left.is_empty() {
            let script = script_in(&piece);
            if let Some(left) = self.left.get_mut(&script).filter(|_| script != NO_SCRIPT) {
                *left = left.checked_sub(1)?;
            }
        }
        let id = self.pieces.len() as u32;
        self.known.insert(piece.clone(), id);
        self.pieces.push(piece);
        Some(id)
    }

    /// Makes a rule of an earlier run again.
    fn again(&mut self, rule: Rule) {
        self.join((rule.left, rule.right));
    }

    fn finish(self, base: &Base, options: &TrainOptions) -> Tokenizer {
        let alphabet = base.alphabet(&self.pieces, options.first.len(), options.pattern);
        let mut pieces = self.pieces;
        let mut added: Vec<AddedToken> = (options.first.iter().zip(0..))
            .map(|(name, id)| AddedToken::control(name, id))
            .collect();
        for name in &options.last {
            added.push(AddedToken::control(name, pieces.len() as u32));
            pieces.push(name.as_bytes().into());
        }
        Tokenizer::bare(pieces.into_iter().collect(), self.merges, alphabet, added)
    }
}
