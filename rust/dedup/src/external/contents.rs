//! What documents are compared by, on disk: written by range of documents, read part by part.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;

use rustc_hash::FxHashMap;

use super::Work;
use super::grouping::{Grouping, NONE};
use super::records::{Content, Record as _};
use super::runs::{Run, RunWriter};
use crate::documents::{Documents, Scratch};
use crate::{DedupError, Shingler};

/// Where a document's content is.
#[derive(Debug, Clone, Copy)]
enum Lies {
    InMemory(usize),
    InFile(u32, u64),
}

/// One document of a part.
#[derive(Debug, Clone, Copy)]
struct Entry {
    root: u32,
    place: u32,
    code: bool,
    length: usize,
    lies: Lies,
}

/// The documents of a part; its rows are sorted by group, then by keep order.
pub(crate) struct Part {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    files: Vec<PathBuf>,
    fixed: u32,
    /// The first failure to read a document; decisions made after it are void.
    failure: Mutex<Option<DedupError>>,
}

impl Part {
    /// Reads a part; of a large group only where its documents lie.
    pub(crate) fn read(
        work: &Work,
        grouping: &Grouping,
        contents: &[Run<Content>],
        part: usize,
    ) -> Result<Self, DedupError> {
        let large = grouping.large[part];
        let slots = part..part + 1;
        let size: u64 = contents.iter().map(|run| run.bytes(slots.clone())).sum();
        let mut bytes = Vec::with_capacity(if large { 0 } else { size as usize });
        let (mut entries, mut files) = (Vec::new(), Vec::new());
        let mut enter = |place: u32, code, length, lies| {
            let root = grouping.root[place as usize];
            entries.push(Entry { root, place, code, length, lies });
        };
        for run in contents.iter().filter(|run| run.bytes(slots.clone()) > 0) {
            if large {
                let mut records = run.read(slots.clone(), 64 << 10)?;
                loop {
                    let start = records.position() + Content::HEAD as u64;
                    let Some(Content { place, code, bytes }) = records.next()? else { break };
                    enter(place, code, bytes.len(), Lies::InFile(files.len() as u32, start));
                }
            } else {
                let mut start = bytes.len();
                run.read_bytes(slots.clone(), &mut bytes)?;
                while start < bytes.len() {
                    let head = Content::take_head(&bytes[start..]);
                    let (place, code, length) = head.ok_or_else(|| run.cut_short())?;
                    start += Content::HEAD;
                    enter(place, code, length, Lies::InMemory(start));
                    start += length;
                }
                if start != bytes.len() {
                    return Err(run.cut_short());
                }
            }
            files.push(run.path.clone());
        }
        entries.sort_unstable_by_key(|entry| (entry.root, entry.place));
        Ok(Self { entries, bytes, files, fixed: work.fixed, failure: Mutex::new(None) })
    }

    /// Rows of each group.
    pub(crate) fn groups(&self) -> Vec<Vec<u32>> {
        let mut row = 0;
        let of_group = |group: &[Entry]| {
            let rows = (row..row + group.len() as u32).collect();
            row += group.len() as u32;
            rows
        };
        self.entries.chunk_by(|one, two| one.root == two.root).map(of_group).collect()
    }

