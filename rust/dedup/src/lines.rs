//! Lines or paragraphs that other documents have too.
//!
//! A piece stays in the first document, in keep order, that has it, as often as it stands there;
//! in all others it is cut. Repetition within one document is no reason to cut. Pieces that are
//! short, list items, tables and fenced code stay everywhere unless asked for: they are equal in
//! many documents without being copied.

use std::borrow::Cow;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use xxhash_rust::xxh3::xxh3_128;

use crate::classes::{Class, Classes};

/// What counts as a repeated piece.
#[derive(Debug, Clone, Copy)]
pub struct LineSettings {
    /// Runs of lines between blank ones, instead of single lines.
    pub paragraphs: bool,
    /// Letters and digits a piece has at least; those of scripts without spaces count three.
    pub min_chars: usize,
    /// Documents that have a piece before it is cut, at least 2.
    pub min_documents: usize,
    /// Case, composition, punctuation and spacing do not count.
    pub fold: bool,
    /// Cut list items and rows of tables too.
    pub lists: bool,
}

/// A document without the pieces that others have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// What is left.
    pub text: String,
    /// Pieces that were cut.
    pub pieces: u32,
}

/// A line with its end, and to which piece it belongs.
struct Line<'a> {
    text: &'a str,
    blank: bool,
    piece: usize,
}

type Key = [u64; 2];

/// Bytes that a piece takes while its documents are counted; twice where shares of threads are joined.
const A_PIECE: usize = 2 * size_of::<(Key, u32)>();

/// Pieces that several documents have, and which of these keeps each.
///
/// `count` all documents, then `settle`; where they hold more pieces than fit in memory, so for one
/// share after another. Then `cut` them.
#[derive(Debug, Clone)]
pub struct RepeatedLines {
    settings: LineSettings,
    seen: Vec<(Key, u32)>,
    owners: FxHashMap<Key, u32>,
}

impl RepeatedLines {
    /// Nothing is counted yet.
    #[must_use]
    pub fn new(settings: &LineSettings) -> Self {
        Self { settings: *settings, seen: Vec::new(), owners: FxHashMap::default() }
    }

    /// Into how many shares the pieces of texts of so many bytes are to be parted, for `memory` bytes.
    #[must_use]
    pub fn shares(settings: &LineSettings, bytes: usize, memory: usize) -> u64 {
        // What counts three has three bytes, so a piece has a byte at least for all that it needs.
        let most = bytes / settings.min_chars.max(1);
        most.saturating_mul(A_PIECE).div_ceil(memory.max(1)).max(1) as u64
    }

    /// Counts the pieces of one share that some documents have.
    ///
    /// `skip` marks rows that are left alone, and whose pieces do not count (code); it may be empty.
    pub fn count(
        &mut self,
        texts: &[Option<&str>],
        skip: &[bool],
        rank: &[u32],
        (share, shares): (u64, u64),
    ) {
        let settings = &self.settings;
        self.seen.par_extend((0..texts.len()).into_par_iter().flat_map_iter(|row| {
            let text = texts[row].filter(|_| !skipped(skip, row));
            let keys = text.map(|text| cut(text, settings).1).unwrap_or_default();
            let here = move |key: &Key| key[1] % shares.max(1) == share;
            keys.into_iter().flatten().filter(here).map(move |key| (key, rank[row]))
        }));
    }

    /// Ends a share: of its pieces those of enough documents are kept in mind.
    pub fn settle(&mut self) {
        let mut seen = std::mem::take(&mut self.seen);
        seen.par_sort_unstable();
        seen.dedup();
        let needed = self.settings.min_documents.max(2);
        // Of each the first document.
        let runs = seen.chunk_by(|one, two| one.0 == two.0);
        self.owners.extend(runs.filter(|run| run.len() >= needed).map(|run| run[0]));
    }

