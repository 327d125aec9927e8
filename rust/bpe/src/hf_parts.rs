//! The parts of a `tokenizer.json` around its model: what each does, or that it is not known.

use serde_json::Value;

use crate::normal::{Change, Lead, Normal};
use crate::regexes::Regexes;
use crate::template::{Item, Template};
use crate::tokenizer::Splitter;
use crate::{BpeError, Pattern};

const MARK: &str = "\u{2581}";

pub(crate) fn unsupported(
    field: &str,
    what: impl Into<String>,
    supported: &'static str,
) -> BpeError {
    BpeError::Unsupported { field: field.into(), what: what.into(), supported }
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

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// What happens to text first, and whether spaces become the mark.
pub(crate) fn normalizer(value: &Value) -> Result<(Normal, bool), BpeError> {
    const SUPPORTED: &str = "NFC, Prepend '▁', Replace of one string by another";
    let (mut normal, mut marks) = (Normal::default(), false);
    for step in steps(value, "normalizers") {
        let (from, to) = (text(step, "/pattern/String"), text(step, "/content"));
        match (kind(step), from, to) {
            // Spaces are marked on the fly, so that must be the last change.
            (other, ..) if marks => {
                return Err(unsupported(
                    "normalizer",
                    format!("{other} after the space mark"),
                    SUPPORTED,
                ));
            }
            ("NFC", ..) => normal.changes.push(Change::Nfc),
            ("Replace", Some(" "), Some(MARK)) => marks = true,
            ("Replace", Some(from), Some(to)) if !from.is_empty() => {
                normal.changes.push(Change::Replace(from.into(), to.into()));
            }
            ("Prepend", ..)
                if text(step, "/prepend") == Some(MARK) && normal.changes.is_empty() =>
            {
                normal.lead = Lead::Always;
            }
            (other, ..) => return Err(unsupported("normalizer", other, SUPPORTED)),
        }
    }
    if normal.lead != Lead::Never && !marks {
        return Err(unsupported("normalizer", "Prepend '▁' without Replace ' ' by '▁'", SUPPORTED));
    }
    Ok((normal, marks))
}

/// How a pre-tokenizer cuts.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    /// `None` for vocabularies over characters, which are not cut.
    pub(crate) splitter: Option<Splitter>,
    pub(crate) lead: Lead,
    pub(crate) marks_spaces: bool,
}

pub(crate) fn pre_tokenizer(value: &Value, marks_spaces: bool) -> Result<Cut, BpeError> {
    const SUPPORTED: &str =
        "null, Metaspace that does not split, or ByteLevel after Split (Isolated) and Digits";
    let mut cut = Cut { marks_spaces, ..Cut::default() };
    let (mut sources, mut byte_level, mut others) = (Vec::new(), false, 0);
    for step in steps(value, "pretokenizers") {
        let flag = |name: &str| step.get(name).and_then(Value::as_bool);
        let refused = |what: &str| {
            unsupported("pre_tokenizer", format!("{} with {what}", kind(step)), SUPPORTED)
        };
        match kind(step) {
            _ if byte_level => {
                return Err(unsupported(
                    "pre_tokenizer",
                    format!("{} after ByteLevel", kind(step)),
                    SUPPORTED,
                ));
            }
            "Split" => {
                let (behavior, literal) = (text(step, "/behavior"), text(step, "/pattern/String"));
                if marks_spaces && literal == Some(" ") {
                    // All spaces are marks by now, so there is none to cut at.
                    others += 1;
                    continue;
                }
                if behavior != Some("Isolated") || flag("invert") == Some(true) {
                    return Err(unsupported(
                        "pre_tokenizer.behavior",
                        behavior.unwrap_or("none"),
                        SUPPORTED,
                    ));
                }
                let source = match (text(step, "/pattern/Regex"), literal) {
                    (Some(regex), _) => regex.to_owned(),
                    (None, Some(literal)) if !literal.is_empty() => regex_syntax::escape(literal),
                    _ => return Err(unsupported("pre_tokenizer.pattern", "no pattern", SUPPORTED)),
                };
                sources.push(source);
            }
            "Digits" => sources.push(
                if flag("individual_digits") == Some(true) { r"\p{N}" } else { r"\p{N}+" }.into(),
            ),
            "ByteLevel" => {
                // Absent means true in the reference library.
                if flag("add_prefix_space").unwrap_or(true) {
                    if !sources.is_empty() {
                        return Err(refused("add_prefix_space after another step"));
                    }
                    cut.lead = Lead::Blank;
                }
                if flag("use_regex").unwrap_or(true) {
                    sources.push(Pattern::Gpt2.regex().into());
                }
                byte_level = true;
            }
            "Metaspace" => {
                others += 1;
                if flag("split") != Some(false) {
                    return Err(refused("split"));
                }
                if text(step, "/replacement") != Some(MARK) {
                    return Err(refused("another replacement than '▁'"));
                }
                cut.marks_spaces = true;
                cut.lead = match text(step, "/prepend_scheme") {
                    Some("never") => Lead::Never,
                    Some("first") => Lead::First,
                    Some("always") => Lead::Missing,
                    other => return Err(refused(&format!("prepend_scheme {other:?}"))),
                };
            }
            other => return Err(unsupported("pre_tokenizer", other, SUPPORTED)),
        }
    }
    if byte_level && others == 0 && !marks_spaces {
        cut.splitter = Some(splitter(&sources)?);
    } else if byte_level || !sources.is_empty() {
        let what = "a pattern without ByteLevel, or ByteLevel with a space mark";
        return Err(unsupported("pre_tokenizer", what, SUPPORTED));
    }
    Ok(cut)
}

