//! Hugging Face `tokenizer.json`, of the BPE kinds that are known; anything else is refused by name.

use std::borrow::Cow;
use std::fmt;

use rustc_hash::FxHashMap;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::bytelevel::{byte_to_char, char_to_byte};
use crate::characters::{Characters, SPACE_MARK};
use crate::hf_parts::{decoder, normalizer, pre_tokenizer, template, unsupported};
use crate::special::AddedToken;
use crate::tokenizer::{Alphabet, Tokenizer};
use crate::{BpeError, Merges, Rule};

/// How to load a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct HfOptions {
    /// Let text merge into control tokens as the reference library does (`<s>` of InternLM2).
    pub parity: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'j> {
    #[serde(borrow)]
    model: Model<'j>,
    #[serde(default, rename = "version")]
    _version: Value,
    #[serde(default)]
    truncation: Value,
    #[serde(default)]
    padding: Value,
    #[serde(default)]
    added_tokens: Vec<FileToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model<'j> {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    vocab: Vocab<'j>,
    #[serde(borrow)]
    merges: Vec<Pair<'j>>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default, rename = "unk_token")]
    _unk_token: Option<String>,
    #[serde(default, rename = "fuse_unk")]
    _fuse_unk: bool,
}

/// Token → id, in which a token stands once.
struct Vocab<'j>(FxHashMap<Cow<'j, str>, u32>);

impl<'de: 'j, 'j> Deserialize<'de> for Vocab<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocab<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of token to id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                // InternLM2 has 92,544; a table that grows moves all it has.
                let mut tokens =
                    FxHashMap::with_capacity_and_hasher(1 << 17, rustc_hash::FxBuildHasher);
                while let Some((Text(token), id)) = map.next_entry::<Text<'de>, u32>()? {
                    if tokens.contains_key(&token) {
                        return Err(A::Error::custom(format!(
                            "model.vocab: {token:?} is listed twice"
                        )));
                    }
                    tokens.insert(token, id);
                }
                Ok(Vocab(tokens))
            }
        }
        deserializer.deserialize_map(Tokens)
    }
}

/// A string of the file, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Text<'j>(#[serde(borrow)] Cow<'j, str>);

/// Old files write `"a b"`, new ones `["a", "b"]`.
enum Pair<'j> {
    Joined(Cow<'j, str>),
    Two(Cow<'j, str>, Cow<'j, str>),
}

impl<'de: 'j, 'j> Deserialize<'de> for Pair<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Pair<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("\"left right\" or [\"left\", \"right\"]")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Pair::Joined(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Pair::Joined(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let missing = |_| A::Error::invalid_length(2, &"two parts");
                let mut part = || parts.next_element::<Text<'de>>()?.ok_or(()).map_err(missing);
                let (left, right) = (part()?.0, part()?.0);
                match parts.next_element::<Text<'de>>()? {
                    None => Ok(Pair::Two(left, right)),
                    Some(_) => Err(A::Error::invalid_length(3, &"two parts")),
                }
            }
        }
        deserializer.deserialize_any(Parts)
    }
}

impl Pair<'_> {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Joined(text) => text.split_once(' '),
            Self::Two(left, right) => Some((left, right)),
        }
    }
}

#[derive(Deserialize)]
struct FileToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    normalized: bool,
}