    /// The edited text of each row from which something is cut, none for the others; rows are some
    /// of those that were counted, each with its `skip` and `rank`.
    #[must_use]
    pub fn cut(&self, texts: &[Option<&str>], skip: &[bool], rank: &[u32]) -> Vec<Option<Edited>> {
        (0..texts.len())
            .into_par_iter()
            .map(|row| {
                let text = texts[row].filter(|_| !skipped(skip, row))?;
                let (lines, keys) = cut(text, &self.settings);
                let elsewhere = |key| self.owners.get(&key).is_some_and(|&o| o != rank[row]);
                let copies: Vec<bool> = keys.iter().map(|key| key.is_some_and(elsewhere)).collect();
                let pieces = copies.iter().filter(|&&copy| copy).count() as u32;
                (pieces > 0).then(|| Edited { text: join(&lines, &copies), pieces })
            })
            .collect()
    }
}

fn skipped(skip: &[bool], row: usize) -> bool {
    skip.get(row).copied().unwrap_or(false)
}

/// The lines of a text, and the key of each piece that may be cut.
fn cut<'a>(text: &'a str, settings: &LineSettings) -> (Vec<Line<'a>>, Vec<Option<Key>>) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    // By piece: where it starts and ends, and whether it may be cut.
    let mut pieces: Vec<(usize, usize, bool)> = Vec::new();
    let (mut start, mut fence) = (0, None);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let blank = trimmed.is_empty();
        let goes_on =
            settings.paragraphs && lines.last().is_some_and(|before| !before.blank) && !blank;
        let mark = fence_mark(trimmed);
        let fenced = fence.is_some() || mark.is_some();
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            // A fence ends at a longer or equal run of the same mark, with nothing behind it.
            (Some((c, n)), Some((d, m))) if c == d && m >= n && trimmed.len() == m => fence = None,
            _ => {}
        }
        let free = !fenced && !blank && (settings.lists || !is_item(trimmed));
        match pieces.last_mut().filter(|_| goes_on) {
            Some(piece) => {
                piece.1 = start + line.len();
                piece.2 &= free;
            }
            None => pieces.push((start, start + line.len(), free)),
        }
        start += line.len();
        lines.push(Line { text: line, blank, piece: pieces.len() - 1 });
    }
    let classes = Classes::get();
    let keys = pieces
        .into_iter()
        .map(|(start, end, free)| {
            free.then(|| key(text[start..end].trim(), &classes, settings)).flatten()
        })
        .collect();
    (lines, keys)
}

/// The lines that are left; where pieces were cut no blank lines pile up.
fn join(lines: &[Line<'_>], copies: &[bool]) -> String {
    let mut text = String::new();
    let (mut cut_here, mut last_blank) = (false, true);
    for line in lines {
        if copies[line.piece] {
            cut_here = true;
        } else if !(cut_here && line.blank && last_blank) {
            text.push_str(line.text);
            (cut_here, last_blank) = (cut_here && line.blank, line.blank);
        }
    }
    if cut_here || lines.last().is_some_and(|line| copies[line.piece]) {
        text.truncate(text.trim_end().len());
        if lines.last().is_some_and(|line| line.text.ends_with('\n')) && !text.is_empty() {
            text.push('\n');
        }
    }
    text
}

/// Hash of what counts of a piece; none where that is too short.
fn key(piece: &str, classes: &Classes, settings: &LineSettings) -> Option<Key> {
    let composed: Cow<'_, str> = match is_nfc_quick(piece.chars()) {
        _ if !settings.fold => Cow::Borrowed(piece),
        IsNormalized::Yes => Cow::Borrowed(piece),
        _ => Cow::Owned(piece.nfc().collect()),
    };
    let (mut folded, mut chars) = (Vec::with_capacity(piece.len()), 0);
    for c in composed.chars() {
        let class = classes.class(c).0;
        chars += match class {
            Class::Word => 1,
            Class::Single => 3,
            Class::Gap | Class::Ignored => continue,
        };
        if settings.fold {
            classes.push_folded(c, &mut folded);
        }
    }
    let bytes = if settings.fold { &folded } else { piece.as_bytes() };
    let hash = xxh3_128(bytes);
    (chars >= settings.min_chars.max(1)).then_some([(hash >> 64) as u64, hash as u64])
}

