//! Counting pieces of text: in shards that threads merge side by side, and on disk beyond a bound.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use hashbrown::HashTable;
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;

use crate::{BpeError, Cuts};

const SHARDS: usize = 32;
/// Files merged at once; each takes a descriptor and a buffer.
const WAYS: usize = 128;

/// Pieces with their counts, found by the hash of the piece.
#[derive(Debug, Default)]
struct Counts {
    table: HashTable<Place>,
    /// The pieces one after the other: an allocation each would cost as much as counting them.
    bytes: Vec<u8>,
}

/// A piece: its hash, where it stands, its count.
#[derive(Debug)]
struct Place {
    hash: u64,
    start: usize,
    length: usize,
    count: u64,
}

impl Counts {
    fn add(&mut self, &(hash, piece, count): &Seen<'_>) {
        let Self { table, bytes } = self;
        let same = |at: &Place| at.hash == hash && bytes[at.start..at.start + at.length] == *piece;
        if let Some(known) = table.find_mut(hash, same) {
            known.count += count;
            return;
        }
        let (start, length) = (bytes.len(), piece.len());
        bytes.extend_from_slice(piece);
        table.insert_unique(hash, Place { hash, start, length, count }, |at| at.hash);
    }

    /// Bytes of memory.
    fn size(&self) -> usize {
        self.bytes.capacity() + self.table.allocation_size()
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.table.iter().map(|at| (&self.bytes[at.start..at.start + at.length], at.count))
    }
}

/// A piece in the text at hand: its hash, itself, its count.
type Seen<'t> = (u64, &'t [u8], u64);

/// Pieces of text and how often each occurs.
///
/// The counts are sums, so neither order nor threads nor spills to disk change them.
#[derive(Debug)]
pub struct WordCounts {
    shards: Vec<Counts>,
    bound: Option<(usize, PathBuf)>,
    runs: Vec<PathBuf>,
    /// Whether the files outlive the counts.
    kept: bool,
}

impl Default for WordCounts {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Counts::default()).collect();
        Self { shards, bound: None, runs: Vec::new(), kept: false }
    }
}

impl Drop for WordCounts {
    fn drop(&mut self) {
        for run in self.runs.iter().filter(|_| !self.kept) {
            // What can't be removed is left to the folder's owner.
            let _ = std::fs::remove_file(run);
        }
    }
}

#[inline]
fn hash_of(piece: &[u8]) -> u64 {
    FxBuildHasher.hash_one(piece)
}

fn shard_of(hash: u64) -> usize {
    // Not the bits that a table takes its places from, nor those it keeps beside them.
    (hash >> 32) as usize % SHARDS
}

/// Counts the pieces of some texts, shard by shard; each piece is hashed once.
fn count<'t>(texts: &[Option<&'t str>], cuts: Cuts) -> Vec<Vec<Seen<'t>>> {
    let mut counts: HashTable<Seen<'t>> = HashTable::new();
    for text in texts.iter().flatten() {
        cuts.each(text, |piece| {
            let piece = piece.as_bytes();
            let hash = hash_of(piece);
            counts
                .entry(hash, |seen| seen.0 == hash && seen.1 == piece, |seen| seen.0)
                .or_insert((hash, piece, 0))
                .get_mut()
                .2 += 1;
        });
    }
    let mut shards = vec![Vec::new(); SHARDS];
    for seen in counts {
        shards[shard_of(seen.0)].push(seen);
    }
    shards
}

impl WordCounts {
    /// Counts that keep about `bytes` in memory and put the rest into sorted files in `folder`.
    #[must_use]
    pub fn bounded(bytes: usize, folder: PathBuf) -> Self {
        let mut counts = Self::default();
        counts.bound = Some((bytes, folder));
        counts
    }

    /// As [`WordCounts::bounded`] (0: no bound), in files that stay; goes on from the first `runs`
    /// of them, which [`WordCounts::checkpoint`] gave.
    ///
    /// # Errors
    /// One of the files is missing.
    pub fn kept(bytes: usize, folder: PathBuf, runs: usize) -> Result<Self, BpeError> {
        let mut counts = Self::bounded(if bytes == 0 { usize::MAX } else { bytes }, folder.clone());
        counts.kept = true;
        counts.runs = (0..runs).map(|number| run(&folder, number)).collect();
        match counts.runs.iter().find(|path| !path.is_file()) {
            Some(path) => Err(BpeError::Training(format!(
                "{}: the counts of an interrupted training are gone; remove its folder and start anew",
                path.display()
            ))),
            None => Ok(counts),
        }
    }

    /// Puts all counts on disk, for good; gives the number of files they are in.
    ///
    /// # Errors
    /// Counts that can't be written to disk.
    pub fn checkpoint(&mut self) -> Result<usize, BpeError> {
        if self.shards.iter().any(|shard| !shard.bytes.is_empty()) {
            self.spill().map_err(disk)?;
        }
        Ok(self.runs.len())
    }