impl From<FileToken> for AddedToken {
    fn from(token: FileToken) -> Self {
        let FileToken { id, content, special, lstrip, rstrip, single_word, normalized } = token;
        Self { content, id, special, lstrip, rstrip, single_word, normalized }
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Broken JSON, contradictory vocabulary and merges, or a part that is not supported.
    pub fn from_hf(json: &str, options: HfOptions) -> Result<Self, BpeError> {
        let file: File = serde_json::from_str(json)
            .map_err(|error| BpeError::malformed("tokenizer.json", error.to_string()))?;
        check_model(&file.model)?;
        for (field, value) in [("truncation", &file.truncation), ("padding", &file.padding)] {
            if !value.is_null() {
                return Err(unsupported(
                    field,
                    value.to_string(),
                    "null; cut or fill the ids instead",
                ));
            }
        }
        let (mut normal, marks_spaces) = normalizer(&file.normalizer)?;
        let cut = pre_tokenizer(&file.pre_tokenizer, marks_spaces)?;
        if cut.lead != Default::default() {
            normal.lead = cut.lead;
        }
        let added: Vec<AddedToken> = file.added_tokens.into_iter().map(Into::into).collect();
        let vocab = &file.model.vocab.0;
        let names = strings_by_id(vocab, &added)?;
        let merges = merges(&file.model)?;
        let alphabet = match cut.splitter {
            Some(splitter) => Alphabet::bytes(splitter, byte_level_ids(vocab)?),
            None if file.model.byte_fallback && cut.marks_spaces => {
                let vocabulary = vocab.iter().map(|(token, &id)| (token.as_ref(), id));
                let byte_ids = fallback_ids(vocab)?;
                if !vocab.contains_key(SPACE_MARK.encode_utf8(&mut [0; 4]) as &str) {
                    return Err(BpeError::malformed(
                        "model.vocab",
                        "no token for the space mark '▁'",
                    ));
                }
                Alphabet::Characters(Box::new(Characters::new(vocabulary, byte_ids)))
            }
            None => {
                return Err(unsupported(
                    "pre_tokenizer",
                    "null without byte fallback and a space mark",
                    "null with byte_fallback and Replace ' ' by '▁'",
                ));
            }
        };
        let strips_space = decoder(&file.decoder, matches!(alphabet, Alphabet::Bytes(_)))?;
        let marked =
            |token: &&AddedToken| token.normalized && token.content.contains([' ', SPACE_MARK]);
        if let (Alphabet::Characters(_), Some(token)) = (&alphabet, added.iter().find(marked)) {
            let what = format!("{:?}, normalized and with a space,", token.content);
            return Err(unsupported("added_tokens", what, "normalized tokens without spaces"));
        }
        let is_added = |id: u32| added.iter().any(|token| token.id == id);
        let piece = |(id, name): (usize, &Option<&str>)| -> Result<Box<[u8]>, BpeError> {
            let Some(name) = name else { return Ok(Box::default()) };
            if is_added(id as u32) {
                return Ok(name.as_bytes().into());
            }
            match &alphabet {
                Alphabet::Bytes(..) => byte_level_piece(name),
                Alphabet::Characters(_) => Ok(fallback_piece(name)),
            }
        };
        let pieces = names.iter().enumerate().map(piece).collect::<Result<Vec<_>, _>>()?;
        let mut tokenizer = Self {
            pieces,
            merges,
            alphabet,
            normal,
            added: Vec::new(),
            always: Default::default(),
            whole_first: file.model.ignore_merges,
            template: template(&file.post_processor)?,
            strips_space,
            ascii_ranks: Default::default(),
            whole: Default::default(),
        };
        tokenizer.overlay(&added, options.parity)?;
        Ok(tokenizer)
    }

    /// Gives ids the names of a `tokenizer_config.json`'s `added_tokens_decoder`.
    ///
    /// # Errors
    /// Broken JSON, or an id outside the vocabulary.
    pub fn overlay_config(&mut self, json: &str, options: HfOptions) -> Result<(), BpeError> {
        let config: Value = serde_json::from_str(json)
            .map_err(|error| BpeError::malformed("tokenizer_config.json", error.to_string()))?;
        let Some(names) = config.get("added_tokens_decoder").and_then(Value::as_object) else {
            return Ok(());
        };
        let mut tokens = Vec::new();
        for (id, value) in names {
            let field = format!("added_tokens_decoder.{id}");
            let mut value = value.clone();
            let number: u32 = id.parse().map_err(|_| BpeError::malformed(&field, "not an id"))?;
            if let Some(entry) = value.as_object_mut() {
                entry.insert("id".into(), json!(number));
            }
            let token: FileToken = serde_json::from_value(value)
                .map_err(|error| BpeError::malformed(&field, error.to_string()))?;
            tokens.push(token.into());
        }
        self.overlay(&tokens, options.parity)
    }
}

fn check_model(model: &Model<'_>) -> Result<(), BpeError> {
    let named = [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (field, value) in named {
        if let Some(text) = value.as_deref().filter(|text| !text.is_empty()) {
            return Err(unsupported(field, format!("{text:?}"), "none"));
        }
    }
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err(unsupported("model.type", model.kind.clone().unwrap_or_default(), "BPE"));
    }
    if model.dropout.is_some_and(|dropout| dropout > 0.0) {
        return Err(unsupported("model.dropout", "a dropout", "null"));
    }
    Ok(())
}

fn strings_by_id<'v>(
    vocab: &'v FxHashMap<Cow<'_, str>, u32>,
    added: &'v [AddedToken],
) -> Result<Vec<Option<&'v str>>, BpeError> {
    let ids = vocab.values().copied().chain(added.iter().map(|token| token.id));
    let size = ids.max().map_or(0, |id| id as usize + 1);
    // Ids far beyond the number of tokens are a fault of the file, not a reason to take all memory.
    if size > 2 * (vocab.len() + added.len()) + 1024 {
        return Err(BpeError::malformed(
            "model.vocab",
            format!("ids up to {} leave holes", size - 1),
        ));
    }
    let mut names: Vec<Option<&str>> = vec![None; size];
    for (token, &id) in vocab {
        if let Some(other) = names[id as usize].replace(token.as_ref()) {
            let problem = format!("id {id} is given to {other:?} and {token:?}");
            return Err(BpeError::malformed("model.vocab", problem));
        }
    }
    let mut taken = FxHashMap::default();
    for token in added {
        if let Some(other) = taken.insert(token.id, &token.content) {
            let problem = format!("id {} is given to {other:?} and {:?}", token.id, token.content);
            return Err(BpeError::malformed("added_tokens", problem));
        }
        names[token.id as usize] = Some(token.content.as_str());
    }
    Ok(names)
}

