//! Signed documents on disk: a chunk is a range of documents, in files that lie sorted.
//!
//! | file | records |
//! |---|---|
//! | `chunk-N.bands` | band key, document; sorted, a slot for each upper byte of the key |
//! | `chunk-N.same` | identity, document; likewise |
//! | `chunk-N.keep` | key in keep order, document; sorted |
//! | `chunk-N.signatures` | signatures, where they confirm |
//! | `chunk-N.sizes` | bytes of each text; written last |
//!
//! N is the number of the chunk's first document in its folder; documents are numbered from 0 within
//! a chunk.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::records::{BandKey, Content, KeepKey, Record, Same};
use super::runs::{Run, RunWriter, write_all};
use crate::corpus::{Corpus, Signed};
use crate::{DedupError, Identity, KeepKeys, Settings, Verify, bands, minhash};

/// Slots of the files that are merged in parallel.
pub(crate) const SLOTS: usize = 256;

/// Documents of one chunk.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Texts; missing ones are as empty ones.
    pub texts: &'a [Option<&'a str>],
    /// Whether each is code; no values at all if none is.
    pub code: &'a [bool],
    /// What orders them.
    pub keys: &'a KeepKeys<'a>,
}

/// A chunk on disk.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Number of its first document in the corpus, and how many they are.
    pub(crate) first: u32,
    pub(crate) rows: u32,
    pub(crate) bands: Run<BandKey>,
    pub(crate) same: Run<Same>,
    pub(crate) keep: Run<KeepKey>,
    pub(crate) signatures: Option<Run<Content>>,
    pub(crate) sizes: Run<u32>,
}

fn file(folder: &Path, number: u32, kind: &str) -> PathBuf {
    folder.join(format!("chunk-{number:010}.{kind}"))
}

