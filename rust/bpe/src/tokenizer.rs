//! A loaded tokenizer: its pieces, merge rules, alphabet and added tokens.

use std::sync::OnceLock;

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use crate::characters::Characters;
use crate::junctions::Junctions;
use crate::merges::NONE;
use crate::normal::{Change, Lead, Normal};
use crate::regexes::Regexes;
use crate::special::{AddedToken, Allowed, Group};
use crate::store::Pieces;
use crate::template::Template;
use crate::{BpeError, Merges, Pattern};

/// What the symbols are that merging starts from.
#[derive(Debug, Clone)]
pub enum Alphabet {
    /// Bytes, inside the pieces of a pattern.
    Bytes(Box<Bytes>),
    /// Characters over the whole text, unknown ones as bytes.
    Characters(Box<Characters>),
}

/// A vocabulary over bytes.
#[derive(Debug, Clone)]
pub struct Bytes {
    pub(crate) splitter: Splitter,
    /// The ids of the 256 bytes.
    pub(crate) ids: [u32; 256],
    /// Found when the first text asks for them.
    junctions: OnceLock<Junctions>,
}

/// How text is cut before merging.
#[derive(Debug, Clone)]
pub enum Splitter {
    /// By a hand-written machine.
    Known(Pattern),
    /// By regular expressions, one after the other.
    Regexes(Regexes),
}

impl Alphabet {
    pub(crate) fn bytes(splitter: Splitter, ids: [u32; 256]) -> Self {
        Self::Bytes(Box::new(Bytes { splitter, ids, junctions: OnceLock::new() }))
    }
}

/// A byte-pair encoding with everything that encoding and decoding need.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// Id → the bytes it stands for; for added tokens their written form.
    pub(crate) pieces: Pieces,
    pub(crate) merges: Merges,
    pub(crate) alphabet: Alphabet,
    pub(crate) normal: Normal,
    pub(crate) added: Vec<AddedToken>,
    /// Strings that are one id in any text, allowed or not: SentencePiece's user-defined pieces.
    pub(crate) always: Group,
    /// A piece that is a token is taken as it is, whatever merging would make of it.
    pub(crate) whole_first: bool,
    pub(crate) template: Template,
    /// Whether the file's decoder drops one leading space.
    pub(crate) strips_space: bool,
    /// Found when the first text asks for them.
    pub(crate) byte_ranks: OnceLock<Box<[u32]>>,
    pub(crate) whole: OnceLock<FxHashMap<Box<[u8]>, u32>>,
    pub(crate) pairs_spaces: OnceLock<bool>,
}

impl Tokenizer {
    /// One that changes no text before it cuts it, and adds nothing to its ids.
    pub(crate) fn bare(
        pieces: Pieces,
        merges: Merges,
        alphabet: Alphabet,
        added: Vec<AddedToken>,
    ) -> Self {
        Self {
            pieces,
            merges,
            alphabet,
            normal: Default::default(),
            added,
            always: Default::default(),
            whole_first: false,
            template: Default::default(),
            strips_space: false,
            byte_ranks: Default::default(),
            whole: Default::default(),
            pairs_spaces: Default::default(),
        }
    }

    /// Number of ids, unused ones included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes that an id stands for.
    ///
    /// # Errors
    /// The id is outside the vocabulary.
    pub fn piece(&self, id: u32) -> Result<&[u8], BpeError> {
        self.pieces.get(id).ok_or(BpeError::UnknownId { id, size: self.pieces.len() })
    }

    /// The id that stands for exactly these bytes: an added token of this name, else what encoding
    /// would give (a character, not the byte that falls back for it).
    #[must_use]
    pub fn id_of(&self, bytes: &[u8]) -> Option<u32> {
        let named = self.added.iter().find(|token| token.content.as_bytes() == bytes);
        if let Some(token) = named {
            return Some(token.id);
        }
        let is_added = |id: u32| self.added.iter().any(|token| token.id == id);
        let ids = (0..self.pieces.len() as u32).rev();
        let mut same = ids.filter(|&id| self.pieces[id] == *bytes && !is_added(id));
        same.next().filter(|_| !bytes.is_empty())
    }

    /// All pieces by id.
    #[must_use]
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// The merge rules.
    #[must_use]
    pub fn merges(&self) -> &Merges {
        &self.merges
    }

    /// The added tokens, in order of id.
    #[must_use]
    pub fn added(&self) -> &[AddedToken] {
        &self.added
    }

    /// What the file puts around texts.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Whether the published decoder drops one leading space.
    #[must_use]
    pub fn strips_space(&self) -> bool {
        self.strips_space
    }

