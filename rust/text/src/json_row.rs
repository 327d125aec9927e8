//! One line of JSON, read straight into columns.
//!
//! Strings are by far the most of a line, so they are read here, sixteen bytes at a time. All other
//! values are left to serde_json.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

use crate::json_lines::{Strings, Unusual};

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

/// A string that was read.
struct Text {
    /// Where the line goes on behind it.
    end: usize,
    /// An escape stands for NUL or a byte-order mark.
    is_odd: bool,
}

/// Appends the string that begins at `at`, behind its quote.
fn string(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<Text, Unusual> {
    let mut is_odd = false;
    loop {
        at += append_plain(&line[at..], out) + 1;
        match line.get(at - 1) {
            Some(b'"') => return Ok(Text { end: at, is_odd }),
            Some(b'\\') => {}
            _ => return Err(Unusual),
        }
        let simple = match line.get(at) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'u') => {
                let c;
                (c, at) = escaped(line, at + 1)?;
                is_odd |= matches!(c, '\0' | '\u{feff}');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(Unusual),
        };
        out.push(simple);
        at += 1;
    }
}

/// The character of `\uXXXX` or of two halves of it, from the first digit on, and what follows it.
fn escaped(line: &[u8], at: usize) -> Result<(char, usize), Unusual> {
    let unit = |at: usize| {
        let digits = line.get(at..at + 4).ok_or(Unusual)?;
        let digit = |&byte: &u8| char::from(byte).to_digit(16).ok_or(Unusual);
        digits.iter().try_fold(0, |unit, byte| Ok(unit << 4 | digit(byte)?))
    };
    let first = unit(at)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, at + 4));
    }
    if line.get(at + 4..at + 6) != Some(b"\\u") {
        return Err(Unusual);
    }
    let second = unit(at + 6)?;
    if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
        return Err(Unusual);
    }
    let code = 0x1_0000 + ((first - 0xD800) << 10 | (second - 0xDC00));
    Ok((char::from_u32(code).ok_or(Unusual)?, at + 10))
}

const fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Appends the bytes that stand for themselves before a quote, a backslash or a control character;
/// returns how many they are.
#[inline(always)]
fn append_plain(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    #[cfg(target_arch = "x86_64")]
    while let Some(block) = bytes[at..].first_chunk::<16>() {
        let special = special(block);
        // All sixteen are written, and those that count are then said to be there: most runs are short,
        // and a copy of a length that is known takes one instruction.
        let length = out.len();
        out.extend_from_slice(block);
        if special != 0 {
            let count = special.trailing_zeros() as usize;
            out.truncate(length + count);
            return at + count;
        }
        at += 16;
    }
    let rest = bytes[at..].iter().take_while(|&&byte| is_plain(byte)).count();
    out.extend_from_slice(&bytes[at..at + rest]);
    at + rest
}

/// One bit a byte that is not plain, the first byte lowest.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn special(block: &[u8; 16]) -> u32 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86-64, and `block` holds the 16 bytes that are loaded.
    unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), control)) as u32
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
        for before in 0..36 {
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
