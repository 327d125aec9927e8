//! A loaded tokenizer: its pieces, merge rules, alphabet and added tokens.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::characters::Characters;
use crate::junctions::Junctions;
use crate::special::{AddedToken, Allowed};
use crate::{BpeError, Merges, Pattern, Utf8Stream};

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
    pub(crate) pattern: Pattern,
    /// The ids of the 256 bytes.
    pub(crate) ids: [u32; 256],
    /// Found when the first text asks for them.
    junctions: OnceLock<Junctions>,
}

impl Alphabet {
    pub(crate) fn bytes(pattern: Pattern, ids: [u32; 256]) -> Self {
        Self::Bytes(Box::new(Bytes { pattern, ids, junctions: OnceLock::new() }))
    }
}

/// A byte-pair encoding with everything that encoding and decoding need.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// Id → the bytes it stands for; for added tokens their written form.
    pub(crate) pieces: Vec<Box<[u8]>>,
    pub(crate) merges: Merges,
    pub(crate) alphabet: Alphabet,
    pub(crate) nfc: bool,
    pub(crate) added: Vec<AddedToken>,
    /// Ids that the file's template puts before a text.
    pub(crate) prefix: Vec<u32>,
    /// Whether the file's decoder drops one leading space.
    pub(crate) strips_space: bool,
    /// Found when the first text asks for them.
    pub(crate) ascii_ranks: OnceLock<Box<[u32]>>,
}

impl Tokenizer {
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
        let piece = self.pieces.get(id as usize);
        piece.map(AsRef::as_ref).ok_or(BpeError::UnknownId { id, size: self.pieces.len() })
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
        let mut same = ids.filter(|&id| *self.pieces[id as usize] == *bytes && !is_added(id));
        same.next().filter(|_| !bytes.is_empty())
    }

    /// All pieces by id.
    #[must_use]
    pub fn pieces(&self) -> &[Box<[u8]>] {
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

    /// Ids that the file's template puts before a text.
    #[must_use]
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// Whether the published decoder drops one leading space.
    #[must_use]
    pub fn strips_space(&self) -> bool {
        self.strips_space
    }

    /// The pattern that cuts text, where there is one.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        match &self.alphabet {
            Alphabet::Bytes(bytes) => Some(bytes.pattern),
            Alphabet::Characters(_) => None,
        }
    }

    /// Where byte pieces can be cut further.
    pub(crate) fn junctions<'s>(&'s self, bytes: &'s Bytes) -> &'s Junctions {
        bytes.junctions.get_or_init(|| Junctions::new(self.pieces.iter().map(AsRef::as_ref)))
    }

    /// The ranks of all pairs of ASCII characters, row by row of the left one.
    pub(crate) fn ascii_ranks(&self) -> &[u32] {
        self.ascii_ranks.get_or_init(|| {
            let mut symbols = Vec::new();
            for byte in 0..0x80 {
                match &self.alphabet {
                    Alphabet::Bytes(bytes) => symbols.push(bytes.ids[usize::from(byte)]),
                    // One symbol each: an unknown character is its byte, and joins nothing.
                    Alphabet::Characters(characters) => {
                        characters.symbols(&[byte], |id| symbols.push(id));
                    }
                }
            }
            let right = |left: u32| symbols.iter().map(move |&right| self.merges.rank(left, right));
            symbols.iter().flat_map(|&left| right(left)).collect()
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
            self.pieces[name.id as usize] = name.content.as_bytes().into();
            self.added.retain(|token| token.id != name.id);
            self.added.push(name.clone());
        }
        if !parity {
            let ids: Vec<u32> = names.iter().map(|name| name.id).collect();
            self.merges.forget_results(&ids);
            self.ascii_ranks = OnceLock::new();
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
        Allowed::only(names.iter().map(find).collect::<Result<Vec<_>, _>>()?)
    }

    /// A matcher for every added token.
    ///
    /// # Errors
    /// The tokens are too large for a matcher.
    pub fn allow_all(&self) -> Result<Allowed, BpeError> {
        Allowed::only(self.added.iter().cloned())
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
        let mut stream = Utf8Stream::default();
        let mut text = stream.push(&self.decode_bytes(ids)?);
        text.push_str(&stream.flush());
        Ok(text)
    }

    /// SHA-256 over everything that decides ids: equal for equal tokenizers from any file form.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let pattern = self.pattern().map_or("characters", Pattern::regex);
        hash.update(format!("internlm-bpe 1\n{pattern}\n{}\n", self.nfc));
        for piece in &self.pieces {
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