/// The mark of a fence of code and how often it stands there.
fn fence_mark(line: &str) -> Option<(char, usize)> {
    let c = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let count = line.chars().take_while(|&d| d == c).count();
    (count >= 3).then_some((c, count))
}

/// Whether a line is an item of a list or a row of a table.
fn is_item(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_numeric());
    if rest.len() < line.len() {
        return rest.starts_with(['.', ')', '、', '．', '）']);
    }
    if line.starts_with(['•', '‣', '·', '◦', '●', '○', '■', '|']) {
        return true;
    }
    line.strip_prefix(['-', '*', '+', '–']).is_some_and(|rest| rest.starts_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "Subscribe to our newsletter and never miss a story about the tides.";
    const SETTINGS: LineSettings = LineSettings {
        paragraphs: false,
        min_chars: 20,
        min_documents: 2,
        fold: true,
        lists: false,
    };

    fn run(texts: &[&str], settings: &LineSettings) -> Vec<Option<String>> {
        let rows: Vec<Option<&str>> = texts.iter().map(|&text| Some(text)).collect();
        let rank: Vec<u32> = (0..texts.len() as u32).collect();
        let run = |shares| {
            let mut lines = RepeatedLines::new(settings);
            for share in 0..shares {
                for row in 0..rows.len() {
                    let one = row..=row;
                    lines.count(&rows[one.clone()], &[], &rank[one], (share, shares));
                }
                lines.settle();
            }
            lines.cut(&rows, &[], &rank)
        };
        let edited = run(1);
        assert_eq!(edited, run(3), "share by share");
        edited.into_iter().map(|edited| edited.map(|edited| edited.text)).collect()
    }

    #[test]
    fn lines_go_without_leaving_gaps() {
        let copy = format!("One\n\n{}\n\nTwo\n", LONG.to_uppercase());
        let got =
            run(&[LONG, &copy, &format!("{LONG}\n{LONG}"), &format!("a\n\n{LONG}")], &SETTINGS);
        let want = [None, Some("One\n\nTwo\n"), Some(""), Some("a")];
        assert_eq!(got, want.map(|text: Option<&str>| text.map(str::to_owned)));
    }

    #[test]
    fn items_code_and_repetition_within_stay() {
        let item = format!("- {LONG}");
        let code = format!("```\n{LONG}\n```");
        assert_eq!(run(&[&item, &item], &SETTINGS), [None, None]);
        assert_eq!(run(&[&code, &code], &SETTINGS), [None, None]);
        assert_eq!(run(&[&format!("{LONG}\n{LONG}")], &SETTINGS), [None]);
        let lists = LineSettings { lists: true, ..SETTINGS };
        assert_eq!(run(&[&item, &item], &lists), [None, Some(String::new())]);
    }

    #[test]
    fn shares_by_memory() {
        assert_eq!(RepeatedLines::shares(&SETTINGS, 1_000, 1 << 20), 1);
        assert_eq!(
            RepeatedLines::shares(&SETTINGS, 1_000_000, 48 * 5_000),
            10 * A_PIECE as u64 / 48
        );
        assert_eq!(RepeatedLines::shares(&SETTINGS, 0, 0), 1);
    }

    #[test]
    fn paragraphs_count_as_a_whole() {
        let one = format!("{LONG}\nfirst end");
        let two = format!("{LONG}\nsecond end\n\n{LONG}\nfirst end\n\nlast");
        let settings = LineSettings { paragraphs: true, ..SETTINGS };
        let want = format!("{LONG}\nsecond end\n\nlast");
        assert_eq!(run(&[&one, &two], &settings), [None, Some(want)]);
    }
}
