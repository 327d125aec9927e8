//! Deduplication on disk: as much memory as it is given, and the outcome of `deduplicate`.
//!
//! 1. *Sign*: a chunk of documents at a time becomes sorted run files (`chunks`).
//! 2. *Group*: runs are merged. Keep order, copies, buckets of equal band keys, and by them groups,
//!    which fill parts that fit in memory (`grouping`).
//! 3. *Collect*: texts of the documents that share a band with another one are read again, in the
//!    order in which they lie, and written by part (`contents`).
//! 4. *Decide*: part by part, as in memory.
//!
//! Each step is files that are whole or absent, so one that was stopped goes on from what is whole.

mod chunks;
mod contents;
mod decisions;
mod grouping;
mod merge;
mod records;
mod runs;
mod sort;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

pub use chunks::Batch;
use chunks::{Chunk, Trust};
use grouping::Grouping;
use records::Content;
use runs::Run;

use crate::{DedupError, Settings, Verify};

/// Least memory that a deduplication on disk is given.
pub const LEAST_MEMORY: usize = 1 << 20;

/// A deduplication in a folder.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
    settings: Settings,
    memory: usize,
    /// Says what the documents are, so that files of others are not taken for theirs.
    corpus: u64,
    /// Documents of an index come first; they stay.
    earlier: Vec<Chunk>,
    /// Where its segments end, and the last of them.
    segments: Vec<u32>,
    fixed: u32,
    chunks: BTreeMap<u32, Chunk>,
    grouping: Option<Grouping>,
}

/// What signed documents depend on; part of every file that holds some.
#[must_use]
pub fn fingerprint(settings: &Settings) -> u64 {
    let Settings { ngram, permutations, bands, rows, seed, fold, .. } = *settings;
    let signatures = settings.verify == Verify::Signature;
    let words = format!("1 {ngram} {permutations} {bands} {rows} {seed} {fold} {signatures}");
    xxh3_64(words.as_bytes())
}

impl Work {
    /// Opens a folder; chunks that are there and whole are taken over.
    ///
    /// # Errors
    /// Settings that make no sense, or a folder that can't be read.
    pub fn open(
        folder: &Path,
        settings: &Settings,
        memory: usize,
        corpus: u64,
    ) -> Result<Self, DedupError> {
        let mut work = Self::empty(folder, settings, memory, corpus)?;
        work.take_chunks()?;
        Ok(work)
    }

    fn empty(
        folder: &Path,
        settings: &Settings,
        memory: usize,
        corpus: u64,
    ) -> Result<Self, DedupError> {
        settings.check()?;
        Ok(Self {
            folder: folder.to_owned(),
            settings: settings.clone(),
            memory: memory.max(LEAST_MEMORY),
            corpus,
            earlier: Vec::new(),
            segments: Vec::new(),
            fixed: 0,
            chunks: BTreeMap::new(),
            grouping: None,
        })
    }

    /// As `open`, with the chunks of an index, whose documents come first and stay.
    ///
    /// `segments` are the numbers of documents that were added together; within each the keep order
    /// holds, and a segment comes before those after it. Chunks beyond them are none of the index's.
    ///
    /// # Errors
    /// As `open`; a damaged index.
    pub fn beside(
        folder: &Path,
        index: &Path,
        segments: &[u32],
        settings: &Settings,
        memory: usize,
        corpus: u64,
    ) -> Result<Self, DedupError> {
        let mut work = Self::empty(folder, settings, memory, corpus)?;
        for &documents in segments {
            work.fixed += documents;
            work.segments.push(work.fixed);
        }
        let mut next = 0;
        for number in chunks::numbers(index)?.into_iter().filter(|&number| number < work.fixed) {
            let tag = fingerprint(settings);
            let chunk = Chunk::open(index, number, number, settings, tag, Trust::Whole)?;
            let Some(chunk) = chunk.filter(|_| number == next) else { break };
            next += chunk.rows;
            work.earlier.push(chunk);
        }
        if next != work.fixed {
            let what = format!("document {next} of {} is missing", work.fixed);
            return Err(DedupError::Damaged { path: index.to_owned(), what });
        }
        work.take_chunks()?;
        Ok(work)
    }

    fn take_chunks(&mut self) -> Result<(), DedupError> {
        for number in chunks::numbers(&self.folder)? {
            self.take_chunk(number, Trust::Unsure)?;
        }
        Ok(())
    }

    /// Writes the documents for which `keep` is true as the next segment of an index, which has what
    /// was given to `beside`; returns how many they are. They count once the index says so.
    ///
    /// # Errors
    /// Not one value a document; a full disk.
    pub fn add_to(&self, index: &Path, keep: &[bool]) -> Result<u32, DedupError> {
        let (documents, values) = (self.documents() as usize, keep.len());
        if documents != values {
            return Err(DedupError::Lengths { name: "keep", documents, values });
        }
        for number in chunks::numbers(index)?.into_iter().filter(|&number| number >= self.fixed) {
            chunks::remove(index, number)?;
        }
        let mut next = self.fixed;
        for chunk in self.chunks.values() {
            let keep = &keep[chunk.first as usize..][..chunk.rows as usize];
            let kept = keep.iter().filter(|&&keep| keep).count() as u32;
            if kept > 0 {
                chunk.write_some(index, next, keep, fingerprint(&self.settings))?;
            }
            next += kept;
        }
        Ok(next - self.fixed)
    }

