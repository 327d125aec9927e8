//! Hugging Face `tokenizer.json`, of the BPE kinds that are known; anything else is refused by name.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use rustc_hash::FxHashSet;
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::bytelevel::{byte_to_char, char_to_byte};
use crate::characters::{Characters, MARK, MARK_TEXT, SPACE_MARK};
use crate::hf_added::{FileToken, check_added};
use crate::hf_parts::{decoder, normalizer, pre_tokenizer, template, unsupported};
use crate::names::{Key, Names};
use crate::special::AddedToken;
use crate::store::Pieces;
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

/// Token → id, in the order of the file.
struct Vocab<'j>(Vec<(Cow<'j, str>, u32)>);

impl<'de: 'j, 'j> Deserialize<'de> for Vocab<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocab<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of token to id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::with_capacity(1 << 16);
                while let Some((Text(token), id)) = map.next_entry::<Text<'de>, u32>()? {
                    tokens.push((token, id));
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

/// Left and right of a merge. Old files write `"a b"`, new ones `["a", "b"]`.
enum Pair<'j> {
    Borrowed(&'j str, &'j str),
    /// With an escape in one of them.
    Owned(Box<(String, String)>),
}

impl<'j> Pair<'j> {
    fn new(left: Cow<'j, str>, right: Cow<'j, str>) -> Self {
        match (left, right) {
            (Cow::Borrowed(left), Cow::Borrowed(right)) => Self::Borrowed(left, right),
            (left, right) => Self::Owned(Box::new((left.into_owned(), right.into_owned()))),
        }
    }

