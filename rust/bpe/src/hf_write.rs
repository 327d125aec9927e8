//! Writing `tokenizer.json`.

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::BpeError;
use crate::bytelevel::byte_to_char;
use crate::characters::SPACE_MARK;
use crate::normal::{Change, Lead};
use crate::template::Item;
use crate::tokenizer::{Alphabet, Splitter, Tokenizer};

/// The file's fields, in the reference library's order.
#[derive(Serialize)]
struct File<'t> {
    version: &'t str,
    truncation: (),
    padding: (),
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'t>,
}

#[derive(Serialize)]
struct Model<'t> {
    r#type: &'t str,
    dropout: (),
    unk_token: Option<&'t str>,
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Vocab<'t>,
    merges: Vec<[&'t str; 2]>,
}

/// The name of each id; an empty one is none.
struct Vocab<'t>(&'t [String]);

impl Serialize for Vocab<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(0..).filter(|(name, _)| !name.is_empty()))
    }
}

impl Tokenizer {
    /// Writes a `tokenizer.json` that gives the same ids in the reference library.
    ///
    /// # Errors
    /// Two ids have the same name, or the normalizer has no form there.
    pub fn to_hf(&self) -> Result<String, BpeError> {
        let names = self.names()?;
        let name = |id: u32| names[id as usize].as_str();
        let rules = self.merges.sorted().into_iter();
        // User-defined pieces are found in any text, as added tokens that are not special.
        let added: Vec<Value> = (self.added.iter().chain(self.always.tokens()))
            .map(|t| {
                json!({"id": t.id, "content": t.content, "single_word": t.single_word,
                       "lstrip": t.lstrip, "rstrip": t.rstrip, "normalized": t.normalized,
                       "special": t.special})
            })
            .collect();
        let bytes = matches!(self.alphabet, Alphabet::Bytes(_));
        let file = File {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: added,
            normalizer: self.normalizer()?,
            pre_tokenizer: self.pre_tokenizer(),
            post_processor: self.post_processor(),
            decoder: self.decoder(),
            model: Model {
                r#type: "BPE",
                dropout: (),
                unk_token: names.first().map(String::as_str).filter(|_| !bytes),
                continuing_subword_prefix: (),
                end_of_word_suffix: (),
                fuse_unk: !bytes,
                byte_fallback: !bytes,
                ignore_merges: self.whole_first,
                vocab: Vocab(&names),
                merges: rules.map(|rule| [name(rule.left), name(rule.right)]).collect(),
            },
        };
        let written = serde_json::to_string_pretty(&file);
        written
            .map(|text| text + "\n")
            .map_err(|error| BpeError::malformed("file", error.to_string()))
    }

    /// The written form of each id; empty for ids that are none.
    fn names(&self) -> Result<Vec<String>, BpeError> {
        let added: FxHashMap<u32, &str> = (self.added.iter().chain(self.always.tokens()))
            .map(|token| (token.id, token.content.as_str()))
            .collect();
        let mut seen = FxHashMap::default();
        let mut names = Vec::with_capacity(self.pieces.len());
        for (id, piece) in (0..).zip(self.pieces.iter()) {
            let name = match (added.get(&id), &self.alphabet) {
                (Some(name), _) => (*name).to_owned(),
                (None, Alphabet::Bytes(_)) => {
                    piece.iter().map(|&byte| byte_to_char(byte)).collect()
                }
                (None, Alphabet::Characters(characters)) => match characters.byte_of(id) {
                    Some(byte) => format!("<0x{byte:02X}>"),
                    None => String::from_utf8_lossy(piece)
                        .replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4])),
                },
            };
            if let Some(other) = seen.insert(name.clone(), id).filter(|_| !name.is_empty()) {
                let problem = format!("ids {other} and {id} are both {name:?}");
                return Err(BpeError::malformed("model.vocab", problem));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn normalizer(&self) -> Result<Value, BpeError> {
        let mut steps = Vec::new();
        for change in &self.normal.changes {
            steps.push(match change {
                Change::Nfc => json!({"type": "NFC"}),
                Change::Replace(from, to) => {
                    json!({"type": "Replace", "pattern": {"String": from}, "content": to})
                }
                Change::Squeeze => {
                    return Err(BpeError::Unsupported {
                        field: "normalizer".into(),
                        what: "removal of extra white space".into(),
                        supported: "writing normalizers without it",
                    });
                }
            });
        }
        if let Alphabet::Characters(_) = self.alphabet {
            if self.normal.lead == Lead::Always {
                steps.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
            }
            steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
        }
        Ok(match steps.len() {
            0 => Value::Null,
            1 => steps.swap_remove(0),
            _ => json!({"type": "Sequence", "normalizers": steps}),
        })
    }

    fn pre_tokenizer(&self) -> Value {
        let Alphabet::Bytes(bytes) = &self.alphabet else {
            let scheme = match self.normal.lead {
                Lead::Never | Lead::Always | Lead::Blank => return Value::Null,
                Lead::First => "first",
                Lead::Missing => "always",
            };
            return json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
        };
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let mut steps: Vec<Value> = match &bytes.splitter {
            Splitter::Known(pattern) => vec![split(pattern.regex())],
            Splitter::Regexes(regexes) => regexes.sources().map(split).collect(),
        };
        if self.normal.lead != Lead::Never {
            // Read from a ByteLevel that stood alone, so that is what it is again.
            let by_regex = matches!(bytes.splitter, Splitter::Known(_));
            return json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": by_regex});
        }
        steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}));
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    fn post_processor(&self) -> Value {
        let template = self.template();
        if template.single == [Item::First] {
            return Value::Null;
        }
        let mut special = Map::new();
        let mut side = |items: &[Item]| {
            let mut second = false;
            let mut written = Vec::new();
            for item in items {
                let kind = u8::from(second);
                match item {
                    Item::First => written.push(json!({"Sequence": {"id": "A", "type_id": 0}})),
                    Item::Second => {
                        second = true;
                        written.push(json!({"Sequence": {"id": "B", "type_id": 1}}));
                    }
                    Item::Ids(ids) => {
                        for &id in ids {
                            let name = String::from_utf8_lossy(&self.pieces[id]).into_owned();
                            written.push(json!({"SpecialToken": {"id": name, "type_id": kind}}));
                            special.insert(
                                name.clone(),
                                json!({"id": name, "ids": [id], "tokens": [name]}),
                            );
                        }
                    }
                }
            }
            written
        };
        let (single, pair) = (side(&template.single), side(&template.pair));
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special})
    }

    fn decoder(&self) -> Value {
        if let Alphabet::Bytes(_) = self.alphabet {
            return json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        }
        let mut steps = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.strips_space {
            steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": steps})
    }
}
