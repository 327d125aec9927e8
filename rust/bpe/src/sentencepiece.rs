//! SentencePiece `.model` files of the BPE kind with byte fallback.
//!
//! The format is a protocol buffer (google/sentencepiece, sentencepiece_model.proto); the few fields
//! that decide ids are read here. A piece's score is its priority: two neighbours join if their
//! concatenation is a piece, the highest score first, leftmost among equals. User-defined pieces are
//! cut out first and join nothing; control pieces are never made from text.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::characters::{Characters, SPACE_MARK};
use crate::normal::{Change, Lead, Normal};
use crate::special::{AddedToken, Group};
use crate::tokenizer::{Alphabet, Tokenizer};
use crate::{BpeError, Merges, Rule};

/// A field's value.
enum Wire<'f> {
    Number(u64),
    Bytes(&'f [u8]),
    Four([u8; 4]),
    Eight,
}

/// The fields of a message, in order.
struct Fields<'f> {
    rest: &'f [u8],
    name: &'static str,
}

impl<'f> Fields<'f> {
    fn new(rest: &'f [u8], name: &'static str) -> Self {
        Self { rest, name }
    }

    fn truncated(&self) -> BpeError {
        BpeError::malformed(self.name, "the file is cut short or no SentencePiece model")
    }

    fn varint(&mut self) -> Result<u64, BpeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else { return Err(self.truncated()) };
            self.rest = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.truncated())
    }

    fn take(&mut self, length: u64) -> Result<&'f [u8], BpeError> {
        match usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length)) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated()),
        }
    }

    fn next(&mut self) -> Result<Option<(u64, Wire<'f>)>, BpeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Wire::Eight
            }
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Four(self.take(4)?.try_into().unwrap_or_default()),
            _ => return Err(self.truncated()),
        };
        Ok(Some((tag >> 3, value)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Byte,
}

struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

/// What decides ids besides the pieces.
#[derive(Default)]
struct Settings {
    bpe: bool,
    byte_fallback: bool,
    suffix: bool,
    normal: Normal,
}

fn unsupported(field: &str, what: &str, supported: &'static str) -> BpeError {
    BpeError::Unsupported { field: field.into(), what: what.into(), supported }
}

fn piece(message: &[u8], id: usize) -> Result<Piece, BpeError> {
    let mut fields = Fields::new(message, "pieces");
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Wire::Bytes(text)) => {
                let text = std::str::from_utf8(text);
                let text =
                    text.map_err(|_| BpeError::malformed(format!("pieces[{id}]"), "not UTF-8"))?;
                piece.text = text.to_owned();
            }
            (2, Wire::Four(bytes)) => piece.score = f32::from_le_bytes(bytes),
            (3, Wire::Number(kind)) => {
                piece.kind = match kind {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    6 => Kind::Byte,
                    _ => {
                        let what = format!("type {kind} of {:?}", piece.text);
                        let supported = "normal, unknown, control, user-defined and byte pieces";
                        return Err(unsupported(&format!("pieces[{id}]"), &what, supported));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(piece)
}

fn trainer(message: &[u8], settings: &mut Settings) -> Result<(), BpeError> {
    let mut fields = Fields::new(message, "trainer_spec");
    while let Some((number, value)) = fields.next()? {
        if let Wire::Number(value) = value {
            match number {
                3 => settings.bpe = value == 2,
                24 => settings.suffix = value != 0,
                35 => settings.byte_fallback = value != 0,
                _ => {}
            }
        }
    }
    Ok(())
}

fn normalizer(message: &[u8]) -> Result<Normal, BpeError> {
    let mut fields = Fields::new(message, "normalizer_spec");
    let (mut prefix, mut squeeze) = (true, true);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Wire::Bytes(map)) if !map.is_empty() => {
                let what = "a character map (as nmt_nfkc has)";
                return Err(unsupported("normalizer_spec.precompiled_charsmap", what, "identity"));
            }
            (3, Wire::Number(value)) => prefix = value != 0,
            (4, Wire::Number(value)) => squeeze = value != 0,
            (5, Wire::Number(0)) => {
                return Err(unsupported("normalizer_spec.escape_whitespaces", "false", "true"));
            }
            _ => {}
        }
    }
    let changes = if squeeze { vec![Change::Squeeze] } else { Vec::new() };
    Ok(Normal { changes, lead: if prefix { Lead::Always } else { Lead::Never } })
}

fn read(file: &[u8]) -> Result<(Vec<Piece>, Settings), BpeError> {
    let (mut pieces, mut settings) = (Vec::new(), Settings::default());
    settings.normal = normalizer(&[])?;
    let mut fields = Fields::new(file, "model");
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Wire::Bytes(message)) => pieces.push(piece(message, pieces.len())?),
            (2, Wire::Bytes(message)) => trainer(message, &mut settings)?,
            (3, Wire::Bytes(message)) => settings.normal = normalizer(message)?,
            (5, Wire::Bytes(message)) => {
                let mut fields = Fields::new(message, "denormalizer_spec");
                while let Some((number, value)) = fields.next()? {
                    if let (2, Wire::Bytes(&[_, ..])) = (number, value) {
                        return Err(unsupported("denormalizer_spec", "a character map", "none"));
                    }
                }
            }
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(BpeError::malformed("pieces", "none; this is no SentencePiece model"));
    }
    for (field, refused, what, supported) in [
        ("trainer_spec.model_type", !settings.bpe, "another type", "BPE"),
        ("trainer_spec.byte_fallback", !settings.byte_fallback, "false", "true"),
        ("trainer_spec.treat_whitespace_as_suffix", settings.suffix, "true", "false"),
    ] {
        if refused {
            return Err(unsupported(field, what, supported));
        }
    }
    Ok((pieces, settings))
}

