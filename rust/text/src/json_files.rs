//! JSON lines of a part of a file: several threads read one file, each from its own place on.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use memchr::{memchr, memrchr};

use crate::{Documents, LineReader, Unusual};

/// Bytes that are read at once: they stay in the cache of a core until they are taken apart.
const CHUNK: usize = 1 << 18;

/// Lines of a part of a file.
#[derive(Debug, Default)]
pub struct FilePart {
    /// Their documents.
    pub documents: Documents,
    /// From the begin of the first line to that of the first one that was not read: one of another
    /// part, or one without an end. `None` if no line begins in this part.
    pub lines: Option<Range<u64>>,
}

/// Reads the lines that begin in `range`, whole lines alone.
///
/// `buffer` is only kept for its memory. A part that `is_first` begins with a line, the others
/// wherever they were cut.
///
/// # Errors
/// There is a line that is no ordinary one, or the file can't be read.
pub fn read_part(
    file: &File,
    range: Range<u64>,
    is_first: bool,
    reader: &LineReader<'_>,
    buffer: &mut Vec<u8>,
) -> Result<FilePart, Unusual> {
    let mut part = FilePart::default();
    // A line begins behind a line end, which may be the last byte of the part before.
    let mut at = if is_first { range.start } else { range.start - 1 };
    let mut in_line = is_first;
    let (mut held, mut documents, mut begin) = (0, Documents::default(), at);
    documents.text.bytes.reserve((range.end - range.start) as usize);
    loop {
        buffer.resize((held + CHUNK).max(buffer.len()), 0);
        // Where the bytes that are held lie.
        let start = at - held as u64;
        let count = file.read_at(&mut buffer[held..held + CHUNK], at).map_err(|_| Unusual)?;
        let mut block = &buffer[..held + count];
        at += count as u64;
        let mut skipped = 0;
        if !in_line {
            // No line is held yet.
            let first = memchr(b'\n', block).map(|place| place + 1);
            match first.filter(|&first| start + (first as u64) < range.end) {
                Some(first) => {
                    skipped = first;
                    begin = start + first as u64;
                }
                None if count == 0 || at >= range.end => return Ok(part),
                None => continue,
            }
            in_line = true;
        }
        block = &block[skipped..];
        let start = start + skipped as u64;
        // The line that ends at or behind the last byte of the part is its last.
        let last = range.end.saturating_sub(start + 1) as usize;
        let past = block.get(last..).and_then(|rest| memchr(b'\n', rest)).map(|end| last + end + 1);
        let is_last = past.is_some() || count == 0;
        let whole = past.or_else(|| memrchr(b'\n', block).map(|end| end + 1)).unwrap_or(0);
        reader.append(&block[..whole], &mut documents)?;
        if is_last {
            part.documents = documents;
            part.lines = Some(begin..start + whole as u64);
            return Ok(part);
        }
        held = block.len() - whole;
        if held > reader.limit {
            return Err(Unusual);
        }
        buffer.copy_within(skipped + whole..skipped + whole + held, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_wherever_it_is_cut() {
        let folder = std::env::temp_dir().join(format!("json-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.jsonl");
        let reader =
            LineReader { text_keys: &["text"], source: "web", snapshot: None, limit: 1 << 20 };
        let line = |length: usize| format!("{{\"text\": \"{}\"}}\n", "x".repeat(length));
        let lengths = [0, 5, 40, 1, 3 * CHUNK, 2, CHUNK, 7];
        let short: String =
            lengths.iter().filter(|&&length| length < 99).map(|&n| line(n)).collect();
        let long: String = lengths.iter().map(|&n| line(n)).collect();
        for tail in ["", "{\"text\": \"no end"] {
            for (text, step) in [(&short, 1), (&long, 29_989)] {
                std::fs::write(&path, format!("{text}{tail}")).unwrap();
                let file = File::open(&path).unwrap();
                let (mut whole, size) = (Documents::default(), (text.len() + tail.len()) as u64);
                reader.append(text.as_bytes(), &mut whole).unwrap();
                for cut in (1..size).step_by(step) {
                    let mut buffer = Vec::new();
                    let one = read_part(&file, 0..cut, true, &reader, &mut buffer).unwrap();
                    let two = read_part(&file, cut..size, false, &reader, &mut buffer).unwrap();
                    let first = one.lines.clone().unwrap();
                    assert_eq!(first.start, 0);
                    assert!(two.lines.as_ref().is_none_or(|lines| lines.start == first.end));
                    assert_eq!(two.lines.clone().unwrap_or(first).end, text.len() as u64, "{cut}");
                    let rows = [&one, &two].map(|part| part.documents.id.bytes.clone()).concat();
                    assert_eq!(rows, whole.id.bytes, "{cut}");
                }
            }
        }
        let limited = LineReader { limit: 100, ..reader };
        let file = File::open(&path).unwrap();
        assert!(read_part(&file, 0..9, true, &limited, &mut Vec::new()).is_ok());
        assert!(read_part(&file, 0..1 << 20, true, &limited, &mut Vec::new()).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
