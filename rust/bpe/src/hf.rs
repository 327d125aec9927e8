//! Hugging Face `tokenizer.json`, of the BPE kinds that are known; anything else is refused by name.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bytelevel::{byte_to_char, char_to_byte};
use crate::characters::{Characters, SPACE_MARK};
use crate::special::AddedToken;
use crate::tokenizer::{Alphabet, Tokenizer};
use crate::{BpeError, Merges, Pattern, Rule};

/// How to load a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct HfOptions {
    /// Let text merge into control tokens as the reference library does (`<s>` of InternLM2).
    pub parity: bool,
}

#[derive(Deserialize)]
struct File {
    model: Model,
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
struct Model {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    vocab: FxHashMap<String, u32>,
    merges: Vec<Pair>,
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
}

/// Old files write `"a b"`, new ones `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pair {
    Joined(String),
    Two(String, String),
}

impl Pair {
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
}

impl From<FileToken> for AddedToken {
    fn from(token: FileToken) -> Self {
        let FileToken { id, content, special, lstrip, rstrip, single_word } = token;
        Self { content, id, special, lstrip, rstrip, single_word }
    }
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("null")
}

/// The members of a `Sequence`, or the value alone; nothing for null.
fn steps<'v>(value: &'v Value, members: &str) -> Vec<&'v Value> {
    match kind(value) {
        "null" => Vec::new(),
        "Sequence" => value.get(members).and_then(Value::as_array).into_iter().flatten().collect(),
        _ => vec![value],
    }
}

fn unsupported(field: &str, what: impl Into<String>, supported: &'static str) -> BpeError {
    BpeError::Unsupported { field: field.into(), what: what.into(), supported }
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
        let (nfc, marks_spaces) = normalizer(&file.normalizer)?;
        let pattern = pre_tokenizer(&file.pre_tokenizer)?;
        let added: Vec<AddedToken> = file.added_tokens.into_iter().map(Into::into).collect();
        let names = strings_by_id(&file.model.vocab, &added)?;
        let merges = merges(&file.model)?;
        let alphabet = match pattern {
            Some(pattern) => Alphabet::bytes(pattern, byte_level_ids(&file.model.vocab)?),
            None if file.model.byte_fallback && marks_spaces => {
                let vocabulary = file.model.vocab.iter().map(|(token, &id)| (token.as_str(), id));
                let byte_ids = fallback_ids(&file.model.vocab)?;
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
            nfc,
            added: Vec::new(),
            prefix: prefix(&file.post_processor),
            strips_space: steps(&file.decoder, "decoders").iter().any(|step| kind(step) == "Strip"),
            ascii_ranks: Default::default(),
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

    /// Writes a `tokenizer.json` that gives the same ids in the reference library.
    ///
    /// # Errors
    /// The tokenizer is over characters, which has no writer yet.
    pub fn to_hf(&self) -> Result<String, BpeError> {
        let Some(pattern) = self.pattern() else {
            return Err(unsupported("save", "a vocabulary over characters", "byte-level"));
        };
        let is_added = |id: usize| self.added.iter().find(|token| token.id as usize == id);
        let name = |id: usize| match is_added(id) {
            Some(token) => token.content.clone(),
            None => self.pieces[id].iter().map(|&byte| byte_to_char(byte)).collect::<String>(),
        };
        let mut vocab = serde_json::Map::new();
        for id in 0..self.pieces.len() {
            vocab.insert(name(id), json!(id));
        }
        let merges: Vec<Value> = (self.merges.sorted().into_iter())
            .map(|rule| json!([name(rule.left as usize), name(rule.right as usize)]))
            .collect();
        let added: Vec<Value> = (self.added.iter())
            .map(|t| {
                json!({"id": t.id, "content": t.content, "single_word": t.single_word,
                       "lstrip": t.lstrip, "rstrip": t.rstrip, "normalized": false, "special": t.special})
            })
            .collect();
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                                "trim_offsets": false, "use_regex": false});
        let split = json!({"type": "Split", "pattern": {"Regex": pattern.regex()},
                           "behavior": "Isolated", "invert": false});
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added,
            "normalizer": if self.nfc { json!({"type": "NFC"}) } else { Value::Null },
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": null,
            "decoder": byte_level,
            "model": {"type": "BPE", "dropout": null, "unk_token": null,
                      "continuing_subword_prefix": null, "end_of_word_suffix": null,
                      "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": vocab, "merges": merges},
        });
        Ok(format!("{file:#}\n"))
    }
}

fn check_model(model: &Model) -> Result<(), BpeError> {
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
    if model.ignore_merges {
        return Err(unsupported("model.ignore_merges", "true", "false"));
    }
    Ok(())
}

/// Whether to apply NFC, and whether spaces become the mark.
fn normalizer(value: &Value) -> Result<(bool, bool), BpeError> {
    let (mut nfc, mut marks) = (false, false);
    for step in steps(value, "normalizers") {
        let pattern = step.pointer("/pattern/String").and_then(Value::as_str);
        let content = step.get("content").and_then(Value::as_str);
        match kind(step) {
            "NFC" => nfc = true,
            "Replace" if pattern == Some(" ") && content == Some("\u{2581}") => marks = true,
            other => {
                return Err(unsupported("normalizer", other, "NFC, Replace ' ' by '▁'"));
            }
        }
    }
    Ok((nfc, marks))
}

