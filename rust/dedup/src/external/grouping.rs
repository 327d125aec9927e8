//! From chunks to groups: keep order, copies, buckets, components, and the parts they are decided in.
//!
//! In memory are some 24 bytes a document: its place in keep order and the document of each place,
//! the first place of its group, and its part. All else is read from disk in order.

use std::path::PathBuf;

use rayon::prelude::*;

use super::Work;
use super::chunks::{SLOTS, slot_of_identity, slot_of_key};
use super::merge::{Merge, Sorted, few_enough};
use super::records::{Member, Record, Removed};
use super::runs::{Run, RunWriter, write_all};
use crate::DedupError;
use crate::groups::SharedForest;

/// The part of a document that shares no band with another one.
pub(crate) const NONE: u32 = u32::MAX;

/// Bytes that a document takes in a part beside its content: its buckets and book-keeping.
const OVERHEAD: u64 = 512;

/// Numbers of a run file, and its notes.
type Numbers = (Vec<u32>, [u64; 2]);

/// What is known once all documents are signed.
#[derive(Debug)]
pub(crate) struct Grouping {
    /// Documents in keep order, and the place of each.
    pub(crate) order: Vec<u32>,
    pub(crate) place: Vec<u32>,
    /// By place: the first place of its group, and the part that the group is in.
    pub(crate) root: Vec<u32>,
    pub(crate) part: Vec<u32>,
    /// Whether a part is a single group that is too large to be held.
    pub(crate) large: Vec<bool>,
    /// Documents with the shingles of another one, and that one.
    pub(crate) copies: Vec<(u32, u32)>,
    pub(crate) members: Vec<Run<Member>>,
    /// Documents that share a band with another one that is no copy.
    pub(crate) candidates: u64,
}

impl Work {
    /// Does all that comes before texts are compared, or reads it where it is done.
    pub(crate) fn grouping(&self) -> Result<Grouping, DedupError> {
        if let Some(grouping) = self.read_grouping()? {
            return Ok(grouping);
        }
        let order = self.order()?;
        let place = inverse(&order);
        let copies = self.copies(&place)?;
        let (root, shared) = self.components(&place, &copies)?;
        let (part, large, candidates) = self.parts(&order, &root)?;
        let members = self.members(&shared, &part, large.len())?;
        for run in shared {
            let _ = std::fs::remove_file(run.path);
        }
        let grouping = Grouping { order, place, root, part, large, copies, members, candidates };
        self.write_grouping(&grouping)?;
        Ok(grouping)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.run"))
    }

    /// Documents in keep order: those of an index first, segment by segment.
    fn order(&self) -> Result<Vec<u32>, DedupError> {
        let mut order = Vec::with_capacity(self.documents() as usize);
        let tag = self.group_tag();
        let ends = self.segments.iter().copied().chain([self.documents()]);
        for (segment, end) in ends.enumerate() {
            let start = order.len() as u32;
            let inside = self.chunks().filter(|chunk| (start..end).contains(&chunk.first));
            let runs = inside.map(|chunk| chunk.keep.clone()).collect();
            let name = |number| self.file(&format!("keep-{segment}-{number}"));
            let runs = few_enough(runs, 1, |_| 0, name, tag, self.memory / 8)?;
            let mut merge = Merge::new(&runs, 0..1, self.memory / 8)?;
            while let Some(record) = merge.next()? {
                order.push(record.document);
            }
        }
        Ok(order)
    }

    /// Documents that equal another one, with the first of their like.
    fn copies(&self, place: &[u32]) -> Result<Vec<(u32, u32)>, DedupError> {
        let runs = self.chunks().map(|chunk| chunk.same.clone()).collect();
        let name = |number| self.file(&format!("same-{number}"));
        let tag = self.group_tag();
        let runs = few_enough(runs, SLOTS, slot_of_identity, name, tag, self.memory / 8)?;
        let found: Result<Vec<Vec<(u32, u32)>>, DedupError> = (0..SLOTS)
            .into_par_iter()
            .map(|slot| {
                let mut copies = Vec::new();
                let mut merge = Sorted::new(&runs, slot, self.merge_memory())?;
                let mut like: Vec<u32> = Vec::new();
                let mut identity = [0; 3];
                loop {
                    let next = merge.next()?;
                    if let Some(record) = next.filter(|record| record.identity == identity) {
                        like.push(record.document);
                        continue;
                    }
                    let first = like.iter().copied().min_by_key(|&one| place[one as usize]);
                    if let Some(first) = first {
                        let others = like.iter().filter(|&&one| one != first);
                        copies.extend(others.map(|&one| (one, first)));
                    }
                    let Some(record) = next else { return Ok(copies) };
                    identity = record.identity;
                    like.clear();
                    like.push(record.document);
                }
            })
            .collect();
        Ok(found?.concat())
    }