    /// Rows by place.
    pub(crate) fn rows(&self) -> FxHashMap<u32, u32> {
        self.entries.iter().zip(0..).map(|(entry, row)| (entry.place, row)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn place(&self, row: u32) -> u32 {
        self.entries[row as usize].place
    }

    /// The first failure to read a document.
    pub(crate) fn failure(&self) -> Result<(), DedupError> {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.take().map_or(Ok(()), Err)
    }

    fn content<'b>(&'b self, row: u32, scratch: &'b mut Scratch) -> &'b [u8] {
        let entry = &self.entries[row as usize];
        match entry.lies {
            Lies::InMemory(start) => &self.bytes[start..start + entry.length],
            Lies::InFile(file, start) => {
                scratch.bytes.clear();
                scratch.bytes.resize(entry.length, 0);
                let path = &self.files[file as usize];
                // Opened each time: there may be more files than a process may hold open.
                let read =
                    File::open(path).and_then(|file| file.read_exact_at(&mut scratch.bytes, start));
                if let Err(source) = read {
                    self.fail(DedupError::File { path: path.clone(), source });
                }
                &scratch.bytes
            }
        }
    }

    fn fail(&self, error: DedupError) {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.get_or_insert(error);
    }
}

impl Documents for Part {
    fn length(&self, row: u32) -> usize {
        self.entries[row as usize].length
    }

    fn shingles(&self, row: u32) -> usize {
        self.entries[row as usize].length / 6
    }

    fn feed(
        &self,
        row: u32,
        shingler: &mut Shingler,
        scratch: &mut Scratch,
        shingles: &mut Vec<u64>,
    ) {
        match std::str::from_utf8(self.content(row, scratch)) {
            Ok(text) => shingler.feed(text, self.entries[row as usize].code, shingles),
            Err(error) => self.fail(DedupError::Damaged {
                path: self.files.first().cloned().unwrap_or_default(),
                what: format!("a text is not what was written ({error})"),
            }),
        }
    }

    fn signature(&self, row: u32, scratch: &mut Scratch, signature: &mut Vec<u32>) {
        signature.clear();
        let slots = self.content(row, scratch).chunks_exact(4);
        signature.extend(slots.map(|slot| u32::from_le_bytes(slot.try_into().unwrap_or_default())));
    }

    fn is_fixed(&self, row: u32) -> bool {
        self.entries[row as usize].place < self.fixed
    }
}

impl Work {
    pub(crate) fn content_file(&self, first: u32) -> PathBuf {
        self.folder.join(format!("content-{first:010}.run"))
    }

    /// Writes what of some documents, from `first` on, is compared.
    pub(crate) fn write_contents(
        &self,
        grouping: &Grouping,
        first: u32,
        texts: &[Option<&str>],
        code: &[bool],
    ) -> Result<(), DedupError> {
        let places = &grouping.place[first as usize..first as usize + texts.len()];
        let mut wanted: Vec<(u32, u32, u32)> = places
            .iter()
            .zip(0..)
            .map(|(&place, row)| (grouping.part[place as usize], place, row))
            .filter(|&(part, ..)| part != NONE)
            .collect();
        wanted.sort_unstable();
        let path = self.content_file(first);
        let mut writer = RunWriter::new(path, grouping.large.len(), self.group_tag())?;
        for (part, place, row) in wanted {
            let text = texts[row as usize].unwrap_or("").as_bytes();
            let code = code.get(row as usize).copied().unwrap_or(false);
            writer.push_with(part as usize, |bytes| {
                Content::put_head(place, code, text.len(), bytes);
                bytes.extend_from_slice(text);
            })?;
        }
        writer.finish()
    }

    /// The same for all signatures.
    pub(crate) fn write_signatures(&self, grouping: &Grouping) -> Result<(), DedupError> {
        for chunk in self.chunks() {
            let Some(run) = &chunk.signatures else { continue };
            if Run::<Content>::verified(self.content_file(chunk.first), self.group_tag())?.is_some()
            {
                continue;
            }
            let (mut wanted, mut records) = (Vec::new(), run.all()?);
            while let Some(content) = records.next()? {
                // A signature's record has its document where others have their place.
                let place = grouping.place[(chunk.first + content.place) as usize];
                let part = grouping.part[place as usize];
                if part != NONE {
                    wanted.push((part, Content { place, ..content }));
                }
            }
            wanted.sort_unstable();
            let path = self.content_file(chunk.first);
            let mut writer = RunWriter::new(path, grouping.large.len(), self.group_tag())?;
            for (part, content) in wanted {
                writer.push_with(part as usize, |bytes| content.put(bytes))?;
            }
            writer.finish()?;
        }
        Ok(())
    }
}
