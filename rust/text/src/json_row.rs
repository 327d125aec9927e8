//! One line of JSON, read straight into columns.
//!
//! Strings are by far the most of a line and read by `json_string`. All other values are left to
//! serde_json.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

use crate::json_lines::{Strings, Unusual};
use crate::json_string::string;

/// What is read of a line: the columns of its row, which the caller closes.
pub(crate) struct Row<'a> {
    pub(crate) text_keys: &'a [&'a str],
    pub(crate) text: &'a mut Strings,
    pub(crate) source: &'a mut Strings,
    pub(crate) url: &'a mut Strings,
    pub(crate) snapshot: &'a mut Strings,
    /// For strings that nobody wants.
    pub(crate) scratch: &'a mut Vec<u8>,
}

/// What is there of a row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    pub(crate) has_source: bool,
    pub(crate) has_url: bool,
    pub(crate) has_snapshot: bool,
    /// An escape in the text stands for NUL or a byte-order mark.
    pub(crate) is_odd: bool,
}

/// Keys of a line.
#[derive(Clone, Copy)]
enum Key {
    /// The text, by the place of its name among those it can have.
    Text(usize),
    Source,
    Url,
    Snapshot,
    Other,
}

impl Row<'_> {
    /// Reads a line of valid UTF-8: an object with a string under one of `text_keys`.
    pub(crate) fn read(&mut self, line: &[u8]) -> Result<Found, Unusual> {
        let (mut best, mut found) = (usize::MAX, Found::default());
        let mut at = expect(line, blanks(line, 0), b'{')?;
        at = blanks(line, at);
        let mut more = line.get(at) != Some(&b'}');
        while more {
            at = expect(line, blanks(line, at), b'"')?;
            self.scratch.clear();
            at = string(line, at, self.scratch)?.end;
            let key = self.key();
            at = expect(line, blanks(line, at), b':')?;
            at = blanks(line, at);
            at = match key {
                Key::Text(place) if place <= best => {
                    best = place;
                    let at = expect(line, at, b'"')?;
                    let text = string(line, at, self.text.again())?;
                    found.is_odd = text.is_odd;
                    text.end
                }
                Key::Source => field(line, at, self.source, &mut found.has_source)?,
                Key::Url => field(line, at, self.url, &mut found.has_url)?,
                Key::Snapshot => field(line, at, self.snapshot, &mut found.has_snapshot)?,
                Key::Text(_) | Key::Other if line.get(at) == Some(&b'"') => {
                    self.scratch.clear();
                    string(line, at + 1, self.scratch)?.end
                }
                Key::Text(_) | Key::Other => other(line, at)?,
            };
            at = blanks(line, at);
            more = line.get(at) == Some(&b',');
            at += usize::from(more);
        }
        at = expect(line, at, b'}')?;
        let whole = best != usize::MAX && blanks(line, at) == line.len();
        if whole { Ok(found) } else { Err(Unusual) }
    }

    fn key(&self) -> Key {
        let name = self.scratch.as_slice();
        match (self.text_keys.iter().position(|key| key.as_bytes() == name), name) {
            (Some(place), _) => Key::Text(place),
            (None, b"source") => Key::Source,
            (None, b"url") => Key::Url,
            (None, b"snapshot") => Key::Snapshot,
            (None, _) => Key::Other,
        }
    }
}

/// A value that counts where it is a string.
fn field(
    line: &[u8],
    at: usize,
    column: &mut Strings,
    present: &mut bool,
) -> Result<usize, Unusual> {
    *present = line.get(at) == Some(&b'"');
    if *present { Ok(string(line, at + 1, column.again())?.end) } else { other(line, at) }
}

fn blanks(line: &[u8], at: usize) -> usize {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    at + line[at..].iter().take_while(blank).count()
}

fn expect(line: &[u8], at: usize, byte: u8) -> Result<usize, Unusual> {
    if line.get(at) == Some(&byte) { Ok(at + 1) } else { Err(Unusual) }
}