    /// Counts the pieces of some texts, in parallel; the order of texts never matters.
    ///
    /// # Errors
    /// Counts that can't be written to disk.
    pub fn add(&mut self, texts: &[Option<&str>], cuts: Cuts) -> Result<(), BpeError> {
        let parts = texts.len().div_ceil(4 * rayon::current_num_threads()).max(1);
        let local: Vec<Vec<Vec<Seen<'_>>>> =
            texts.par_chunks(parts).map(|texts| count(texts, cuts)).collect();
        self.shards.par_iter_mut().enumerate().for_each(|(number, shard)| {
            local.iter().flat_map(|counts| &counts[number]).for_each(|seen| shard.add(seen));
        });
        let size = || self.shards.iter().map(Counts::size).sum::<usize>();
        if self.bound.as_ref().is_some_and(|(most, _)| size() > *most) {
            self.spill().map_err(disk)?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let Some((_, folder)) = &self.bound else { return Ok(()) };
        let path = run(folder, self.runs.len());
        let mut file = BufWriter::new(File::create(&path)?);
        self.runs.push(path);
        for (piece, count) in in_order(&self.shards) {
            write_entry(&mut file, piece, count)?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if self.kept {
            file.sync_all()?;
        }
        self.shards.iter_mut().for_each(|shard| *shard = Counts::default());
        Ok(())
    }

    /// Calls `each` with every piece and its count; in rising order if some of them are on disk, else
    /// in an order that says nothing.
    pub(crate) fn each(&self, mut each: impl FnMut(&[u8], u64)) -> Result<(), BpeError> {
        if self.runs.is_empty() {
            self.shards.iter().flat_map(Counts::iter).for_each(|(piece, count)| each(piece, count));
            return Ok(());
        }
        let mut paths = self.runs.clone();
        // Too many to be open at once: some of them become one first.
        let mut between = Between::default();
        while paths.len() > WAYS {
            let rest = paths.split_off(WAYS);
            let path = paths[0].with_extension(format!("{}.merged", between.0.len()));
            between.0.push(path.clone());
            let mut file = BufWriter::new(File::create(&path).map_err(disk)?);
            let mut failed = Ok(());
            merge(&paths, Vec::new(), |piece, count| {
                if failed.is_ok() {
                    failed = write_entry(&mut file, piece, count);
                }
            })?;
            failed.and_then(|()| file.flush()).map_err(disk)?;
            paths = rest;
            paths.push(path);
        }
        merge(&paths, in_order(&self.shards), each)
    }

    /// Number of files the counts were spilled to.
    #[must_use]
    pub fn spills(&self) -> usize {
        self.runs.len()
    }

    /// Number of different pieces in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.table.len()).sum()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.len() == 0
    }
}

type Entry = (Box<[u8]>, u64);

/// Files that go with it.
#[derive(Default)]
struct Between(Vec<PathBuf>);

impl Drop for Between {
    fn drop(&mut self) {
        for path in &self.0 {
            // What can't be removed is left to the folder's owner.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn run(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("counts-{number:05}"))
}

fn write_entry(file: &mut impl Write, piece: &[u8], count: u64) -> io::Result<()> {
    file.write_all(&(piece.len() as u64).to_le_bytes())?;
    file.write_all(&count.to_le_bytes())?;
    file.write_all(piece)
}

/// Sorted files and what is in memory as one sorted stream of different pieces.
fn merge(
    paths: &[PathBuf],
    memory: Vec<(&[u8], u64)>,
    mut each: impl FnMut(&[u8], u64),
) -> Result<(), BpeError> {
    let memory = memory.into_iter().map(|(piece, count)| Ok((piece.into(), count)));
    let mut runs: Vec<Box<dyn Iterator<Item = io::Result<Entry>> + '_>> = vec![Box::new(memory)];
    for path in paths {
        runs.push(Box::new(Run(BufReader::new(File::open(path).map_err(disk)?))));
    }
    let mut heads = BinaryHeap::new();
    for (number, run) in runs.iter_mut().enumerate() {
        if let Some(entry) = run.next() {
            heads.push(Reverse((entry.map_err(disk)?, number)));
        }
    }
    let mut held: Option<Entry> = None;
    while let Some(Reverse(((piece, count), number))) = heads.pop() {
        match &mut held {
            Some((same, sum)) if *same == piece => *sum += count,
            _ => {
                if let Some((piece, count)) = held.replace((piece, count)) {
                    each(&piece, count);
                }
            }
        }
        if let Some(entry) = runs[number].next() {
            heads.push(Reverse((entry.map_err(disk)?, number)));
        }
    }
    if let Some((piece, count)) = held {
        each(&piece, count);
    }
    Ok(())
}

struct Run(BufReader<File>);

impl Iterator for Run {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut head = [0; 16];
        match self.0.read_exact(&mut head[..1]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(error) => return Some(Err(error)),
        }
        Some(self.0.read_exact(&mut head[1..]).and_then(|()| {
            let number =
                |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
            let mut piece = vec![0; number(0) as usize];
            self.0.read_exact(&mut piece)?;
            Ok((piece.into(), number(8)))
        }))
    }
}

fn in_order(shards: &[Counts]) -> Vec<(&[u8], u64)> {
    let mut sorted: Vec<(&[u8], u64)> = shards.iter().flat_map(Counts::iter).collect();
    sorted.par_sort_unstable();
    sorted
}

fn disk(error: io::Error) -> BpeError {
    BpeError::Training(format!("counts on disk: {error}; give a folder with more room"))
}