fn pre_tokenizer(value: &Value) -> Result<Option<Pattern>, BpeError> {
    const SUPPORTED: &str =
        "null, ByteLevel, or Split (Isolated) by a known pattern then ByteLevel";
    let (mut pattern, mut byte_level) = (None, false);
    for step in steps(value, "pretokenizers") {
        let flag = |name| step.get(name).and_then(Value::as_bool).unwrap_or(false);
        match kind(step) {
            "Split" if pattern.is_none() && !byte_level => {
                let regex = step.pointer("/pattern/Regex").and_then(Value::as_str).unwrap_or("");
                let isolated = step.get("behavior").and_then(Value::as_str) == Some("Isolated");
                if !isolated || flag("invert") {
                    return Err(unsupported("pre_tokenizer.behavior", "not Isolated", SUPPORTED));
                }
                let known = Pattern::from_regex(regex);
                let problem = || unsupported("pre_tokenizer.pattern", regex, SUPPORTED);
                pattern = Some(known.ok_or_else(problem)?);
            }
            "ByteLevel" if !byte_level => {
                if flag("add_prefix_space") {
                    return Err(unsupported("pre_tokenizer.add_prefix_space", "true", "false"));
                }
                // Absent means true in the reference library.
                if step.get("use_regex").and_then(Value::as_bool).unwrap_or(true) {
                    if pattern.is_some() {
                        return Err(unsupported("pre_tokenizer", "two patterns", SUPPORTED));
                    }
                    pattern = Some(Pattern::Gpt2);
                }
                byte_level = true;
            }
            other => return Err(unsupported("pre_tokenizer", other, SUPPORTED)),
        }
    }
    match (pattern, byte_level) {
        (None, false) => Ok(None),
        (Some(pattern), true) => Ok(Some(pattern)),
        _ => Err(unsupported(
            "pre_tokenizer",
            "a pattern without ByteLevel, or the reverse",
            SUPPORTED,
        )),
    }
}

/// Ids that the template puts before a single text.
fn prefix(value: &Value) -> Vec<u32> {
    let mut ids = Vec::new();
    for step in steps(value, "processors") {
        for item in step.get("single").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = item.pointer("/SpecialToken/id").and_then(Value::as_str) else {
                break;
            };
            let listed = step.get("special_tokens").and_then(|tokens| tokens.get(name));
            let listed = listed.and_then(|token| token.get("ids")).and_then(Value::as_array);
            ids.extend(listed.into_iter().flatten().filter_map(Value::as_u64).map(|id| id as u32));
        }
    }
    ids
}

fn strings_by_id<'v>(
    vocab: &'v FxHashMap<String, u32>,
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
    let mut names = vec![None; size];
    for (token, &id) in vocab {
        if let Some(other) = names[id as usize].replace(token.as_str()) {
            let problem = format!("id {id} is given to {other:?} and {token:?}");
            return Err(BpeError::malformed("model.vocab", problem));
        }
    }
    for token in added {
        names[token.id as usize] = Some(token.content.as_str());
    }
    Ok(names)
}

fn merges(model: &Model) -> Result<Merges, BpeError> {
    Merges::check_sizes(model.vocab.len(), model.merges.len())?;
    let mut merges = Merges::with_capacity(model.merges.len());
    for (rank, pair) in model.merges.iter().enumerate() {
        let field = || format!("model.merges[{rank}]");
        let (left, right) =
            pair.parts().ok_or_else(|| BpeError::malformed(field(), "not a pair"))?;
        let id = |token: &str| {
            let missing =
                || BpeError::malformed(field(), format!("{token:?} is not in the vocabulary"));
            model.vocab.get(token).copied().ok_or_else(missing)
        };
        let rule = Rule {
            rank: rank as u32,
            left: id(left)?,
            right: id(right)?,
            result: id(&format!("{left}{right}"))?,
        };
        if !merges.insert(rule) {
            return Err(BpeError::malformed(field(), "listed twice"));
        }
    }
    Ok(merges)
}

fn byte_level_ids(vocab: &FxHashMap<String, u32>) -> Result<[u32; 256], BpeError> {
    let mut ids = [0; 256];
    for byte in 0..=255u8 {
        let name = byte_to_char(byte).to_string();
        ids[usize::from(byte)] = *vocab.get(&name).ok_or_else(|| {
            BpeError::malformed("model.vocab", format!("no token for byte 0x{byte:02X} ({name:?})"))
        })?;
    }
    Ok(ids)
}

fn fallback_ids(vocab: &FxHashMap<String, u32>) -> Result<[u32; 256], BpeError> {
    let mut ids = [0; 256];
    for (byte, id) in ids.iter_mut().enumerate() {
        let name = format!("<0x{byte:02X}>");
        *id = *vocab.get(&name).ok_or_else(|| {
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