/// The end of a value that is no string.
fn other(line: &[u8], at: usize) -> Result<usize, Unusual> {
    let mut values = serde_json::Deserializer::from_slice(&line[at..]).into_iter::<Strict>();
    match values.next() {
        Some(Ok(Strict)) => Ok(at + values.byte_offset()),
        _ => Err(Unusual),
    }
}

/// Any value, read strictly: its strings and numbers must make sense.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Result<String, Unusual> {
        let mut columns: [Strings; 4] = Default::default();
        let [text, source, url, snapshot] = &mut columns;
        let scratch = &mut Vec::new();
        Row { text_keys: &["text"], text, source, url, snapshot, scratch }
            .read(line.as_bytes())
            .map(|_| String::from_utf8(columns[0].bytes.clone()).unwrap())
    }

    /// What serde_json makes of it.
    fn reference(line: &str) -> Result<String, Unusual> {
        let value: serde_json::Value = serde_json::from_str(line).map_err(|_| Unusual)?;
        value.get("text").and_then(|text| text.as_str()).map(str::to_owned).ok_or(Unusual)
    }

    #[test]
    fn strings_are_what_serde_json_reads() {
        // Every piece at every offset within a block, and pieces beside each other.
        let pieces = [
            "",
            "a",
            "é",
            "快",
            "😀",
            "\\n",
            "\\\"",
            "\\\\",
            "\\/",
            "\\b\\f\\t\\r",
            "\\u00e9",
            "\\u5feb",
            "\\uD83D\\uDE00",
            "\\ud83d",
            "\\ude00",
            "\\ud83d\\n",
            "\\ud83d\\u0041",
            "\\ud83dx",
            "\\u12",
            "\\u12g4",
            "\\u+123",
            "\\x",
            "\\",
            "\t",
            "\u{1f}",
            "\u{7f}",
            "\\u0000",
            "\\ufeff",
            "\"",
            "\",\"n\":[1,\"x\"]",
            "\",\"n\":\"\\ud800",
            "\", \"text\" :\t\"",
        ];
        for before in (0..36).chain(60..68) {
            for one in pieces {
                for two in pieces {
                    let line = format!("{{\"text\":\"{}{one}{two}\"}}", "x".repeat(before));
                    assert_eq!(text(&line), reference(&line), "{line}");
                }
            }
        }
    }

    #[test]
    fn structure_is_what_serde_json_reads() {
        let text_ = "\"text\": \"t\"";
        for line in [
            "{}",
            "{",
            "",
            " ",
            "{,}",
            "null",
            "{\"text\"}",
            "{\"text\":}",
            "{\"text\" \"t\"}",
            "{text: \"t\"}",
            "{'text': 't'}",
            "{\"text\": t}",
            &format!("{{{text_}}}"),
            &format!(" {{ {text_} }}\r"),
            &format!("{{{text_},}}"),
            &format!("{{{text_}"),
            &format!("{{{text_}}} x"),
            &format!("{{{text_}}}}}"),
            &format!("{{{text_} {text_}}}"),
            &format!("{{,{text_}}}"),
            &format!("{{\"n\": 1 ,{text_}}}"),
            &format!("{{\"n\": 1.5e3,{text_}}}"),
            &format!("{{\"n\": -,{text_}}}"),
            &format!("{{\"n\": 01,{text_}}}"),
            &format!("{{\"n\": 1e999,{text_}}}"),
            &format!("{{\"n\": truex,{text_}}}"),
            &format!("{{\"n\": true,{text_}}}"),
            &format!("{{\"n\": null{text_}}}"),
            &format!("{{\"n\": [1, {{\"text\": \"u\"}}, []],{text_}}}"),
            &format!("{{\"n\": [1 2],{text_}}}"),
            &format!("{{\"n\": [\"\\ud800\"],{text_}}}"),
            &format!("{{\"n\": {{\"a\": }},{text_}}}"),
        ] {
            assert_eq!(text(line), reference(line), "{line}");
        }
    }
}
