//! Part by part: who stays.

use std::path::{Path, PathBuf};

use super::Work;
use super::contents::Part;
use super::records::{Content, Member, Removed};
use super::runs::{Run, RunWriter};
use crate::candidates::{Listed, Shared};
use crate::compare::Comparer;
use crate::decide::Decider;
use crate::{DedupError, Effort, Outcome};

impl Work {
    /// Decides one part, `firsts` being the numbers given to `collect`; done before, it is read.
    ///
    /// # Errors
    /// A damaged or missing file, a full disk.
    pub fn decide(&self, part: usize, firsts: &[u32]) -> Result<(), DedupError> {
        let (grouping, tag) = (self.grouped()?, self.group_tag());
        let path = self.decided_file(part);
        if Run::<Removed>::verified(path.clone(), tag)?.is_some() {
            return Ok(());
        }
        let mut contents = Vec::new();
        for &first in firsts {
            let path = self.content_file(first);
            let run = Run::<Content>::open(path.clone(), tag)?;
            contents.push(run.ok_or_else(|| missing(path))?);
        }
        let documents = Part::read(self, grouping, &contents, part)?;
        let (ends, buckets) = buckets(&documents, &grouping.members, part, &self.folder)?;
        let groups = documents.groups();
        let listed = |number: usize| {
            let group = &groups[number];
            let (first, last) = (group[0] as usize, group[group.len() - 1] as usize);
            let start = if first == 0 { 0 } else { ends[first - 1] };
            Shared::Listed(Listed { ends: &ends[first..=last], start, buckets: &buckets })
        };
        let decider = Decider {
            comparer: Comparer::new(&documents, &self.settings),
            shared: listed,
            clusters: self.settings.clusters,
            max_candidates: self.settings.max_candidates,
            store: self.memory / 8,
        };
        let decisions = decider.decide(&groups);
        documents.failure()?;
        let document = |row: u32| grouping.order[documents.place(row) as usize];
        let mut writer = RunWriter::new(path, 1, tag)?;
        writer.note([decisions.comparisons, decisions.cut_short]);
        for removal in decisions.removals {
            let record = Removed {
                document: document(removal.row),
                target: document(removal.target),
                similarity: removal.similarity.to_bits(),
            };
            writer.push(&record, 0)?;
        }
        writer.finish()
    }

    fn decided_file(&self, part: usize) -> PathBuf {
        self.folder.join(format!("decided-{part:05}.run"))
    }

    /// The outcome of all parts; documents of an index come first in it.
    ///
    /// # Errors
    /// A damaged or missing file.
    pub fn outcome(&self) -> Result<Outcome, DedupError> {
        let (grouping, tag) = (self.grouped()?, self.group_tag());
        let count = grouping.order.len();
        let mut outcome = Outcome {
            keep: vec![true; count],
            duplicate_of: (0..count as u32).collect(),
            jaccard: vec![1.0; count],
            effort: Effort {
                copies: grouping.copies.len() as u64,
                candidates: grouping.candidates,
                ..Effort::default()
            },
        };
        for part in 0..grouping.large.len() {
            let path = self.decided_file(part);
            let run = Run::<Removed>::open(path.clone(), tag)?.ok_or_else(|| missing(path))?;
            outcome.effort.comparisons += run.notes[0];
            outcome.effort.cut_short += run.notes[1];
            let mut records = run.all()?;
            while let Some(record) = records.next()? {
                let row = record.document as usize;
                outcome.keep[row] = false;
                outcome.duplicate_of[row] = record.target;
                outcome.jaccard[row] = f64::from_bits(record.similarity);
            }
        }
        for &(copy, first) in &grouping.copies {
            let (copy, first) = (copy as usize, first as usize);
            outcome.keep[copy] = false;
            outcome.duplicate_of[copy] = outcome.duplicate_of[first];
            outcome.jaccard[copy] = outcome.jaccard[first];
        }
        Ok(outcome)
    }
}

fn missing(path: PathBuf) -> DedupError {
    DedupError::Damaged { path, what: "the file is missing".into() }
}

/// For each row of a part, where its buckets end, and the buckets, numbered from 0.
fn buckets(
    documents: &Part,
    members: &[Run<Member>],
    part: usize,
    folder: &Path,
) -> Result<(Vec<usize>, Vec<u32>), DedupError> {
    let rows = documents.rows();
    let mut found: Vec<(u32, u64)> = Vec::new();
    for run in members {
        let mut records = run.read(part..part + 1, 64 << 10)?;
        while let Some(member) = records.next()? {
            let row = rows.get(&member.place).ok_or_else(|| DedupError::Damaged {
                path: folder.to_owned(),
                what: "the text of a document was not collected".into(),
            })?;
            found.push((*row, member.bucket));
        }
    }
    drop(rows);
    // Nearly sorted already, which a stable sort makes use of.
    found.sort_by_key(|&(_, bucket)| bucket);
    let mut ends = vec![0; documents.len()];
    for &(row, _) in &found {
        ends[row as usize] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        // Where each row begins, until its buckets are entered.
        let count = *end;
        *end = sum;
        sum += count;
    }
    let mut buckets = vec![0; found.len()];
    for (number, bucket) in (0..).zip(found.chunk_by(|one, two| one.1 == two.1)) {
        for &(row, _) in bucket {
            let end = &mut ends[row as usize];
            buckets[*end] = number;
            *end += 1;
        }
    }
    Ok((ends, buckets))
}