    /// The root of each place, and the members of all buckets that have several.
    fn components(
        &self,
        place: &[u32],
        copies: &[(u32, u32)],
    ) -> Result<(Vec<u32>, Vec<Run<Member>>), DedupError> {
        let mut is_copy = vec![0u64; place.len().div_ceil(64)];
        for &(copy, _) in copies {
            is_copy[copy as usize / 64] |= 1 << (copy % 64);
        }
        let runs = self.chunks().map(|chunk| chunk.bands.clone()).collect();
        let (name, tag) = (|number| self.file(&format!("bands-{number}")), self.group_tag());
        let runs = few_enough(runs, SLOTS, slot_of_key, name, tag, self.memory / 8)?;
        let forest = SharedForest::new(place.len());
        let shared: Result<Vec<Run<Member>>, DedupError> = (0..SLOTS)
            .into_par_iter()
            .map(|slot| {
                let path = self.file(&format!("shared-{slot:03}"));
                let mut writer = RunWriter::new(path.clone(), 1, tag)?;
                let mut merge = Sorted::new(&runs, slot, self.merge_memory())?;
                let (mut bucket, mut key) = (Vec::new(), 0);
                let mut number = (slot as u64) << 40;
                loop {
                    let next = merge.next()?;
                    let same = next.filter(|record| record.key == key && !bucket.is_empty());
                    if let Some(record) = same {
                        bucket.push(record.document);
                        continue;
                    }
                    if bucket.len() > 1 {
                        let is_copy =
                            |document: u32| is_copy[document as usize / 64] >> (document % 64) & 1;
                        bucket.retain(|&document| is_copy(document) == 0);
                        if bucket.len() > 1 {
                            // A star: each with the first that came, so a crowd costs its size.
                            let first = place[bucket[0] as usize];
                            for &document in &bucket {
                                let place = place[document as usize];
                                forest.unite(first, place);
                                writer.push(&Member { place, bucket: number }, 0)?;
                            }
                            number += 1;
                        }
                    }
                    bucket.clear();
                    let Some(record) = next else { break };
                    key = record.key;
                    bucket.push(record.document);
                }
                writer.finish()?;
                let run = Run::open(path.clone(), tag)?;
                run.ok_or_else(|| DedupError::Damaged { path, what: "the file is gone".into() })
            })
            .collect();
        let roots = (0..place.len() as u32).into_par_iter().map(|member| forest.root(member));
        Ok((roots.collect(), shared?))
    }

    /// The part of each place, for each part whether it is one large group, and how many places
    /// have a part.
    fn parts(&self, order: &[u32], root: &[u32]) -> Result<(Vec<u32>, Vec<bool>, u64), DedupError> {
        let sizes = self.sizes()?;
        let size = |place: usize| OVERHEAD + u64::from(sizes[order[place] as usize]);
        let mut bytes = vec![0u64; root.len()];
        for (place, &root) in root.iter().enumerate() {
            if root as usize != place {
                bytes[root as usize] += size(place);
            }
        }
        let limit = (self.memory / 8) as u64;
        let (mut part, mut large) = (vec![NONE; root.len()], Vec::new());
        // The part that groups go into now, and what is in it.
        let (mut open, mut filled) = (NONE, 0);
        let mut candidates = 0;
        for place in 0..root.len() {
            let first = root[place] as usize;
            if first != place {
                candidates += 1;
                part[place] = part[first];
            } else if bytes[place] > 0 {
                candidates += 1;
                let group = bytes[place] + size(place);
                if group > limit {
                    part[place] = large.len() as u32;
                    large.push(true);
                } else {
                    if open == NONE || filled + group > limit {
                        (open, filled) = (large.len() as u32, 0);
                        large.push(false);
                    }
                    filled += group;
                    part[place] = open;
                }
            }
        }
        Ok((part, large, candidates))
    }

    /// Bytes that stand for each document in a part.
    fn sizes(&self) -> Result<Vec<u32>, DedupError> {
        let mut sizes = Vec::with_capacity(self.documents() as usize);
        let signature = (4 * self.settings.permutations) as u32;
        for chunk in self.chunks() {
            if chunk.signatures.is_some() {
                sizes.resize(sizes.len() + chunk.rows as usize, signature);
            } else {
                read_into(&chunk.sizes, &mut sizes)?;
            }
        }
        Ok(sizes)
    }

