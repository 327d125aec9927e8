//! Added tokens of `tokenizer.json` and of `tokenizer_config.json`.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::BpeError;
use crate::hf::HfOptions;
use crate::names::Names;
use crate::special::AddedToken;
use crate::tokenizer::Tokenizer;

/// An added token as both files write it.
#[derive(Deserialize)]
pub(crate) struct FileToken {
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

/// Refuses ids and names that contradict each other or the vocabulary.
pub(crate) fn check_added(added: &[AddedToken], vocab: &Names<'_>) -> Result<(), BpeError> {
    let wrong = |problem: String| Err(BpeError::malformed("added_tokens", problem));
    let mut taken = FxHashMap::default();
    for AddedToken { id, content, .. } in added {
        if let Some(other) = taken.insert(*id, content) {
            return wrong(format!("id {id} is given to {other:?} and {content:?}"));
        }
        if let Some(Some(other)) = vocab.by_id().get(*id as usize)
            && other != content
        {
            return wrong(format!("{content:?} has id {id}, which model.vocab gives to {other:?}"));
        }
        if let Some(other) = vocab.get(content).filter(|other| other != id) {
            return wrong(format!("{content:?} has id {id}, in model.vocab it has {other}"));
        }
    }
    check_names("added_tokens", added)
}

/// Refuses an empty name and one that two ids have.
fn check_names(field: &str, tokens: &[AddedToken]) -> Result<(), BpeError> {
    let mut names = FxHashSet::default();
    for AddedToken { id, content, .. } in tokens {
        if content.is_empty() {
            return Err(BpeError::malformed(field, format!("id {id} has no name")));
        }
        if !names.insert(content) {
            return Err(BpeError::malformed(field, format!("{content:?} is listed twice")));
        }
    }
    Ok(())
}

impl Tokenizer {
    /// Gives ids the names of a `tokenizer_config.json`'s `added_tokens_decoder`.
    ///
    /// # Errors
    /// Broken JSON, an id outside the vocabulary, or a name given twice.
    pub fn overlay_config(&mut self, json: &str, options: HfOptions) -> Result<(), BpeError> {
        const FILE: &str = "tokenizer_config.json";
        const FIELD: &str = "added_tokens_decoder";
        let config: Value = serde_json::from_str(json)
            .map_err(|error| BpeError::malformed(FILE, error.to_string()))?;
        let Some(config) = config.as_object() else {
            return Err(BpeError::malformed(FILE, "is no object"));
        };
        let names = match config.get(FIELD) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(names)) => names,
            Some(_) => return Err(BpeError::malformed(FIELD, "is no object")),
        };
        let mut tokens = Vec::new();
        for (id, value) in names {
            let field = format!("{FIELD}.{id}");
            let mut value = value.clone();
            let number: u32 = id.parse().map_err(|_| BpeError::malformed(&field, "not an id"))?;
            if let Some(entry) = value.as_object_mut() {
                entry.insert("id".into(), json!(number));
            }
            let token: FileToken = serde_json::from_value(value)
                .map_err(|error| BpeError::malformed(&field, error.to_string()))?;
            tokens.push(token.into());
        }
        check_names(FIELD, &tokens)?;
        self.overlay(&tokens, options.parity)
    }
}
