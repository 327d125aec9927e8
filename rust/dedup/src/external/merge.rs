//! Many sorted runs as one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

use super::records::Record;
use super::runs::{Records, Run, RunWriter};
use crate::DedupError;

/// Most runs that are merged at once; more are merged to fewer first, for each is an open file.
pub(crate) const FAN_IN: usize = 128;

/// Smallest and largest number of bytes read from a run at a time.
const READ: (usize, usize) = (16 << 10, 1 << 20);

/// Records of some runs, in order: sorted in memory where they fit, which is quicker, else merged.
pub(crate) enum Sorted<R> {
    InMemory(std::vec::IntoIter<R>),
    Merged(Merge<R>),
}

impl<R: Record> Sorted<R> {
    /// Records in one slot of all runs, with about `memory` bytes.
    pub(crate) fn new(runs: &[Run<R>], slot: usize, memory: usize) -> Result<Self, DedupError> {
        let slots = slot..slot + 1;
        let bytes: u64 = runs.iter().map(|run| run.bytes(slots.clone())).sum();
        if bytes > memory as u64 / 4 {
            return Ok(Self::Merged(Merge::new(runs, slots, memory)?));
        }
        let (mut records, mut buffer) = (Vec::new(), Vec::new());
        for run in runs {
            run.read_all(slots.clone(), &mut buffer, &mut records)?;
        }
        // A slot is all that has the same upper byte.
        R::sort(&mut records, 8);
        Ok(Self::InMemory(records.into_iter()))
    }

    /// The next record.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<R>, DedupError> {
        match self {
            Self::InMemory(records) => Ok(records.next()),
            Self::Merged(merge) => merge.next(),
        }
    }
}

/// Merged records of some runs.
pub(crate) struct Merge<R> {
    heap: BinaryHeap<Reverse<(R, usize)>>,
    sources: Vec<Records<R>>,
}

impl<R: Record> Merge<R> {
    /// Records in some slots of all runs, with `memory` bytes of buffers.
    pub(crate) fn new(
        runs: &[Run<R>],
        slots: Range<usize>,
        memory: usize,
    ) -> Result<Self, DedupError> {
        let buffer = (memory / runs.len().max(1)).clamp(READ.0, READ.1);
        let (mut heap, mut sources) = (BinaryHeap::new(), Vec::new());
        for run in runs.iter().filter(|run| run.bytes(slots.clone()) > 0) {
            let mut source = run.read(slots.clone(), buffer)?;
            if let Some(record) = source.next()? {
                heap.push(Reverse((record, sources.len())));
                sources.push(source);
            }
        }
        Ok(Self { heap, sources })
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<R>, DedupError> {
        let Some(mut top) = self.heap.peek_mut() else { return Ok(None) };
        let source = top.0.1;
        Ok(Some(match self.sources[source].next()? {
            Some(following) => std::mem::replace(&mut top.0.0, following),
            None => PeekMut::pop(top).0.0,
        }))
    }
}

/// Merges runs of which there are too many, `FAN_IN` at a time, into files that `name` names; the
/// documents of the outcome are numbered from the beginning of the corpus.
pub(crate) fn few_enough<R: Record>(
    mut runs: Vec<Run<R>>,
    slots: usize,
    slot: impl Fn(&R) -> usize,
    name: impl Fn(usize) -> std::path::PathBuf,
    tag: u64,
    memory: usize,
) -> Result<Vec<Run<R>>, DedupError> {
    let mut number = 0;
    while runs.len() > FAN_IN {
        let mut fewer = Vec::new();
        for some in runs.chunks(FAN_IN) {
            let path = name(number);
            number += 1;
            let mut writer = RunWriter::new(path.clone(), slots, tag)?;
            let mut merge = Merge::new(some, 0..slots, memory)?;
            while let Some(record) = merge.next()? {
                writer.push(&record, slot(&record))?;
            }
            writer.finish()?;
            fewer.extend(Run::open(path, tag)?);
        }
        runs = fewer;
    }
    Ok(runs)
}