    fn parts(&self) -> (&str, &str) {
        match self {
            Self::Borrowed(left, right) => (left, right),
            Self::Owned(both) => (&both.0, &both.1),
        }
    }
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
                let space = text.as_bytes().iter().position(|&byte| byte == b' ');
                let space = space.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
                Ok(Pair::Borrowed(&text[..space], &text[space + 1..]))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let parts = text.split_once(' ');
                let (left, right) =
                    parts.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
                Ok(Pair::Owned(Box::new((left.to_owned(), right.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let missing = |_| A::Error::invalid_length(2, &"two parts");
                let mut part = || parts.next_element::<Text<'de>>()?.ok_or(()).map_err(missing);
                let (left, right) = (part()?.0, part()?.0);
                match parts.next_element::<Text<'de>>()? {
                    None => Ok(Pair::new(left, right)),
                    Some(_) => Err(A::Error::invalid_length(3, &"two parts")),
                }
            }
        }
        deserializer.deserialize_any(Parts)
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
        let vocab = &Names::new(json, file.model.vocab.0, added.len())?;
        check_added(&added, vocab)?;
        let merges = merges(vocab, &file.model.merges)?;
        let alphabet = match cut.splitter {
            Some(splitter) => Alphabet::bytes(splitter, byte_level_ids(vocab)?),
            None if file.model.byte_fallback && cut.marks_spaces => {
                let byte_ids = fallback_ids(vocab)?;
                if vocab.get(SPACE_MARK.encode_utf8(&mut [0; 4])).is_none() {
                    return Err(BpeError::malformed(
                        "model.vocab",
                        "no token for the space mark '▁'",
                    ));
                }
                Alphabet::Characters(Box::new(Characters::new(vocab.iter(), byte_ids)))
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
        if let (Alphabet::Characters(_), true) = (&alphabet, file.model.ignore_merges) {
            // The whole text would be looked up, but it is cut where no token crosses.
            let supported = "false without a pre_tokenizer";
            return Err(unsupported("model.ignore_merges", "true", supported));
        }
        let marked =
            |token: &&AddedToken| token.normalized && token.content.contains([' ', SPACE_MARK]);
        if let (Alphabet::Characters(_), Some(token)) = (&alphabet, added.iter().find(marked)) {
            let what = format!("{:?}, normalized and with a space,", token.content);
            return Err(unsupported("added_tokens", what, "normalized tokens without spaces"));
        }
        let pieces = pieces(vocab, &added, matches!(alphabet, Alphabet::Bytes(_)))?;
        // The merges stand in order, so the first one with a space is known at once.
        let space = |pair: &(&str, &str)| pair.0 == MARK_TEXT || pair.1 == MARK_TEXT;
        let first = file.model.merges.iter().map(Pair::parts).find(space);
        let pairs_spaces = OnceLock::from(first == Some((MARK_TEXT, MARK_TEXT)));
        let mut tokenizer = Self {
            pairs_spaces,
            normal,
            whole_first: file.model.ignore_merges,
            template: template(&file.post_processor)?,
            strips_space,
            ..Self::bare(pieces, merges, alphabet, Vec::new())
        };
        tokenizer.overlay(&added, options.parity)?;
        Ok(tokenizer)
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

/// The bytes of each id; added tokens are what their names spell.
fn pieces(vocab: &Names<'_>, added: &[AddedToken], bytes: bool) -> Result<Pieces, BpeError> {
    let names = vocab.by_id();
    let most = added.iter().map(|token| token.id as usize + 1).chain([names.len()]).max();
    let size = most.unwrap_or(0);
    if size > 2 * (vocab.len() + added.len()) + 1024 {
        let problem = format!("ids up to {} leave holes", size - 1);
        return Err(BpeError::malformed("added_tokens", problem));
    }
    let is_added: FxHashSet<u32> = added.iter().map(|token| token.id).collect();
    let mut pieces = Pieces::with_capacity(size, size * 8);
    for (name, id) in names.iter().zip(0..) {
        pieces.push_with(|out| match name {
            Some(name) if !is_added.contains(&id) => match bytes {
                true => byte_level_piece(name, out),
                false => {
                    fallback_piece(name, out);
                    Ok(())
                }
            },
            _ => Ok(()),
        })?;
    }
    for token in added {
        pieces.set(token.id, token.content.as_bytes());
    }
    Ok(pieces)
}

/// How many merges are looked up together: what one asks for arrives while others are asked for.
const TOGETHER: usize = 64;

fn merges(vocab: &Names<'_>, pairs: &[Pair<'_>]) -> Result<Merges, BpeError> {
    Merges::check_sizes(vocab.by_id().len(), pairs.len())?;
    let mut merges = Merges::with_capacity(pairs.len());
    let (mut rank, mut before, mut last) = (0, ("", ""), 0);
    for some in pairs.chunks(TOGETHER) {
        let mut keys: [Option<([Key; 2], Option<Key>)>; TOGETHER] = [None; TOGETHER];
        for (place, pair) in keys.iter_mut().zip(some) {
            let (left, right) = pair.parts();
            let two = [vocab.key(left), vocab.key(right)];
            // Often several merges in a row make one token: it is looked for once.
            let again = same_together(before, (left, right));
            let result = (!again).then(|| vocab.key_of_two(left, right));
            two.iter().chain(&result).for_each(|&key| vocab.prefetch(key));
            *place = Some((two, result));
            before = (left, right);
        }
        let mut rules = [None; TOGETHER];
        for ((place, pair), keys) in rules.iter_mut().zip(some).zip(keys.iter().flatten()) {
            let (left, right) = pair.parts();
            let ids = [
                find(vocab, keys.0[0], rank, || left.into())?,
                find(vocab, keys.0[1], rank, || right.into())?,
            ];
            if let Some(key) = keys.1 {
                last = find(vocab, key, rank, || [left, right].concat().into())?;
            }
            let rule = Rule { rank, left: ids[0], right: ids[1], result: last };
            merges.prefetch_pair(rule.left, rule.right);
            *place = Some(rule);
            rank += 1;
        }
        for rule in rules.into_iter().flatten() {
            if !merges.insert(rule) {
                let field = format!("model.merges[{}]", rule.rank);
                return Err(BpeError::malformed(field, "listed twice"));
            }
        }
    }
    Ok(merges)
}

/// Whether two pairs are the same string when put together.
fn same_together(one: (&str, &str), other: (&str, &str)) -> bool {
    if one.0.len() + one.1.len() != other.0.len() + other.1.len() {
        return false;
    }
    let (shorter, longer) = if one.0.len() < other.0.len() { (one, other) } else { (other, one) };
    let Some(between) = longer.0.as_bytes().strip_prefix(shorter.0.as_bytes()) else {
        return false;
    };
    shorter.1.as_bytes().strip_prefix(between) == Some(longer.1.as_bytes())
}

#[inline(always)]
fn find<'t>(
    vocab: &Names<'_>,
    key: Key,
    rank: u32,
    token: impl Fn() -> Cow<'t, str>,
) -> Result<u32, BpeError> {
    vocab.find(key, &token).ok_or_else(|| {
        let problem = format!("{:?} is not in the vocabulary", token());
        BpeError::malformed(format!("model.merges[{rank}]"), problem)
    })
}

fn byte_level_ids(vocab: &Names<'_>) -> Result<[u32; 256], BpeError> {
    let mut ids = [0; 256];
    for byte in 0..=255u8 {
        let name = byte_to_char(byte).to_string();
        ids[usize::from(byte)] = vocab.get(&name).ok_or_else(|| {
            BpeError::malformed("model.vocab", format!("no token for byte 0x{byte:02X} ({name:?})"))
        })?;
    }
    Ok(ids)
}

fn fallback_ids(vocab: &Names<'_>) -> Result<[u32; 256], BpeError> {
    let mut ids = [0; 256];
    for (byte, id) in ids.iter_mut().enumerate() {
        let name = format!("<0x{byte:02X}>");
        *id = vocab.get(&name).ok_or_else(|| {
            BpeError::malformed("model.vocab", format!("byte_fallback without token {name:?}"))
        })?;
    }
    Ok(ids)
}

fn byte_level_piece(name: &str, out: &mut Vec<u8>) -> Result<(), BpeError> {
    for c in name.chars() {
        let problem = || BpeError::malformed("model.vocab", format!("{name:?} is not byte-level"));
        out.push(char_to_byte(c).ok_or_else(problem)?);
    }
    Ok(())
}

fn fallback_piece(name: &str, out: &mut Vec<u8>) {
    let hex = name.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => out.push(byte),
        None => {
            let mut rest = name.as_bytes();
            while let Some(at) = rest.iter().position(|&byte| byte == MARK[0]) {
                out.extend_from_slice(&rest[..at]);
                rest = &rest[at..];
                let (space, after) = match rest.strip_prefix(MARK) {
                    Some(after) => (b' ', after),
                    None => (MARK[0], &rest[1..]),
                };
                out.push(space);
                rest = after;
            }
            out.extend_from_slice(rest);
        }
    }
}
