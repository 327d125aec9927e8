//! JSON lines to the columns that say what a document is, as long as every line is an ordinary one.
//!
//! Ordinary: a JSON object in UTF-8 whose text is a string without NUL characters and byte-order
//! marks. Whoever meets another line reads the block again by means that mend or reject it, so what
//! is in doubt here is refused, never guessed.

use std::fmt;

use memchr::{memchr, memchr_iter, memmem};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

/// A column of strings, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    /// Bytes of all values.
    pub bytes: String,
    /// Where each value ends.
    pub ends: Vec<usize>,
    /// Whether there is a value.
    pub present: Vec<bool>,
}

impl Strings {
    fn start(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Puts a value in the row that is not closed yet, in place of any before it.
    fn put(&mut self, value: &str) {
        self.bytes.truncate(self.start());
        self.bytes.push_str(value);
    }

    fn close(&mut self, present: bool) {
        if !present {
            self.bytes.truncate(self.start());
        }
        self.ends.push(self.bytes.len());
        self.present.push(present);
    }
}

/// What is known of documents, by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// The texts; each row has one.
    pub text: Strings,
    /// `source`, where it is a string; so the others.
    pub source: Strings,
    /// `url`.
    pub url: Strings,
    /// `snapshot`.
    pub snapshot: Strings,
}

/// Reads all lines of a block: each that is not blank is a row.
///
/// Of a key that a line repeats, the last value counts, as in most readers of JSON.
///
/// # Errors
/// There is a line that is no ordinary one, or longer than `limit` bytes.
pub fn documents(block: &[u8], text_keys: &[&str], limit: usize) -> Result<Documents, Unusual> {
    let block = str::from_utf8(block).map_err(|_| Unusual)?;
    let mut documents = Documents::default();
    documents.text.bytes.reserve(block.len());
    let mut start = 0;
    for end in memchr_iter(b'\n', block.as_bytes()).chain([block.len()]) {
        let line = &block[start..end];
        start = end + 1;
        if line.len() > limit {
            return Err(Unusual);
        }
        if line.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            continue;
        }
        let mut reader = serde_json::Deserializer::from_str(line);
        let row = Row { documents: &mut documents, text_keys };
        (&mut reader).deserialize_map(row).and_then(|()| reader.end()).map_err(|_| Unusual)?;
        let text = &documents.text.bytes.as_bytes()[documents.text.start()..];
        if memchr(0, text).is_some() || memmem::find(text, "\u{feff}".as_bytes()).is_some() {
            return Err(Unusual);
        }
        documents.text.close(true);
    }
    Ok(documents)
}

/// A line that needs more than reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is no ordinary record")]
pub struct Unusual;

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

struct Row<'a, 'k> {
    documents: &'a mut Documents,
    text_keys: &'a [&'k str],
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Documents { text, source, url, snapshot } = self.documents;
        let (mut best, mut has) = (usize::MAX, [false; 3]);
        while let Some(key) = map.next_key_seed(Name(self.text_keys))? {
            let mut field = |column: &mut Strings, has: &mut bool| {
                *has = map.next_value_seed(Value(Some(column)))?;
                Ok(())
            };
            match key {
                Key::Text(place) if place <= best => {
                    best = place;
                    let mut is_string = false;
                    field(text, &mut is_string)?;
                    if !is_string {
                        return Err(A::Error::invalid_type(
                            Unexpected::Other("value"),
                            &"a string",
                        ));
                    }
                }
                Key::Source => field(source, &mut has[0])?,
                Key::Url => field(url, &mut has[1])?,
                Key::Snapshot => field(snapshot, &mut has[2])?,
                Key::Text(_) | Key::Other => {
                    map.next_value_seed(Value(None))?;
                }
            }
        }
        if best == usize::MAX {
            return Err(A::Error::missing_field("text"));
        }
        for (column, has) in [source, url, snapshot].into_iter().zip(has) {
            column.close(has);
        }
        Ok(())
    }
}

/// What a key is.
struct Name<'a, 'k>(&'a [&'k str]);

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Key, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(match (self.0.iter().position(|&key| key == name), name) {
            (Some(place), _) => Key::Text(place),
            (None, "source") => Key::Source,
            (None, "url") => Key::Url,
            (None, "snapshot") => Key::Snapshot,
            (None, _) => Key::Other,
        })
    }
}

/// A value, which is read as strictly whether it is wanted or not; true if it is a string. It goes
/// into the column, if there is one.
struct Value<'a>(Option<&'a mut Strings>);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        if let Some(column) = self.0 {
            column.put(value);
        }
        Ok(true)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<bool, A::Error> {
        while values.next_element_seed(Value(None))?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Value(None))?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<Documents, Unusual> {
        documents(lines.as_bytes(), &["text", "content"], 200)
    }

    fn values(column: &Strings) -> Vec<Option<&str>> {
        let starts = std::iter::once(0).chain(column.ends.iter().copied());
        let values = starts.zip(&column.ends).map(|(start, &end)| &column.bytes[start..end]);
        values.zip(&column.present).map(|(value, &present)| present.then_some(value)).collect()
    }

    #[test]
    fn columns_of_ordinary_lines() {
        let lines = concat!(
            "{\"text\": \"a\\n\\u00e9\", \"url\": \"u\", \"n\": [1, {\"text\": \"x\"}, 2.5e3]}\r\n",
            " \t\r\n",
            "{\"content\": \"b\", \"source\": \"books\", \"source\": 5, \"url\": null}\n",
            "{\"content\": \"no\", \"text\": \"c\", \"content\": \"no\", \"snapshot\": \"2023\"}",
        );
        let found = read(lines).unwrap();
        assert_eq!(values(&found.text), [Some("a\né"), Some("b"), Some("c")]);
        assert_eq!(values(&found.source), [None; 3]);
        assert_eq!(values(&found.url), [Some("u"), None, None]);
        assert_eq!(values(&found.snapshot), [None, None, Some("2023")]);
        assert_eq!(read("").unwrap(), Documents::default());
    }

    #[test]
    fn what_is_in_doubt_is_refused() {
        for line in [
            "[1]",
            "{\"text\": 5}",
            "{\"text\": null, \"content\": \"x\"}",
            "{\"body\": \"x\"}",
            "{\"text\": \"x\"} y",
            "{\"text\": \"x\", \"n\": NaN}",
            "{\"text\": \"x\", \"n\": 1e999}",
            "{\"text\": \"x\", \"n\": \"\\ud800\"}",
            "{\"text\": \"x\\u0000\"}",
            "{\"text\": \"\\ufeffx\"}",
            "\u{feff}{\"text\": \"x\"}",
            "{\"text\": \"x",
            "\u{c}",
        ] {
            assert_eq!(read(line), Err(Unusual), "{line}");
        }
        let long = format!("{{\"text\": \"{}\"}}", "x".repeat(200));
        assert_eq!(read(&long), Err(Unusual));
        assert_eq!(documents(b"{\"text\": \"\xff\"}", &["text"], 200), Err(Unusual));
    }
}
