//! Run files: sorted records, an index by slot, and a footer that tells a whole file from a torn one.
//!
//! Layout: records; then slots + 1 offsets of 64 bits, where each slot's records begin and the last
//! one's end; then the footer, eight 64-bit numbers: magic, tag, slots, records, bytes of records,
//! two notes of the writer's, and the xxh3 of everything before. All little-endian. A file is
//! written beside and takes its name when it is whole; it is not synced, for a file that a power
//! cut tears is found by its checksum and made again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::records::Record;
use crate::DedupError;

/// First number of a footer; its last digits are the version of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"icrun001");

const FOOTER: usize = 64;

/// Bytes written or read at a time where nothing else is said.
const BLOCK: usize = 256 << 10;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DedupError + '_ {
    |source| DedupError::File { path: path.to_owned(), source }
}

/// Writes a run file; dropped before `finish` it leaves nothing.
pub(crate) struct RunWriter {
    path: PathBuf,
    partial: PathBuf,
    file: Option<File>,
    tag: u64,
    slots: usize,
    index: Vec<u64>,
    records: u64,
    written: u64,
    buffer: Vec<u8>,
    checksum: Xxh3,
    notes: [u64; 2],
    synced: bool,
}

impl RunWriter {
    pub(crate) fn new(path: PathBuf, slots: usize, tag: u64) -> Result<Self, DedupError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".partial-{}-{name}", std::process::id()));
        let file = File::create(&partial).map_err(failed(&path))?;
        Ok(Self {
            path,
            partial,
            file: Some(file),
            tag,
            slots,
            index: vec![0],
            records: 0,
            written: 0,
            buffer: Vec::with_capacity(BLOCK + 64),
            checksum: Xxh3::new(),
            notes: [0; 2],
            synced: false,
        })
    }

    /// Appends a record; slots come in order.
    pub(crate) fn push(&mut self, record: &impl Record, slot: usize) -> Result<(), DedupError> {
        self.push_with(slot, |bytes| record.put(bytes))
    }

    /// As `push` for a record that `put` appends.
    pub(crate) fn push_with(
        &mut self,
        slot: usize,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), DedupError> {
        let at = self.written + self.buffer.len() as u64;
        while self.index.len() <= slot {
            self.index.push(at);
        }
        put(&mut self.buffer);
        self.records += 1;
        if self.buffer.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    pub(crate) fn note(&mut self, notes: [u64; 2]) {
        self.notes = notes;
    }

    fn flush(&mut self) -> Result<(), DedupError> {
        self.checksum.update(&self.buffer);
        if let Some(file) = &mut self.file {
            file.write_all(&self.buffer).map_err(failed(&self.path))?;
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// As `finish`, for a file that is to outlive a power cut.
    pub(crate) fn finish_synced(mut self) -> Result<(), DedupError> {
        self.synced = true;
        self.finish()
    }

    /// Makes the file whole and gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), DedupError> {
        self.flush()?;
        let payload = self.written;
        while self.index.len() <= self.slots {
            self.index.push(payload);
        }
        for offset in std::mem::take(&mut self.index) {
            self.buffer.extend(offset.to_le_bytes());
        }
        let footer = [MAGIC, self.tag, self.slots as u64, self.records, payload];
        for number in footer.into_iter().chain(self.notes) {
            self.buffer.extend(number.to_le_bytes());
        }
        self.flush()?;
        let checksum = self.checksum.digest().to_le_bytes();
        if let Some(mut file) = self.file.take() {
            file.write_all(&checksum).map_err(failed(&self.path))?;
            if self.synced {
                file.sync_all().map_err(failed(&self.path))?;
            }
        }
        fs::rename(&self.partial, &self.path).map_err(failed(&self.path))
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A whole run file of records `R`.
#[derive(Debug, Clone)]
pub(crate) struct Run<R> {
    pub(crate) path: PathBuf,
    pub(crate) records: u64,
    pub(crate) notes: [u64; 2],
    index: Vec<u64>,
    /// Number of its first document.
    base: u32,
    kind: PhantomData<fn() -> R>,
}

impl<R: Record> Run<R> {
    /// Opens a run file and checks its length and footer; `None` where there is none.
    pub(crate) fn open(path: PathBuf, tag: u64) -> Result<Option<Self>, DedupError> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path)(error)),
        };
        let damaged = |what: &str| DedupError::Damaged { path: path.clone(), what: what.into() };
        let length = file.metadata().map_err(failed(&path))?.len();
        let torn = || damaged("the file is cut short or was never finished");
        let end = length.checked_sub(FOOTER as u64).ok_or_else(torn)?;
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, end).map_err(failed(&path))?;
        let number =
            |at: usize| u64::from_le_bytes(footer[8 * at..][..8].try_into().unwrap_or_default());
        if number(0) != MAGIC {
            return Err(torn());
        }
        if number(1) != tag {
            return Err(damaged("the file was made with other settings or from other documents"));
        }
        let (slots, records, payload) = (number(2), number(3), number(4));
        let offsets = slots.checked_add(1).and_then(|slots| slots.checked_mul(8));
        if offsets.and_then(|offsets| offsets.checked_add(payload)) != Some(end) {
            return Err(torn());
        }
        let mut bytes = vec![0; 8 * (slots as usize + 1)];
        file.read_exact_at(&mut bytes, payload).map_err(failed(&path))?;
        let index: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
            .collect();
        if !index.is_sorted() || index.last().is_some_and(|&last| last > payload) {
            return Err(damaged("its index is damaged"));
        }
        let notes = [number(5), number(6)];
        Ok(Some(Self { path, records, notes, index, base: 0, kind: PhantomData }))
    }

    /// As `open`, the checksum too; a file that is not whole counts as none.
    pub(crate) fn verified(path: PathBuf, tag: u64) -> Result<Option<Self>, DedupError> {
        match Self::open(path, tag).and_then(|run| run.map(Self::check).transpose()) {
            Err(DedupError::Damaged { .. }) => Ok(None),
            other => other,
        }
    }

    /// Compares the checksum with the bytes.
    pub(crate) fn check(self) -> Result<Self, DedupError> {
        let file = File::open(&self.path).map_err(failed(&self.path))?;
        let length = file.metadata().map_err(failed(&self.path))?.len();
        let (mut checksum, mut at, mut block) = (Xxh3::new(), 0, vec![0; BLOCK]);
        while at + 8 < length {
            let count = (length - 8 - at).min(BLOCK as u64) as usize;
            file.read_exact_at(&mut block[..count], at).map_err(failed(&self.path))?;
            checksum.update(&block[..count]);
            at += count as u64;
        }
        let mut stored = [0; 8];
        file.read_exact_at(&mut stored, at).map_err(failed(&self.path))?;
        if u64::from_le_bytes(stored) == checksum.digest() {
            return Ok(self);
        }
        let what = "its bytes are not those that were written (checksum)".into();
        Err(DedupError::Damaged { path: self.path, what })
    }

    /// The same, its documents counted from `base` on.
    pub(crate) fn based(self, base: u32) -> Self {
        Self { base, ..self }
    }

    /// Bytes of records in some slots.
    pub(crate) fn bytes(&self, slots: std::ops::Range<usize>) -> u64 {
        self.index[slots.end] - self.index[slots.start]
    }

    /// The records of some slots, read `buffer` bytes at a time.
    pub(crate) fn read(
        &self,
        slots: std::ops::Range<usize>,
        buffer: usize,
    ) -> Result<Records<R>, DedupError> {
        let (at, end) = (self.index[slots.start], self.index[slots.end]);
        let file = File::open(&self.path).map_err(failed(&self.path))?;
        Ok(Records {
            path: self.path.clone(),
            file,
            at,
            end,
            block: buffer.max(64),
            buffer: Vec::new(),
            taken: 0,
            base: self.base,
            kind: PhantomData,
        })
    }

    /// The bytes of some slots' records, appended to `bytes`.
    pub(crate) fn read_bytes(
        &self,
        slots: std::ops::Range<usize>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), DedupError> {
        let (at, end) = (self.index[slots.start], self.index[slots.end]);
        let start = bytes.len();
        bytes.resize(start + (end - at) as usize, 0);
        let file = File::open(&self.path).map_err(failed(&self.path))?;
        file.read_exact_at(&mut bytes[start..], at).map_err(failed(&self.path))
    }

    /// The records of some slots, appended to `records`; `buffer` is for their bytes.
    pub(crate) fn read_all(
        &self,
        slots: std::ops::Range<usize>,
        buffer: &mut Vec<u8>,
        records: &mut Vec<R>,
    ) -> Result<(), DedupError> {
        buffer.clear();
        self.read_bytes(slots, buffer)?;
        let mut rest = &buffer[..];
        while let Some((record, length)) = R::take(rest) {
            records.push(record.renumber(|document| document + self.base));
            rest = &rest[length..];
        }
        if rest.is_empty() { Ok(()) } else { Err(self.cut_short()) }
    }

    /// The failure of a record that ends beyond its slot.
    pub(crate) fn cut_short(&self) -> DedupError {
        DedupError::Damaged { path: self.path.clone(), what: "a record is cut short".into() }
    }

    /// All records.
    pub(crate) fn all(&self) -> Result<Records<R>, DedupError> {
        self.read(0..self.index.len() - 1, BLOCK)
    }
}

