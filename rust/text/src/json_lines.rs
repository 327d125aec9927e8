//! JSON lines to the columns that say what a document is, as long as every line is an ordinary one.
//!
//! Ordinary: a JSON object in UTF-8 whose text is a string, of which NUL characters and byte-order marks
//! are removed. Whoever meets another line reads the block again by means that mend or reject it, so what
//! is in doubt here is refused, never guessed.

use memchr::{memchr_iter, memmem};

use crate::identity::write_id;
use crate::json_row::{Found, Row};
use crate::normalise_url;

const MARK: &[u8] = "\u{feff}".as_bytes();

/// A column of strings, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    /// Bytes of all values; each value is valid UTF-8.
    pub bytes: Vec<u8>,
    /// Where each value ends.
    pub ends: Vec<usize>,
    /// Whether there is a value.
    pub present: Vec<bool>,
}

impl Strings {
    fn start(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Where the value of the row that is not closed yet goes, in place of any before it.
    pub(crate) fn again(&mut self) -> &mut Vec<u8> {
        self.bytes.truncate(self.start());
        &mut self.bytes
    }

    /// The value of the row that is not closed yet.
    fn open(&self) -> &[u8] {
        &self.bytes[self.start()..]
    }

    fn close(&mut self, present: bool) {
        if !present {
            self.again();
        }
        self.ends.push(self.bytes.len());
        self.present.push(present);
    }
}

/// What is known of documents, by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// `record_id` of each row.
    pub id: Strings,
    /// The texts; each row has one.
    pub text: Strings,
    /// `source`, where it is a string, or what there is instead of it.
    pub source: Strings,
    /// `url`, where it is a string, normalised if it is an address.
    pub url: Strings,
    /// As `source`.
    pub snapshot: Strings,
}

/// How lines are read.
#[derive(Debug, Clone, Copy)]
pub struct LineReader<'a> {
    /// Keys that can hold the text; the first of them wins.
    pub text_keys: &'a [&'a str],
    /// Source of lines that name none.
    pub source: &'a str,
    /// Snapshot of lines that name none.
    pub snapshot: Option<&'a str>,
    /// Most bytes of a line.
    pub limit: usize,
}

impl LineReader<'_> {
    /// Appends all lines of a block: each that is not blank is a row.
    ///
    /// Of a key that a line repeats, the last value counts, as in most readers of JSON.
    ///
    /// # Errors
    /// There is a line that is no ordinary one, or longer than the limit.
    pub fn append(&self, block: &[u8], documents: &mut Documents) -> Result<(), Unusual> {
        simdutf8::basic::from_utf8(block).map_err(|_| Unusual)?;
        let has_marks = memmem::find(block, MARK).is_some();
        let mut scratch = Vec::new();
        let mut start = 0;
        for end in memchr_iter(b'\n', block).chain([block.len()]) {
            let line = &block[start..end];
            start = end + 1;
            if line.len() > self.limit {
                return Err(Unusual);
            }
            if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
                continue;
            }
            let Documents { id, text, source, url, snapshot } = documents;
            let scratch = &mut scratch;
            let mut row = Row { text_keys: self.text_keys, text, source, url, snapshot, scratch };
            let Found { has_source, has_url, has_snapshot, is_odd } = row.read(line)?;
            if is_odd || (has_marks && memmem::find(text.open(), MARK).is_some()) {
                let given = str::from_utf8(text.open()).map_err(|_| Unusual)?;
                let mended = given.replace(['\0', '\u{feff}'], "");
                text.again().extend_from_slice(mended.as_bytes());
            }
            if !has_source {
                source.again().extend_from_slice(self.source.as_bytes());
            }
            if let (false, Some(given)) = (has_snapshot, self.snapshot) {
                snapshot.again().extend_from_slice(given.as_bytes());
            }
            if has_url
                && let Ok(given) = str::from_utf8(url.open())
                && let Some(normal) = normalise_url(given)
            {
                url.again().extend_from_slice(normal.as_bytes());
            }
            let address = if has_url { url.open() } else { &[] };
            write_id(source.open(), address, text.open(), &mut id.bytes);
            id.close(true);
            text.close(true);
            source.close(true);
            url.close(has_url);
            snapshot.close(has_snapshot || self.snapshot.is_some());
        }
        Ok(())
    }
}