impl Tokenizer {
    /// Reads a SentencePiece `.model`.
    ///
    /// # Errors
    /// The file is cut short or contradicts itself, or is not BPE with byte fallback.
    pub fn from_sentencepiece(file: &[u8]) -> Result<Self, BpeError> {
        let (pieces, settings) = read(file)?;
        let mut ids: FxHashMap<&str, u32> = FxHashMap::default();
        let mut byte_ids = [None; 256];
        let (mut controls, mut always) = (Vec::new(), Vec::new());
        let mut seen = FxHashSet::default();
        for (piece, id) in pieces.iter().zip(0..) {
            let field = || format!("pieces[{id}]");
            if !seen.insert(&piece.text) {
                return Err(BpeError::malformed(
                    field(),
                    format!("{:?} is listed twice", piece.text),
                ));
            }
            if piece.text.is_empty() {
                return Err(BpeError::malformed(field(), "empty"));
            }
            match piece.kind {
                Kind::Normal => _ = ids.insert(&piece.text, id),
                Kind::Byte => {
                    let hex =
                        piece.text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                    let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    let byte = byte.ok_or_else(|| {
                        BpeError::malformed(field(), format!("{:?} is no byte", piece.text))
                    })?;
                    byte_ids[usize::from(byte)] = Some(id);
                }
                Kind::Control | Kind::Unknown => {
                    controls.push(AddedToken::control(&piece.text, id))
                }
                Kind::UserDefined => {
                    for content in spellings(&piece.text).ok_or_else(|| {
                        let what = format!("{:?} with many spaces", piece.text);
                        unsupported(&field(), &what, "user-defined pieces with up to 6 spaces")
                    })? {
                        let token = AddedToken::control(content, id);
                        always.push(AddedToken { special: false, ..token });
                    }
                }
            }
        }
        let mut bytes = [0; 256];
        for (byte, (id, found)) in bytes.iter_mut().zip(byte_ids).enumerate() {
            let missing =
                || BpeError::malformed("pieces", format!("no piece for byte <0x{byte:02X}>"));
            *id = found.ok_or_else(missing)?;
        }
        if !ids.contains_key(SPACE_MARK.encode_utf8(&mut [0; 4]) as &str) {
            return Err(BpeError::malformed("pieces", "no piece for the space mark '▁'"));
        }
        let merges = merges(&pieces, &ids)?;
        let vocabulary = ids.iter().map(|(&text, &id)| (text, id));
        let alphabet = Alphabet::Characters(Box::new(Characters::new(vocabulary, bytes)));
        let written = |(piece, id): (&Piece, u32)| -> Box<[u8]> {
            match piece.kind {
                Kind::Byte => match bytes.iter().position(|&byte| byte == id) {
                    Some(byte) => [byte as u8].into(),
                    None => Box::default(),
                },
                Kind::Normal | Kind::UserDefined => {
                    piece.text.replace(SPACE_MARK, " ").into_bytes().into()
                }
                Kind::Control | Kind::Unknown => piece.text.as_bytes().into(),
            }
        };
        Ok(Self {
            strips_space: settings.normal.lead != Lead::Never,
            normal: settings.normal,
            always: Group::new(always)?,
            ..Self::bare(pieces.iter().zip(0..).map(written).collect(), merges, alphabet, controls)
        })
    }
}

/// How a text may spell a user-defined piece: each mark as it is or as a space. A piece with a space
/// is never found, for the reference marks all spaces first. `None`: too many ways.
fn spellings(piece: &str) -> Option<Vec<String>> {
    let marks = piece.matches(SPACE_MARK).count();
    if piece.contains(' ') {
        return Some(Vec::new());
    }
    (marks <= 6).then(|| {
        let spelt = |choice: u32| {
            let mut mark = 0;
            let choose = |c| match c {
                SPACE_MARK => {
                    mark += 1;
                    if choice >> (mark - 1) & 1 == 1 { ' ' } else { SPACE_MARK }
                }
                c => c,
            };
            piece.chars().map(choose).collect()
        };
        (0..1 << marks).map(spelt).collect()
    })
}

/// All ways to join two pieces into a third, those of a higher score first.
fn merges(pieces: &[Piece], ids: &FxHashMap<&str, u32>) -> Result<Merges, BpeError> {
    let mut longer: Vec<(&Piece, u32)> = (pieces.iter().zip(0..))
        .filter(|(piece, _)| piece.kind == Kind::Normal && piece.text.chars().nth(1).is_some())
        .collect();
    longer.sort_by(|a, b| b.0.score.total_cmp(&a.0.score).then(a.1.cmp(&b.1)));
    if let Some(pair) = longer.windows(2).find(|pair| pair[0].0.score == pair[1].0.score) {
        let what = format!("the same score for {:?} and {:?}", pair[0].0.text, pair[1].0.text);
        return Err(unsupported("pieces", &what, "a score of its own for each piece"));
    }
    Merges::check_sizes(pieces.len(), longer.len())?;
    let mut merges = Merges::with_capacity(longer.len() * 2);
    for (rank, &(piece, result)) in (0..).zip(&longer) {
        for (cut, c) in piece.text.char_indices() {
            if !ids.contains_key(c.encode_utf8(&mut [0; 4]) as &str) {
                let problem = format!("{:?} holds {c:?}, which is no piece", piece.text);
                return Err(BpeError::malformed(format!("pieces[{result}]"), problem));
            }
            let (left, right) = piece.text.split_at(cut);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                merges.insert(Rule { rank, left, right, result });
            }
        }
    }
    Ok(merges)
}
