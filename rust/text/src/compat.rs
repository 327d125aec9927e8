//! Line statistics as datatrove 0.10 defines them, where they differ from ours.
//!
//! Its three filters each cut lines in another way: Gopher quality at every Unicode line break,
//! blank lines included; Gopher repetition at runs of line feeds; FineWeb at line feeds, without
//! blank lines, compared and measured with the blanks around them.

use xxhash_rust::xxh3::xxh3_64;

use crate::c4;
use crate::classes::{self, SPACE, TERMINAL};
use crate::index::Index;
use crate::lines::{Repeats, ends_with_ellipsis};
use crate::measure::SHORT_LINE;
use crate::metrics::{Metric, Metrics};
use crate::spacy;

/// Whose words datatrove's filters count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// What blanks part, as the Gopher paper counts.
    Blanks,
    /// spaCy's English tokens, as datatrove cuts texts unless told otherwise.
    Spacy,
}

/// Overwrites the line statistics of `metrics`.
pub fn line_metrics(text: &str, index: &Index, repeats: &mut Repeats, metrics: &mut Metrics) {
    let chars = index.counts.chars as f64;
    gopher_quality(text, metrics);
    repeats.reset(0);
    split_runs(trim_end(trim_start(text)), 2, |part| push(text, index, repeats, part));
    metrics.ratio(Metric::DuplicateParagraphShare, repeats.repeated as f64, repeats.total as f64);
    metrics.ratio(Metric::DuplicateParagraphCharShare, repeats.repeated_chars as f64, chars);
    repeats.reset(index.counts.newlines);
    split_runs(text, 1, |part| push(text, index, repeats, part));
    metrics.ratio(Metric::DuplicateLineShare, repeats.repeated as f64, repeats.total as f64);
    metrics.ratio(Metric::DuplicateLineCharShare, repeats.repeated_chars as f64, chars);
    fineweb(text, index, repeats, metrics);
}

/// What C4's filter says of the page, in its own sentences: phrases and brackets on lines that it
/// reads up to the one that drops the page, and sentences on lines that it keeps.
pub fn c4_metrics(
    text: &str,
    words: Option<&spacy::Words>,
    filter: &mut c4::Filter,
    metrics: &mut Metrics,
) {
    let options = c4::Options::default();
    let outcome = match words {
        Some(words) => filter.judge(text, words, &options, None),
        None => filter.run(text, &options, None),
    };
    let reason = |reason| u64::from(outcome.reason == Some(reason));
    metrics.count(Metric::LoremIpsum, reason(c4::Reason::LoremIpsum));
    metrics.count(Metric::CurlyBrackets, reason(c4::Reason::CurlyBracket));
    metrics.count(Metric::BoilerplateLines, outcome.lines.javascript + outcome.lines.policy);
    metrics.count(Metric::ProseSentences, outcome.sentences);
}

fn push(text: &str, index: &Index, repeats: &mut Repeats, part: &str) {
    repeats.push(xxh3_64(part.as_bytes()), chars(text, index, part) as u64);
}

/// Characters of a part of `text`.
fn chars(text: &str, index: &Index, part: &str) -> usize {
    let from = part.as_ptr() as usize - text.as_ptr() as usize;
    index.chars(from, from + part.len())
}

fn gopher_quality(text: &str, metrics: &mut Metrics) {
    let (mut lines, mut bullets, mut ellipses) = (0u64, 0u64, 0u64);
    split_lines(text, |line| {
        lines += 1;
        bullets += u64::from(trim_start(line).starts_with(['•', '-']));
        ellipses += u64::from(ends_with_ellipsis(trim_end(line)));
    });
    metrics.ratio(Metric::BulletLineShare, bullets as f64, lines as f64);
    metrics.ratio(Metric::EllipsisLineShare, ellipses as f64, lines as f64);
}