    /// The pattern that cuts text, where it is one of the known ones.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        match &self.alphabet {
            Alphabet::Bytes(bytes) => match bytes.splitter {
                Splitter::Known(pattern) => Some(pattern),
                Splitter::Regexes(_) => None,
            },
            Alphabet::Characters(_) => None,
        }
    }

    /// Where byte pieces can be cut further.
    pub(crate) fn junctions<'s>(&'s self, bytes: &'s Bytes) -> &'s Junctions {
        bytes.junctions.get_or_init(|| Junctions::new(self.pieces.iter()))
    }

    /// The ranks of all pairs of bytes, 256 for each left one; in a vocabulary over characters those
    /// of ASCII, at the same places.
    pub(crate) fn byte_ranks(&self) -> &[u32] {
        self.byte_ranks.get_or_init(|| {
            let mut symbols = Vec::new();
            match &self.alphabet {
                Alphabet::Bytes(bytes) => symbols.extend(bytes.ids),
                // One symbol each: an unknown character is its byte, and joins nothing.
                Alphabet::Characters(characters) => {
                    (0..0x80).for_each(|byte| characters.symbols(&[byte], |id| symbols.push(id)));
                }
            }
            let mut ranks = vec![NONE; 1 << 16];
            for (row, &left) in ranks.chunks_exact_mut(256).zip(&symbols) {
                for (rank, &right) in row.iter_mut().zip(&symbols) {
                    *rank = self.merges.rank(left, right);
                }
            }
            ranks.into()
        })
    }

    /// Whether two spaces are joined before a space is joined to anything else.
    pub(crate) fn pairs_spaces(&self, characters: &Characters) -> bool {
        *self.pairs_spaces.get_or_init(|| {
            let mut space = None;
            characters.symbols(b" ", |id| space = Some(id));
            space.is_some_and(|id| {
                let first = self.merges.first_of(id);
                first.is_some_and(|rule| (rule.left, rule.right) == (id, id))
            })
        })
    }

    /// Gives ids their names from `names`, as `tokenizer_config.json` lists them.
    ///
    /// An id keeps its place: a name is laid over it, never appended. Unless `parity` asks for the
    /// reference's behaviour, no text can be merged into a control token afterwards.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn overlay(&mut self, names: &[AddedToken], parity: bool) -> Result<(), BpeError> {
        for name in names {
            self.piece(name.id)?;
            self.pieces.set(name.id, name.content.as_bytes());
            self.added.retain(|token| token.id != name.id);
            self.added.push(name.clone());
        }
        let named = |id: u32| names.iter().any(|name| name.id == id);
        if self.always.tokens().iter().any(|token| named(token.id)) {
            let rest = self.always.tokens().iter().filter(|token| !named(token.id));
            self.always = Group::new(rest.cloned())?;
        }
        if !parity {
            let ids: Vec<u32> = names.iter().map(|name| name.id).collect();
            if self.merges.forget_results(&ids) {
                self.byte_ranks = OnceLock::new();
                self.pairs_spaces = OnceLock::new();
            }
        }
        self.added.sort_by_key(|token| token.id);
        Ok(())
    }

    /// A matcher for the named special tokens.
    ///
    /// # Errors
    /// A name that is no added token.
    pub fn allow(&self, names: &[String]) -> Result<Allowed, BpeError> {
        let find = |name: &String| {
            let token = self.added.iter().find(|token| token.content == *name);
            token.cloned().ok_or_else(|| BpeError::UnknownSpecial(name.clone()))
        };
        self.group(names.iter().map(find).collect::<Result<Vec<_>, _>>()?)
    }

    /// A matcher for every added token.
    ///
    /// # Errors
    /// The tokens are too large for a matcher.
    pub fn allow_all(&self) -> Result<Allowed, BpeError> {
        self.group(self.added.clone())
    }

    fn group(&self, tokens: Vec<AddedToken>) -> Result<Allowed, BpeError> {
        let changes = Normal { changes: self.normal.changes.clone(), ..Normal::default() };
        let (normalized, raw): (Vec<_>, Vec<_>) =
            tokens.into_iter().partition(|token| token.normalized);
        let normalized = normalized.into_iter().map(|mut token| {
            token.content = changes.apply(&token.content, false).into_owned();
            token
        });
        Ok(Allowed { raw: Group::new(raw)?, normalized: Group::new(normalized)? })
    }

    /// The token that a whole piece is, where pieces are looked up before merging.
    #[inline]
    pub(crate) fn whole(&self, piece: &[u8]) -> Option<u32> {
        if !self.whole_first {
            return None;
        }
        let whole = self.whole.get_or_init(|| {
            let named = |id: u32| self.added.iter().any(|token| token.id == id);
            let pieces = (0..).zip(self.pieces.iter()).filter(|&(id, _)| !named(id));
            pieces.map(|(id, piece)| (piece.into(), id)).collect()
        });
        whole.get(piece).copied()
    }

    /// The bytes of `ids`, one after the other.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, BpeError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            bytes.extend_from_slice(self.piece(id)?);
        }
        Ok(bytes)
    }

    /// The text of `ids`; invalid bytes become U+FFFD.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, BpeError> {
        let text = String::from_utf8_lossy(&self.decode_bytes(ids)?).into_owned();
        match text.strip_prefix(' ') {
            Some(rest) if self.leads() => Ok(rest.to_owned()),
            _ => Ok(text),
        }
    }

    /// Whether encoding puts a space in front, which decoding takes away.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.normal.lead != Lead::Never
    }

    /// SHA-256 over everything that decides ids: equal for equal tokenizers from any file form.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let pattern = match &self.alphabet {
            Alphabet::Characters(_) => "characters".to_owned(),
            Alphabet::Bytes(bytes) => match &bytes.splitter {
                Splitter::Known(pattern) => pattern.regex().to_owned(),
                Splitter::Regexes(regexes) => {
                    format!("{:?}", regexes.sources().collect::<Vec<_>>())
                }
            },
        };
        let nfc = self.normal.changes == [Change::Nfc];
        hash.update(format!("internlm-bpe 1\n{pattern}\n{nfc}\n"));
        // Settings that came later count where they are in use, so that older digests stay.
        if !nfc && !self.normal.changes.is_empty() || self.normal.lead != Default::default() {
            hash.update(format!("{:?}\n", self.normal));
        }
        if self.whole_first {
            hash.update("whole pieces first\n");
        }
        for token in self.always.tokens() {
            hash.update(format!("always {} {:?}\n", token.id, token.content));
        }
        for piece in self.pieces.iter() {
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
        for (order, rule) in self.merges.sorted().into_iter().enumerate() {
            for value in [order as u32, rule.left, rule.right, rule.result] {
                hash.update(value.to_le_bytes());
            }
        }
        for token in &self.added {
            hash.update(token.id.to_le_bytes());
            hash.update(token.content.as_bytes());
            hash.update([u8::from(token.special)]);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