/// A line that needs more than reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is no ordinary record")]
pub struct Unusual;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_id;

    fn read(lines: &[u8], snapshot: Option<&str>) -> Result<Documents, Unusual> {
        let mut documents = Documents::default();
        LineReader { text_keys: &["text", "content"], source: "web", snapshot, limit: 200 }
            .append(lines, &mut documents)
            .map(|()| documents)
    }

    fn values(column: &Strings) -> Vec<Option<&str>> {
        let starts = std::iter::once(0).chain(column.ends.iter().copied());
        let values = starts.zip(&column.ends).map(|(start, &end)| &column.bytes[start..end]);
        let values = values.map(|value| str::from_utf8(value).unwrap());
        values.zip(&column.present).map(|(value, &present)| present.then_some(value)).collect()
    }

    #[test]
    fn columns_of_ordinary_lines() {
        let lines = concat!(
            "{\"text\": \"a\\n\\u00e9\", \"url\": \"HTTP://a.org\", \"n\": [1, {\"text\": \"x\"}, 2e3]}\r\n",
            " \t\r\n",
            "{\"content\": \"b\", \"source\": \"books\", \"source\": 5, \"url\": null}\n",
            "{\"content\": \"no\", \"text\": \"c\", \"content\": \"no\", \"snapshot\": \"2023\"}\n",
            "{\"text\": \"d\", \"source\": \"books\", \"url\": \"no address\"}",
        );
        for snapshot in [None, Some("2022")] {
            let found = read(lines.as_bytes(), snapshot).unwrap();
            assert_eq!(values(&found.text), [Some("a\né"), Some("b"), Some("c"), Some("d")]);
            assert_eq!(
                values(&found.source),
                [Some("web"), Some("web"), Some("web"), Some("books")]
            );
            let urls = [Some("http://a.org/"), None, None, Some("no address")];
            assert_eq!(values(&found.url), urls);
            assert_eq!(values(&found.snapshot), [snapshot, snapshot, Some("2023"), snapshot]);
            let texts = values(&found.text);
            for (row, id) in values(&found.id).into_iter().enumerate() {
                let source = values(&found.source)[row].unwrap();
                let wanted = record_id(source, urls[row].unwrap_or(""), texts[row].unwrap());
                assert_eq!(id, Some(wanted.as_str()));
            }
        }
        assert_eq!(read(b"", None).unwrap(), Documents::default());
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
            "\u{feff}{\"text\": \"x\"}",
            "{\"text\": \"x",
            "\u{c}",
        ] {
            assert_eq!(read(line.as_bytes(), None), Err(Unusual), "{line}");
        }
        let mended = concat!(
            "{\"text\": \"a\\u0000b\"}\n{\"text\": \"\\ufeffc\"}\n{\"text\": \"\u{feff}d\", \"url\": \"\u{feff}\"}\n",
            "{\"text\": \"\\u0000\", \"text\": \"e\", \"n\": \"\u{feff}\\u0000\"}"
        );
        let found = read(mended.as_bytes(), None).unwrap();
        assert_eq!(values(&found.text), ["ab", "c", "d", "e"].map(Some));
        assert_eq!(values(&found.id)[1], Some(record_id("web", "", "c").as_str()));
        let long = format!("{{\"text\": \"{}\"}}", "x".repeat(200));
        assert_eq!(read(long.as_bytes(), None), Err(Unusual));
        assert_eq!(read(b"{\"text\": \"\xff\"}", None), Err(Unusual));
    }
}