/// What line feeds part.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    let mut from = 0;
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
    ends.map(move |to| {
        let line = &text[from..to];
        from = to + 1;
        line
    })
}

fn fineweb(text: &str, index: &Index, repeats: &mut Repeats, metrics: &mut Metrics) {
    let table = classes::table();
    let (mut lines, mut terminal, mut short) = (0u64, 0u64, 0u64);
    repeats.reset(index.counts.newlines);
    for line in lines_of(text).filter(|line| !trim_start(line).is_empty()) {
        let last = line.chars().next_back().unwrap_or(' ');
        let chars = chars(text, index, line);
        lines += 1;
        terminal += u64::from(table[last as usize] & TERMINAL != 0);
        short += u64::from(chars <= SHORT_LINE);
        repeats.push(xxh3_64(line.as_bytes()), chars as u64);
    }
    let text_chars = (index.counts.chars - index.counts.newlines) as f64;
    metrics.ratio(Metric::TerminalLineShare, terminal as f64, lines as f64);
    metrics.ratio(Metric::ShortLineShare, short as f64, lines as f64);
    metrics.ratio(Metric::DuplicateTextCharShare, repeats.repeated_chars as f64, text_chars);
}

/// Python's `str.lstrip`, to which the separators U+001C to U+001F are blanks too.
pub fn trim_start(text: &str) -> &str {
    let table = classes::table();
    text.trim_start_matches(|c: char| table[c as usize] & SPACE != 0)
}

/// Python's `str.rstrip`.
pub fn trim_end(text: &str) -> &str {
    let table = classes::table();
    text.trim_end_matches(|c: char| table[c as usize] & SPACE != 0)
}

/// Parts of `text` between runs of at least `least` line feeds.
fn split_runs<'a>(text: &'a str, least: usize, mut part: impl FnMut(&'a str)) {
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while let Some(offset) = memchr::memchr(b'\n', &bytes[at..]) {
        at += offset;
        let run = bytes[at..].iter().take_while(|&&byte| byte == b'\n').count();
        if run >= least {
            part(&text[from..at]);
            from = at + run;
        }
        at += run;
    }
    part(&text[from..]);
}

/// Lines as Python's `str.splitlines` cuts them.
pub fn split_lines<'a>(text: &'a str, mut line: impl FnMut(&'a str)) {
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while let Some(offset) = bytes[at..].iter().position(|&byte| MAY_BREAK[usize::from(byte)]) {
        at += offset;
        let width = match &bytes[at..] {
            [b'\r', b'\n', ..] | [0xc2, 0x85, ..] => 2,
            [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
            [0xc2 | 0xe2, ..] => {
                at += 1;
                continue;
            }
            _ => 1,
        };
        line(&text[from..at]);
        at += width;
        from = at;
    }
    if from < text.len() {
        line(&text[from..]);
    }
}

/// Bytes that are a line break of Python's or begin one: U+0085, U+2028 and U+2029 are those of more
/// than one byte.
static MAY_BREAK: [bool; 256] = {
    let mut table = [false; 256];
    let breaks = *b"\n\r\x0b\x0c\x1c\x1d\x1e\xc2\xe2";
    let mut at = 0;
    while at < breaks.len() {
        table[breaks[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_lines() {
        let lines = |text| {
            let mut out = Vec::new();
            split_lines(text, |line| out.push(line));
            out
        };
        assert_eq!(lines("a\r\nb\u{2028}c\n\n"), ["a", "b", "c", ""]);
        assert_eq!(lines(""), Vec::<&str>::new());
    }

    #[test]
    fn runs() {
        let runs = |text, least| {
            let mut out = Vec::new();
            split_runs(text, least, |part| out.push(part));
            out
        };
        assert_eq!(runs("\na\n\nb\nc\n", 1), ["", "a", "b", "c", ""]);
        assert_eq!(runs("a\nb\n\n\nc", 2), ["a\nb", "c"]);
    }
}