fn splitter(sources: &[String]) -> Result<Splitter, BpeError> {
    if let [source] = sources
        && let Some(known) = Pattern::from_regex(source)
    {
        return Ok(Splitter::Known(known));
    }
    let mut regexes = Regexes::default();
    for source in sources {
        let supported = "what both engines read alike: see the guide to the tokenizer";
        let refused = |what: String| unsupported("pre_tokenizer.pattern", what, supported);
        regexes.push(source).map_err(refused)?;
    }
    Ok(Splitter::Regexes(regexes))
}

/// What is put around texts.
pub(crate) fn template(value: &Value) -> Result<Template, BpeError> {
    let mut template = Template::default();
    for step in steps(value, "processors") {
        match kind(step) {
            "ByteLevel" => {}
            "TemplateProcessing" => {
                template = Template { single: items(step, "single")?, pair: items(step, "pair")? };
            }
            other => {
                let supported = "TemplateProcessing, ByteLevel";
                return Err(unsupported("post_processor", other, supported));
            }
        }
    }
    Ok(template)
}

fn items(step: &Value, side: &str) -> Result<Vec<Item>, BpeError> {
    let field = format!("post_processor.{side}");
    let mut items = Vec::new();
    for item in step.get(side).and_then(Value::as_array).into_iter().flatten() {
        items.push(match (text(item, "/SpecialToken/id"), text(item, "/Sequence/id")) {
            (Some(name), _) => {
                let ids =
                    step.get("special_tokens").and_then(|tokens| tokens.get(name)?.get("ids"));
                let ids = ids.and_then(Value::as_array).ok_or_else(|| {
                    BpeError::malformed(&field, format!("{name:?} is not in special_tokens"))
                })?;
                let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
                let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
                Item::Ids(ids.ok_or_else(|| {
                    BpeError::malformed(&field, format!("{name:?} has ids that are none"))
                })?)
            }
            (None, Some("A")) => Item::First,
            (None, Some("B")) => Item::Second,
            _ => return Err(BpeError::malformed(&field, format!("{item} is no template item"))),
        });
    }
    Ok(items)
}

/// Whether the decoder drops one leading space. What it does else is what decoding bytes does.
pub(crate) fn decoder(value: &Value, bytes: bool) -> Result<bool, BpeError> {
    const SUPPORTED: &str =
        "ByteLevel; or Replace '▁' by ' ', ByteFallback, Fuse, Strip of one space, Metaspace";
    let mut strips = false;
    for step in steps(value, "decoders") {
        let number = |name: &str| step.get(name).and_then(Value::as_u64);
        match kind(step) {
            "ByteLevel" if bytes => {}
            "ByteFallback" | "Fuse" if !bytes => {}
            "Replace"
                if !bytes
                    && text(step, "/pattern/String") == Some(MARK)
                    && text(step, "/content") == Some(" ") => {}
            "Strip"
                if !bytes
                    && text(step, "/content") == Some(" ")
                    && number("start") <= Some(1)
                    && number("stop") == Some(0) =>
            {
                strips = number("start") == Some(1);
            }
            "Metaspace" if !bytes => strips = text(step, "/prepend_scheme") != Some("never"),
            other => return Err(unsupported("decoder", other, SUPPORTED)),
        }
    }
    Ok(strips)
}