/// Records of a run file, in order.
pub(crate) struct Records<R> {
    path: PathBuf,
    file: File,
    /// What of the file is not in the buffer yet.
    at: u64,
    end: u64,
    block: usize,
    buffer: Vec<u8>,
    taken: usize,
    base: u32,
    kind: PhantomData<fn() -> R>,
}

impl<R: Record> Records<R> {
    /// The next record.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<R>, DedupError> {
        loop {
            if let Some((record, length)) = R::take(&self.buffer[self.taken..]) {
                self.taken += length;
                return Ok(Some(record.renumber(|document| document + self.base)));
            }
            if self.at == self.end {
                if self.taken == self.buffer.len() {
                    return Ok(None);
                }
                let what = "a record is cut short".into();
                return Err(DedupError::Damaged { path: self.path.clone(), what });
            }
            self.fill()?;
        }
    }

    /// Where in the file the next record begins.
    pub(crate) fn position(&self) -> u64 {
        self.at - (self.buffer.len() - self.taken) as u64
    }

    #[cold]
    fn fill(&mut self) -> Result<(), DedupError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        // A record longer than a block makes blocks grow.
        let want = self.block.max(self.buffer.len());
        let count = (self.end - self.at).min(want as u64) as usize;
        let start = self.buffer.len();
        self.buffer.resize(start + count, 0);
        let read = self.file.read_exact_at(&mut self.buffer[start..], self.at);
        read.map_err(failed(&self.path))?;
        self.at += count as u64;
        Ok(())
    }
}

/// Writes sorted records, all in one slot.
pub(crate) fn write_all<R: Record>(
    path: PathBuf,
    tag: u64,
    records: impl IntoIterator<Item = R>,
) -> Result<(), DedupError> {
    let mut writer = RunWriter::new(path, 1, tag)?;
    for record in records {
        writer.push(&record, 0)?;
    }
    writer.finish()
}

#[cfg(test)]
impl RunWriter {
    /// A writer to a disk that is full, where the system has one.
    pub(crate) fn on_full_disk() -> Option<Self> {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("full-{}", std::process::id()));
        let mut writer = Self::new(path, 1, 0).ok()?;
        let full = fs::OpenOptions::new().write(true).open("/dev/full").ok()?;
        writer.file = Some(full);
        Some(writer)
    }
}