fn merges(model: &Model<'_>) -> Result<Merges, BpeError> {
    let vocab = &model.vocab.0;
    Merges::check_sizes(vocab.len(), model.merges.len())?;
    let mut merges = Merges::with_capacity(model.merges.len());
    let mut both = String::new();
    for (rank, pair) in model.merges.iter().enumerate() {
        let field = || format!("model.merges[{rank}]");
        let (left, right) =
            pair.parts().ok_or_else(|| BpeError::malformed(field(), "not a pair"))?;
        let id = |token: &str| {
            let missing =
                || BpeError::malformed(field(), format!("{token:?} is not in the vocabulary"));
            vocab.get(token).copied().ok_or_else(missing)
        };
        both.clear();
        both.push_str(left);
        both.push_str(right);
        let rule =
            Rule { rank: rank as u32, left: id(left)?, right: id(right)?, result: id(&both)? };
        if !merges.insert(rule) {
            return Err(BpeError::malformed(field(), "listed twice"));
        }
    }
    Ok(merges)
}

fn byte_level_ids(vocab: &FxHashMap<Cow<'_, str>, u32>) -> Result<[u32; 256], BpeError> {
    let mut ids = [0; 256];
    for byte in 0..=255u8 {
        let name = byte_to_char(byte).to_string();
        ids[usize::from(byte)] = *vocab.get(name.as_str()).ok_or_else(|| {
            BpeError::malformed("model.vocab", format!("no token for byte 0x{byte:02X} ({name:?})"))
        })?;
    }
    Ok(ids)
}

fn fallback_ids(vocab: &FxHashMap<Cow<'_, str>, u32>) -> Result<[u32; 256], BpeError> {
    let mut ids = [0; 256];
    for (byte, id) in ids.iter_mut().enumerate() {
        let name = format!("<0x{byte:02X}>");
        *id = *vocab.get(name.as_str()).ok_or_else(|| {
            BpeError::malformed("model.vocab", format!("byte_fallback without token {name:?}"))
        })?;
    }
    Ok(ids)
}

fn byte_level_piece(name: &str) -> Result<Box<[u8]>, BpeError> {
    let bytes: Option<Vec<u8>> = name.chars().map(char_to_byte).collect();
    let problem = || BpeError::malformed("model.vocab", format!("{name:?} is not byte-level"));
    bytes.map(Into::into).ok_or_else(problem)
}

fn fallback_piece(name: &str) -> Box<[u8]> {
    let hex = name.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => [byte].into(),
        None => name.replace(SPACE_MARK, " ").into_bytes().into(),
    }
}