    fn take_chunk(&mut self, number: u32, trust: Trust) -> Result<(), DedupError> {
        let (first, tag) = (self.fixed + number, self.chunk_tag());
        let chunk = Chunk::open(&self.folder, number, first, &self.settings, tag, trust)?;
        self.chunks.extend(chunk.map(|chunk| (number, chunk)));
        Ok(())
    }

    /// First document and number of documents of each chunk that is there.
    #[must_use]
    pub fn signed(&self) -> Vec<(u32, u32)> {
        self.chunks.iter().map(|(&number, chunk)| (number, chunk.rows)).collect()
    }

    /// First document of each chunk, those of the index included.
    #[must_use]
    pub fn firsts(&self) -> Vec<u32> {
        self.chunks().map(|chunk| chunk.first).collect()
    }

    /// Documents of the index.
    #[must_use]
    pub fn fixed(&self) -> u32 {
        self.fixed
    }

    /// Signs documents, the first of which has number `first`.
    ///
    /// # Errors
    /// Not one value of each kind a document, more documents than can be numbered, a full disk.
    pub fn sign(&mut self, first: u32, batch: &Batch<'_>) -> Result<(), DedupError> {
        self.room_for(first, batch.texts.len())?;
        Chunk::write(&self.folder, first, batch, &self.settings, self.chunk_tag())?;
        self.take_chunk(first, Trust::Written)
    }

    /// Takes signatures of `slots` slots each, one after another in keep order, in place of
    /// documents. They are confirmed by signature.
    ///
    /// # Errors
    /// As `sign`; signatures of another length than `permutations`.
    pub fn sign_signatures(
        &mut self,
        first: u32,
        signatures: &[u32],
        slots: usize,
    ) -> Result<(), DedupError> {
        if slots != self.settings.permutations {
            return Err(DedupError::Slots { given: slots, wanted: self.settings.permutations });
        }
        self.room_for(first, signatures.len() / self.settings.permutations)?;
        let tag = self.chunk_tag();
        Chunk::write_signatures(&self.folder, first, signatures, &self.settings, tag)?;
        self.take_chunk(first, Trust::Written)
    }

    fn room_for(&self, first: u32, documents: usize) -> Result<(), DedupError> {
        let all = self.fixed as usize + first as usize + documents;
        if all >= u32::MAX as usize { Err(DedupError::TooManyDocuments(all)) } else { Ok(()) }
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.earlier.iter().chain(self.chunks.values())
    }

    fn documents(&self) -> u32 {
        self.chunks().map(|chunk| chunk.rows).sum()
    }

    fn chunk_tag(&self) -> u64 {
        fingerprint(&self.settings) ^ self.corpus
    }

    /// Says which documents, settings and memory the later steps are of.
    fn group_tag(&self) -> u64 {
        let Settings { threshold, verify, clusters, max_candidates, .. } = self.settings;
        let chunks: Vec<(u32, u32)> =
            self.chunks().map(|chunk| (chunk.first, chunk.rows)).collect();
        let (tag, memory, segments) = (self.chunk_tag(), self.memory, &self.segments);
        let words = format!(
            "{tag} {threshold} {verify:?} {clusters:?} {max_candidates} {memory} {segments:?} {chunks:?}"
        );
        xxh3_64(words.as_bytes())
    }

    /// Groups the signed documents; returns the number of parts.
    ///
    /// # Errors
    /// A gap between chunks, a damaged file, a full disk.
    pub fn group(&mut self) -> Result<usize, DedupError> {
        let mut next = 0;
        for chunk in self.chunks() {
            if chunk.first != next {
                let what = format!("document {next} was never signed");
                return Err(DedupError::Damaged { path: self.folder.clone(), what });
            }
            next += chunk.rows;
        }
        let grouping = self.grouping()?;
        if self.settings.verify == Verify::Signature {
            self.write_signatures(&grouping)?;
        }
        let parts = grouping.large.len();
        self.grouping = Some(grouping);
        Ok(parts)
    }

    fn grouped(&self) -> Result<&Grouping, DedupError> {
        self.grouping.as_ref().ok_or_else(|| DedupError::Damaged {
            path: self.folder.clone(),
            what: "its documents are not grouped yet".into(),
        })
    }

    /// Which of `rows` documents from `first` on, counted with those of the index, are to be
    /// compared with others.
    ///
    /// # Errors
    /// The documents are not grouped yet.
    pub fn compared(&self, first: u32, rows: u32) -> Result<Vec<bool>, DedupError> {
        let grouping = self.grouped()?;
        let places = &grouping.place[first as usize..(first + rows) as usize];
        let part = |&place: &u32| grouping.part[place as usize] != grouping::NONE;
        Ok(places.iter().map(part).collect())
    }

    /// Whether the texts from `first` on were collected.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn is_collected(&self, first: u32) -> Result<bool, DedupError> {
        let run = Run::<Content>::verified(self.content_file(first), self.group_tag())?;
        Ok(run.is_some())
    }

    /// Collects what is to be compared of texts; the first is document `first`, counted with those
    /// of the index.
    ///
    /// # Errors
    /// The documents are not grouped yet; a full disk.
    pub fn collect(
        &self,
        first: u32,
        texts: &[Option<&str>],
        code: &[bool],
    ) -> Result<(), DedupError> {
        self.write_contents(self.grouped()?, first, texts, code)
    }
}

#[cfg(test)]
mod tests;