/// Removes what there is of a chunk.
pub(crate) fn remove(folder: &Path, number: u32) -> Result<(), DedupError> {
    for kind in ["sizes", "bands", "same", "keep", "signatures"] {
        let path = file(folder, number, kind);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(DedupError::File { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn slot_of_key(record: &BandKey) -> usize {
    (record.key >> 56) as usize
}

pub(crate) fn slot_of_identity(record: &Same) -> usize {
    (record.identity[0] >> 56) as usize
}

/// Numbers of the chunks that a folder has, whole or not.
pub(crate) fn numbers(folder: &Path) -> Result<Vec<u32>, DedupError> {
    let failed = |source| DedupError::File { path: folder.to_owned(), source };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_prefix("chunk-").and_then(|rest| rest.strip_suffix(".sizes"));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Chunk {
    /// Opens chunk `number` of a folder as documents from `first` on; `None` where it is not whole.
    pub(crate) fn open(
        folder: &Path,
        number: u32,
        first: u32,
        settings: &Settings,
        tag: u64,
        trust: Trust,
    ) -> Result<Option<Self>, DedupError> {
        let path = |kind| file(folder, number, kind);
        let Some(sizes) = open(path("sizes"), first, tag, trust)? else { return Ok(None) };
        let bands = open(path("bands"), first, tag, trust)?;
        let same = open(path("same"), first, tag, trust)?;
        let keep = open(path("keep"), first, tag, trust)?;
        let (Some(bands), Some(same), Some(keep)) = (bands, same, keep) else { return Ok(None) };
        let mut signatures = None;
        if settings.verify == Verify::Signature {
            signatures = open(path("signatures"), first, tag, trust)?;
            if signatures.is_none() {
                return Ok(None);
            }
        }
        let rows = sizes.records as u32;
        Ok(Some(Self { first, rows, bands, same, keep, signatures, sizes }))
    }

    /// Signs documents and writes them as chunk `number` of a folder.
    pub(crate) fn write(
        folder: &Path,
        number: u32,
        batch: &Batch<'_>,
        settings: &Settings,
        tag: u64,
    ) -> Result<(), DedupError> {
        settings.check()?;
        batch.keys.check(batch.texts.len())?;
        let rank: Vec<u32> = (0..batch.texts.len() as u32).collect();
        let corpus = Corpus { texts: batch.texts, code: batch.code, rank: &rank };
        corpus.check()?;
        let signed = Signed::new(&corpus, settings);
        let found = rank.iter().filter(|&&row| signed.identities[row as usize].shingles > 0);
        let keys = || {
            let keys = found.clone().flat_map(|&document| {
                signed.keys(document).iter().map(move |&key| BandKey { key, document })
            });
            write_slots(file(folder, number, "bands"), tag, keys.collect(), slot_of_key)
        };
        let others = || {
            let key = |&document: &u32| KeepKey {
                key: batch.keys.key(document as usize, corpus.text(document)),
                document,
            };
            let mut keep: Vec<KeepKey> = rank.par_iter().map(key).collect();
            keep.par_sort_unstable();
            write_all(file(folder, number, "keep"), tag, keep)?;
            let same = found.clone().map(|&document| {
                let Identity { shingles, sums: [one, two] } = signed.identities[document as usize];
                Same { identity: [one, two, shingles], document }
            });
            write_slots(file(folder, number, "same"), tag, same.collect(), slot_of_identity)
        };
        let (keys, others) = rayon::join(keys, others);
        keys.and(others)?;
        if settings.verify == Verify::Signature {
            let mut writer = RunWriter::new(file(folder, number, "signatures"), 1, tag)?;
            for &row in &rank {
                put_signature(&mut writer, row, signed.signature(row))?;
            }
            writer.finish()?;
        }
        let sizes = rank.iter().map(|&row| size(corpus.text(row).len()));
        write_all(file(folder, number, "sizes"), tag, sizes)
    }

    /// As `write` for signatures of `settings.permutations` slots each, in keep order.
    pub(crate) fn write_signatures(
        folder: &Path,
        number: u32,
        signatures: &[u32],
        settings: &Settings,
        tag: u64,
    ) -> Result<(), DedupError> {
        settings.check()?;
        let slots = settings.permutations;
        if !signatures.len().is_multiple_of(slots) {
            let (documents, values) = (signatures.len().div_ceil(slots), signatures.len());
            return Err(DedupError::Lengths { name: "signatures", documents, values });
        }
        let documents = (signatures.len() / slots) as u32;
        let signature = |row: u32| &signatures[row as usize * slots..][..slots];
        let keep = (0..documents)
            .map(|document| KeepKey { key: (number + document).to_be_bytes().into(), document });
        write_all(file(folder, number, "keep"), tag, keep)?;
        let known = |&row: &u32| signature(row).iter().any(|&slot| slot != minhash::EMPTY);
        let same = (0..documents)
            .into_par_iter()
            .filter(known)
            .map(|document| {
                let bytes: Vec<u8> =
                    signature(document).iter().flat_map(|slot| slot.to_le_bytes()).collect();
                let hash = xxhash_rust::xxh3::xxh3_128(&bytes);
                Same { identity: [(hash >> 64) as u64, hash as u64, 1], document }
            })
            .collect();
        write_slots(file(folder, number, "same"), tag, same, slot_of_identity)?;
        let keys = (0..documents)
            .into_par_iter()
            .filter(known)
            .flat_map_iter(|document| {
                let rows = signature(document).chunks_exact(settings.rows).enumerate();
                rows.take(settings.bands).map(move |(band, slots)| BandKey {
                    key: bands::key(band, slots.iter().copied()),
                    document,
                })
            })
            .collect();
        write_slots(file(folder, number, "bands"), tag, keys, slot_of_key)?;
        let mut writer = RunWriter::new(file(folder, number, "signatures"), 1, tag)?;
        for row in 0..documents {
            put_signature(&mut writer, row, signature(row))?;
        }
        writer.finish()?;
        write_all(file(folder, number, "sizes"), tag, (0..documents).map(|_| 0))
    }
}

impl Chunk {
    /// Writes some of its documents as chunk `number` of another folder; `keep` has one value for
    /// each document of the chunk.
    pub(crate) fn write_some(
        &self,
        folder: &Path,
        number: u32,
        keep: &[bool],
        tag: u64,
    ) -> Result<(), DedupError> {
        let path = |kind| file(folder, number, kind);
        let mut count = 0;
        let next = |&keep: &bool| {
            count += u32::from(keep);
            count - u32::from(keep)
        };
        let numbers: Vec<u32> = keep.iter().map(next).collect();
        let some = Chosen { keep, numbers: &numbers, tag };
        some.copy(self.keep.clone(), path("keep"), 1, |_| 0)?;
        some.copy(self.same.clone(), path("same"), SLOTS, slot_of_identity)?;
        some.copy(self.bands.clone(), path("bands"), SLOTS, slot_of_key)?;
        if let Some(signatures) = &self.signatures {
            let (mut writer, mut records) =
                (RunWriter::new(path("signatures"), 1, tag)?, signatures.all()?);
            while let Some(content) = records.next()? {
                let row = content.place as usize;
                if keep[row] {
                    writer.push(&Content { place: numbers[row], ..content }, 0)?;
                }
            }
            writer.finish_synced()?;
        }
        let (mut writer, mut records) = (RunWriter::new(path("sizes"), 1, tag)?, self.sizes.all()?);
        for &keep in keep {
            if let Some(size) = records.next()?.filter(|_| keep) {
                writer.push(&size, 0)?;
            }
        }
        writer.finish_synced()
    }
}

/// Some documents of a chunk, and the numbers they get.
struct Chosen<'a> {
    keep: &'a [bool],
    numbers: &'a [u32],
    tag: u64,
}

impl Chosen<'_> {
    fn copy<R: Record>(
        &self,
        run: Run<R>,
        path: PathBuf,
        slots: usize,
        slot: impl Fn(&R) -> usize,
    ) -> Result<(), DedupError> {
        let mut writer = RunWriter::new(path, slots, self.tag)?;
        let mut records = run.based(0).all()?;
        while let Some(record) = records.next()? {
            let document = record.document().unwrap_or_default() as usize;
            if self.keep[document] {
                let record = record.renumber(|_| self.numbers[document]);
                writer.push(&record, slot(&record))?;
            }
        }
        writer.finish_synced()
    }
}

/// Length of a text as it is stored: those of 4 GiB and more count as that.
fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn put_signature(writer: &mut RunWriter, row: u32, slots: &[u32]) -> Result<(), DedupError> {
    writer.push_with(0, |bytes| {
        Content::put_head(row, false, 4 * slots.len(), bytes);
        slots.iter().for_each(|slot| bytes.extend_from_slice(&slot.to_le_bytes()));
    })
}

fn write_slots<R: Record>(
    path: PathBuf,
    tag: u64,
    mut records: Vec<R>,
    slot: impl Fn(&R) -> usize,
) -> Result<(), DedupError> {
    R::sort(&mut records, 0);
    let mut writer = RunWriter::new(path, SLOTS, tag)?;
    for record in records.iter() {
        writer.push(record, slot(record))?;
    }
    writer.finish()
}

/// How a chunk's files are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// They were just written.
    Written,
    /// They may be torn, and are made again then.
    Unsure,
    /// They must be whole.
    Whole,
}

fn open<R: Record>(
    path: PathBuf,
    first: u32,
    tag: u64,
    trust: Trust,
) -> Result<Option<Run<R>>, DedupError> {
    let run = match trust {
        Trust::Unsure => Run::verified(path, tag)?,
        Trust::Written => Run::open(path, tag)?,
        Trust::Whole => match Run::open(path.clone(), tag)? {
            Some(run) => Some(run.check()?),
            None => {
                let what = "the file is missing".into();
                return Err(DedupError::Damaged { path, what });
            }
        },
    };
    Ok(run.map(|run| run.based(first)))
}
