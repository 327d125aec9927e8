//! Passages that stand in several places, found by a suffix array over bytes.
//!
//! The definition, which a brute force can follow: a gram is a run of `min_length` bytes (or
//! characters) that starts at a character and lies in one document. Of equal grams the first, by
//! keep order of the documents and place, is the original; every other one that does not overlap
//! the original is a copy, and all its bytes are cut, up to whole characters. So a passage goes
//! where all of its grams are copies, and what is cut of one place stands in an earlier one.
//! Source: Lee et al. 2021, "Deduplicating Training Data Makes Language Models Better", §4.1
//! (`ExactSubstr`), which cuts 50 tokens.
//!
//! Documents are joined by the byte 0xff, which no UTF-8 text holds: no gram crosses it. A corpus
//! beyond the memory is cut into blocks, and each pair of blocks is searched; as a copy has its
//! original in one block and itself in one, the union over pairs is the outcome of the whole.

use libsais::SuffixArrayConstruction;

use crate::DedupError;

/// Most bytes of memory that a byte of text takes while a pair of blocks is searched: the text, four
/// of the suffix array, four of the places of one gram (where all are alike), a bit of the outcome.
pub const SUBSTRING_MEMORY: usize = 10;

const SEPARATOR: u8 = 0xff;

/// What counts as a repeated passage.
#[derive(Debug, Clone, Copy)]
pub struct SubstringSettings {
    /// Shortest passage.
    pub min_length: usize,
    /// It is counted in characters, not bytes.
    pub characters: bool,
    /// The first place keeps its passage; else all are cut.
    pub keep_first: bool,
    /// Bytes to work in, beside the texts.
    pub max_memory: usize,
}

/// A piece of a text, in bytes: from, to.
pub type Span = (usize, usize);

/// What to cut from each row: spans in order that neither touch nor overlap, at whole characters.
///
/// # Errors
/// One document is larger than the memory allows for, or than 2 GiB.
pub fn repeated_substrings(
    texts: &[Option<&str>],
    rank: &[u32],
    settings: &SubstringSettings,
) -> Result<Vec<Vec<Span>>, DedupError> {
    let mut order: Vec<usize> = (0..texts.len()).filter(|&row| texts[row].is_some()).collect();
    order.sort_unstable_by_key(|&row| rank[row]);
    let length = |row: usize| texts[row].map_or(0, str::len) + 1;
    // A pair of blocks is in work at once; the array counts in 31 bits.
    let limit = (settings.max_memory / SUBSTRING_MEMORY).min(i32::MAX as usize - 1);
    let total: usize = order.iter().map(|&row| length(row)).sum();
    let block_limit = if total <= limit { total } else { limit / 2 };
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for &row in &order {
        if length(row) > block_limit {
            return Err(DedupError::LongDocument { row, bytes: length(row), limit: block_limit });
        }
        if length(row) > room {
            blocks.push(Vec::new());
            room = block_limit;
        }
        room -= length(row);
        if let Some(block) = blocks.last_mut() {
            block.push(row);
        }
    }
    let mut spans: Vec<Vec<Span>> = vec![Vec::new(); texts.len()];
    for (second, later) in blocks.iter().enumerate() {
        // A pair covers the repetitions within its blocks; one block alone has no partner.
        for earlier in &blocks[..second.max(usize::from(blocks.len() == 1))] {
            let rows: Vec<usize> = if blocks.len() == 1 {
                later.clone()
            } else {
                earlier.iter().chain(later).copied().collect()
            };
            search(texts, &rows, settings, &mut spans)?;
        }
    }
    for (row, spans) in spans.iter_mut().enumerate() {
        *spans = merged(std::mem::take(spans));
        let text = texts[row].unwrap_or("");
        for span in spans.iter_mut() {
            while !text.is_char_boundary(span.1) {
                span.1 -= 1;
            }
        }
    }
    Ok(spans)
}

/// The text without its spans.
#[must_use]
pub fn without(text: &str, spans: &[Span]) -> String {
    let mut left = String::with_capacity(text.len());
    let mut at = 0;
    for &(start, end) in spans {
        left.push_str(&text[at..start]);
        at = end;
    }
    left.push_str(&text[at..]);
    left
}

/// Adds the copies among some rows, which are in keep order.
fn search(
    texts: &[Option<&str>],
    rows: &[usize],
    settings: &SubstringSettings,
    spans: &mut [Vec<Span>],
) -> Result<(), DedupError> {
    let mut joined = Vec::new();
    // Of each row: where it starts.
    let mut starts = Vec::with_capacity(rows.len());
    for &row in rows {
        starts.push(joined.len());
        joined.extend_from_slice(texts[row].unwrap_or("").as_bytes());
        joined.push(SEPARATOR);
    }
    let suffixes: Vec<i32> = SuffixArrayConstruction::for_text(&joined)
        .in_owned_buffer32()
        .single_threaded()
        .run()
        .map_err(|error| DedupError::SuffixArray(error.to_string()))?
        .into_vec();
    let mut copies = Bits::new(joined.len());
    let mut run: Vec<u32> = Vec::new();
    let mut end_run = |run: &mut Vec<u32>, length: usize| {
        if let Some(&first) = run.iter().min().filter(|_| run.len() > 1) {
            // Two grams of one document can overlap, those of two documents cannot.
            let mut found = false;
            for &at in run.iter().filter(|&&at| at as usize >= first as usize + length) {
                copies.set(at as usize);
                found = true;
            }
            if found && !settings.keep_first {
                run.iter().for_each(|&at| copies.set(at as usize));
            }
        }
        run.clear();
    };
    let mut gram: &[u8] = &[];
    for &suffix in &suffixes {
        let at = suffix as usize;
        let Some(length) = gram_length(&joined[at..], settings) else { continue };
        let here = &joined[at..at + length];
        if here != gram {
            end_run(&mut run, gram.len());
            gram = here;
        }
        run.push(at as u32);
    }
    end_run(&mut run, gram.len());
    drop(suffixes);
    for (place, &row) in rows.iter().enumerate() {
        let (start, length) = (starts[place], texts[row].unwrap_or("").len());
        for at in (start..start + length).filter(|&at| copies.get(at)) {
            let (from, bytes) =
                (at - start, gram_length(&joined[at..], settings).unwrap_or_default());
            match spans[row].last_mut().filter(|span| span.0 <= from && from <= span.1) {
                Some(span) => span.1 = span.1.max(from + bytes),
                None => spans[row].push((from, from + bytes)),
            }
        }
    }
    Ok(())
}

/// Bytes of the gram that starts here; none where no character starts or the document ends first.
fn gram_length(rest: &[u8], settings: &SubstringSettings) -> Option<usize> {
    let starts = |byte: u8| byte & 0xC0 != 0x80;
    if !rest.first().is_some_and(|&byte| starts(byte)) {
        return None;
    }
    let length = if settings.characters {
        let mut left = settings.min_length + 1;
        rest.iter().position(|&byte| {
            left -= usize::from(starts(byte));
            left == 0
        })?
    } else {
        settings.min_length
    };
    let gram = rest.get(..length)?;
    (!gram.contains(&SEPARATOR)).then_some(length)
}

/// Spans in order, those that touch or overlap as one.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut().filter(|last| span.0 <= last.1) {
            Some(last) => last.1 = last.1.max(span.1),
            None => merged.push(span),
        }
    }
    merged
}

/// One bit a byte of text.
struct Bits(Vec<u64>);

impl Bits {
    fn new(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 != 0
    }
}