    /// The members of all buckets, by part.
    fn members(
        &self,
        shared: &[Run<Member>],
        part: &[u32],
        parts: usize,
    ) -> Result<Vec<Run<Member>>, DedupError> {
        let limit = (self.memory / 8 / 48).max(1024);
        let mut members: Vec<(u32, Member)> = Vec::new();
        let (mut runs, tag) = (Vec::new(), self.group_tag());
        let mut write = |members: &mut Vec<(u32, Member)>| -> Result<(), DedupError> {
            let path = self.file(&format!("members-{:05}", runs.len()));
            let mut writer = RunWriter::new(path.clone(), parts, tag)?;
            // By part alone: within one they stay in the order of their buckets.
            for (part, member) in by_part(members, parts) {
                writer.push(&member, part as usize)?;
            }
            members.clear();
            writer.finish()?;
            runs.extend(Run::open(path, tag)?);
            Ok(())
        };
        for run in shared {
            let mut records = run.all()?;
            while let Some(member) = records.next()? {
                members.push((part[member.place as usize], member));
                if members.len() >= limit {
                    write(&mut members)?;
                }
            }
        }
        write(&mut members)?;
        Ok(runs)
    }

    fn write_grouping(&self, grouping: &Grouping) -> Result<(), DedupError> {
        let tag = self.group_tag();
        write_all(self.file("order"), tag, grouping.order.iter().copied())?;
        write_all(self.file("roots"), tag, grouping.root.iter().copied())?;
        write_all(self.file("parts"), tag, grouping.part.iter().copied())?;
        let copies = grouping.copies.iter().map(|&(document, target)| Removed {
            document,
            target,
            similarity: 0,
        });
        write_all(self.file("copies"), tag, copies)?;
        // Last, for it says that the others are there.
        let mut writer = RunWriter::new(self.file("grouping"), 1, tag)?;
        writer.note([grouping.members.len() as u64, grouping.candidates]);
        for &large in &grouping.large {
            writer.push(&u32::from(large), 0)?;
        }
        writer.finish()
    }

    fn read_grouping(&self) -> Result<Option<Grouping>, DedupError> {
        let tag = self.group_tag();
        let numbers = |name: &str| -> Result<Option<Numbers>, DedupError> {
            let Some(run) = Run::<u32>::verified(self.file(name), tag)? else { return Ok(None) };
            let mut values = Vec::with_capacity(run.records as usize);
            read_into(&run, &mut values)?;
            Ok(Some((values, run.notes)))
        };
        let Some((large, [runs, candidates])) = numbers("grouping")? else { return Ok(None) };
        let all = (numbers("order")?, numbers("roots")?, numbers("parts")?);
        let (Some((order, _)), Some((root, _)), Some((part, _))) = all else { return Ok(None) };
        let Some(run) = Run::<Removed>::verified(self.file("copies"), tag)? else {
            return Ok(None);
        };
        let (mut copies, mut records) = (Vec::new(), run.all()?);
        while let Some(record) = records.next()? {
            copies.push((record.document, record.target));
        }
        let mut members = Vec::new();
        for number in 0..runs {
            match Run::verified(self.file(&format!("members-{number:05}")), tag)? {
                Some(run) => members.push(run),
                None => return Ok(None),
            }
        }
        let large = large.into_iter().map(|large| large != 0).collect();
        let place = inverse(&order);
        Ok(Some(Grouping { order, place, root, part, large, copies, members, candidates }))
    }

    /// Bytes of buffers for one of the merges that threads make side by side.
    fn merge_memory(&self) -> usize {
        self.memory / 8 / rayon::current_num_threads()
    }
}

/// The same by part, else in the order in which they are.
fn by_part(members: &[(u32, Member)], parts: usize) -> Vec<(u32, Member)> {
    let mut ends = vec![0; parts + 1];
    for (part, _) in members {
        ends[*part as usize + 1] += 1;
    }
    for at in 1..ends.len() {
        ends[at] += ends[at - 1];
    }
    let mut sorted = members.to_vec();
    for &member in members {
        let end: &mut usize = &mut ends[member.0 as usize];
        sorted[*end] = member;
        *end += 1;
    }
    sorted
}

fn inverse(order: &[u32]) -> Vec<u32> {
    let mut place = vec![0; order.len()];
    for (at, &document) in order.iter().enumerate() {
        place[document as usize] = at as u32;
    }
    place
}

/// Appends all records.
pub(crate) fn read_into<R: Record>(run: &Run<R>, values: &mut Vec<R>) -> Result<(), DedupError> {
    let mut records = run.all()?;
    while let Some(value) = records.next()? {
        values.push(value);
    }
    Ok(())
}
