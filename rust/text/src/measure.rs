//! All statistics of a text: one pass that marks where things are, then one over its lines.

use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::classes::{self, CLOSER, TERMINAL};
use crate::grams::{Counter, Rule};
use crate::index::Index;
use crate::metrics::{Metric, Metrics};
use crate::phrases::{self, Phrase};
use crate::stop_words;
use crate::vocabulary::{
    ENDS_CLAUSE, HAS_LETTER, IN_PHRASE, IS_CAPITALS, IS_STOP_WORD, IS_UNIT, IS_WORD, Judge,
    STOP_WORD_SHIFT, Vocabulary,
};

/// Lines of at most so many characters are short (FineWeb, Penedo et al. 2024, §3.6).
const SHORT_LINE: usize = 30;
/// A line with a longer word is no prose (C4's published code).
const LONGEST_WORD: u32 = 1_000;
/// Marks that open a list item when a blank follows; `•` and its kin need none.
const BULLETS: &str = "-*+–—";
const STRONG_BULLETS: &str = "•‣◦▪▫■□▶►●○⁃∙·";

/// Measures texts; keeps its buffers between them.
#[derive(Default)]
pub struct Measurer {
    index: Index,
    vocabulary: Vocabulary,
    counter: Counter,
    tokens: Vec<u32>,
    spans: Vec<(u32, u32)>,
    ends: Vec<u32>,
    lines: FxHashSet<u64>,
    paragraphs: FxHashSet<u64>,
}

/// What the lines of a text add up to.
#[derive(Default)]
struct LineSums {
    lines: u64,
    chars: u64,
    longest: usize,
    bullets: u64,
    ellipses: u64,
    terminal: u64,
    short: u64,
    duplicates: u64,
    duplicate_chars: u64,
    paragraphs: u64,
    paragraph_chars: u64,
    duplicate_paragraphs: u64,
    duplicate_paragraph_chars: u64,
    open_paragraphs: u64,
    newline_run: usize,
    boilerplate: u64,
    prose_sentences: u64,
}

impl Measurer {
    /// The statistics of `text`; `lang` (ISO 639-1) chooses the stop words.
    pub fn measure(&mut self, text: &str, lang: Option<&str>) -> Metrics {
        let mut out = Metrics::default();
        let list = lang.and_then(stop_words::list);
        out.has_stop_words = list.is_some();
        let judge = Judge { stop_words: list.unwrap_or(&[]), compat: false };
        self.index.read(text, true);
        self.read_tokens(text.as_bytes(), judge);
        self.read_ends(text);
        let sums = self.read_lines(text);
        self.word_metrics(&mut out);
        self.line_metrics(&sums, &mut out);
        self.character_metrics(text, &mut out);
        self.gram_metrics(&mut out);
        out
    }

    fn read_tokens(&mut self, bytes: &[u8], judge: Judge<'_>) {
        self.tokens.clear();
        self.spans.clear();
        self.vocabulary.reset(self.index.counts.tokens as usize);
        let mut open: Option<usize> = None;
        for (number, block) in self.index.blocks.iter().enumerate() {
            // Every first byte of a token is also a place before which an open token ends.
            let mut stops = block.stop;
            while stops != 0 {
                let bit = stops.trailing_zeros();
                stops &= stops - 1;
                let at = (number * 64 + bit as usize).min(bytes.len());
                if let Some(from) = open.take() {
                    self.tokens.push(self.vocabulary.number(bytes, from, at, judge));
                    self.spans.push((from as u32, at as u32));
                }
                if block.start >> bit & 1 == 1 {
                    open = Some(at);
                }
            }
        }
    }

    /// Places right after the ends of sentences.
    fn read_ends(&mut self, text: &str) {
        self.ends.clear();
        let table = classes::table();
        for (number, block) in self.index.blocks.iter().enumerate() {
            let mut bits = block.terminal;
            while bits != 0 {
                let at = number * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let is_ascii = text.as_bytes()[at] < 0x80;
                let mut rest = text[at..].chars();
                let mut end = at + rest.next().map_or(0, char::len_utf8);
                let mut next = rest.next();
                if next.is_some_and(|c| table[c as usize] & TERMINAL != 0) {
                    // Of a run like `?!` or `...` only the last mark ends the sentence.
                    continue;
                }
                while let Some(c) = next.filter(|&c| table[c as usize] & CLOSER != 0) {
                    end += c.len_utf8();
                    next = rest.next();
                }
                // `3.14` and `v1.2` go on; full-width marks end a sentence wherever they stand.
                if !is_ascii || next.is_none_or(char::is_whitespace) {
                    self.ends.push(end as u32);
                }
            }
        }
    }

    fn read_lines(&mut self, text: &str) -> LineSums {
        let mut sums = LineSums::default();
        self.lines.clear();
        self.paragraphs.clear();
        let (mut token, mut end, mut run) = (0, 0, 0);
        let mut paragraph: Option<(usize, usize)> = None;
        let mut start = 0;
        for line in text.split('\n') {
            let stop = start + line.len();
            let trimmed = line.trim();
            run = if line.is_empty() { run + 1 } else { 1 };
            sums.newline_run = sums.newline_run.max(if stop < text.len() { run } else { 0 });
            let first_token = token;
            while self.spans.get(token).is_some_and(|span| (span.0 as usize) < stop) {
                token += 1;
            }
            let first_end = end;
            while self.ends.get(end).is_some_and(|&at| at as usize <= stop) {
                end += 1;
            }
            if trimmed.is_empty() {
                if let Some((from, to)) = paragraph.take() {
                    self.close_paragraph(text, from, to, end, &mut sums);
                }
            } else {
                let from = start + (trimmed.as_ptr() as usize - line.as_ptr() as usize);
                let to = from + trimmed.len();
                self.one_line(trimmed, from, first_token..token, end - first_end, &mut sums);
                paragraph = Some((paragraph.map_or(from, |open| open.0), to));
            }
            start = stop + 1;
        }
        if let Some((from, to)) = paragraph {
            self.close_paragraph(text, from, to, end, &mut sums);
        }
        sums
    }

    fn one_line(
        &mut self,
        line: &str,
        from: usize,
        tokens: std::ops::Range<usize>,
        sentences: usize,
        sums: &mut LineSums,
    ) {
        let chars = self.index.chars(from, from + line.len());
        sums.lines += 1;
        sums.chars += chars as u64;
        sums.longest = sums.longest.max(chars);
        sums.short += u64::from(chars <= SHORT_LINE);
        sums.bullets += u64::from(is_bullet(line));
        sums.ellipses += u64::from(line.ends_with("...") || line.ends_with('…'));
        let closed = ends_sentence(line);
        sums.terminal += u64::from(closed);
        if !self.lines.insert(xxh3_64(line.as_bytes())) {
            sums.duplicates += 1;
            sums.duplicate_chars += chars as u64;
        }
        let words = &self.vocabulary.words;
        let numbers = &self.tokens[tokens.clone()];
        let is = |&number: &u32, flag: u16| words[number as usize].flags & flag != 0;
        let boilerplate = numbers.iter().zip(&self.spans[tokens]).any(|(number, span)| {
            let place =
                || phrases::at(line.as_bytes(), span.0 as usize - from, span.1 as usize - from);
            is(number, IN_PHRASE) && place() == Some(Phrase::Boilerplate)
        });
        sums.boilerplate += u64::from(boilerplate);
        let enough = numbers.iter().filter(|number| is(number, IS_WORD)).take(3).count() == 3;
        let long = numbers.iter().any(|&number| words[number as usize].chars > LONGEST_WORD);
        if closed && enough && !long && !boilerplate {
            sums.prose_sentences += sentences as u64;
        }
    }

    fn close_paragraph(
        &mut self,
        text: &str,
        from: usize,
        to: usize,
        end: usize,
        sums: &mut LineSums,
    ) {
        let chars = self.index.chars(from, to) as u64;
        sums.paragraphs += 1;
        sums.paragraph_chars += chars;
        if !self.paragraphs.insert(xxh3_64(&text.as_bytes()[from..to])) {
            sums.duplicate_paragraphs += 1;
            sums.duplicate_paragraph_chars += chars;
        }
        // A paragraph without a closing mark at its end holds one sentence more.
        let closed = end > 0 && self.ends[end - 1] as usize >= to;
        sums.open_paragraphs += u64::from(!closed);
    }

    fn word_metrics(&mut self, out: &mut Metrics) {
        let (mut words, mut letters, mut capitals, mut units, mut stops) =
            (0u64, 0u64, 0u64, 0u64, 0u64);
        let (mut unique, mut chars, mut which_stops) = (0u64, 0u64, 0u64);
        let mut logs = 0.0;
        for word in &self.vocabulary.words {
            let count = u64::from(word.count);
            letters += if word.flags & HAS_LETTER != 0 { count } else { 0 };
            if word.flags & IS_WORD == 0 {
                continue;
            }
            unique += 1;
            words += count;
            chars += count * u64::from(word.chars);
            capitals += if word.flags & IS_CAPITALS != 0 { count } else { 0 };
            units += if word.flags & IS_UNIT != 0 { count } else { 0 };
            if word.flags & IS_STOP_WORD != 0 {
                stops += count;
                // Lists are far shorter than 64 words.
                which_stops |= 1 << (word.flags >> STOP_WORD_SHIFT & 63);
            }
            logs += count as f64 * (count as f64).log2();
        }
        let tokens = self.tokens.len() as u64;
        let total = words as f64;
        out.count(Metric::Words, words);
        out.count(Metric::SymbolWords, tokens - words);
        out.count(Metric::UniqueWords, unique);
        out.ratio(Metric::MeanWordLength, chars as f64, total);
        out.ratio(Metric::UniqueWordShare, unique as f64, total);
        out.set(Metric::WordEntropy, if words > 0 { total.log2() - logs / total } else { 0.0 });
        out.ratio(Metric::AlphaWordShare, letters as f64, tokens as f64);
        out.ratio(Metric::CapitalWordShare, capitals as f64, total);
        out.ratio(Metric::UnitShare, units as f64, total);
        out.count(Metric::StopWords, u64::from(which_stops.count_ones()));
        out.ratio(Metric::StopWordShare, stops as f64, total);
        let (mut run, mut longest) = (0u64, 0u64);
        for &token in &self.tokens {
            let flags = self.vocabulary.words[token as usize].flags;
            run += u64::from(flags & IS_WORD != 0);
            longest = longest.max(run);
            if flags & ENDS_CLAUSE != 0 {
                run = 0;
            }
        }
        out.count(Metric::LongestClause, longest);
    }

    fn line_metrics(&self, sums: &LineSums, out: &mut Metrics) {
        let (lines, tokens) = (sums.lines as f64, self.tokens.len() as f64);
        let counts = &self.index.counts;
        out.count(Metric::Lines, sums.lines);
        out.count(Metric::Paragraphs, sums.paragraphs);
        out.count(Metric::Sentences, self.ends.len() as u64 + sums.open_paragraphs);
        out.count(Metric::ProseSentences, sums.prose_sentences);
        out.count(Metric::BoilerplateLines, sums.boilerplate);
        out.count(Metric::LongestLine, sums.longest as u64);
        out.count(Metric::LongestNewlineRun, sums.newline_run as u64);
        out.ratio(Metric::BulletLineShare, sums.bullets as f64, lines);
        out.ratio(Metric::EllipsisLineShare, sums.ellipses as f64, lines);
        out.ratio(Metric::TerminalLineShare, sums.terminal as f64, lines);
        out.ratio(Metric::ShortLineShare, sums.short as f64, lines);
        out.ratio(Metric::MeanLineLength, sums.chars as f64, lines);
        out.ratio(Metric::NewlinesPerWord, counts.newlines as f64, tokens);
        out.ratio(Metric::NewlineShare, counts.newlines as f64, counts.chars as f64);
        out.ratio(Metric::DuplicateLineShare, sums.duplicates as f64, lines);
        out.ratio(Metric::DuplicateLineCharShare, sums.duplicate_chars as f64, sums.chars as f64);
        let text_chars = counts.chars - counts.newlines;
        out.ratio(Metric::DuplicateTextCharShare, sums.duplicate_chars as f64, text_chars as f64);
        let paragraphs = sums.paragraphs as f64;
        out.ratio(Metric::DuplicateParagraphShare, sums.duplicate_paragraphs as f64, paragraphs);
        out.ratio(
            Metric::DuplicateParagraphCharShare,
            sums.duplicate_paragraph_chars as f64,
            sums.paragraph_chars as f64,
        );
    }

    fn character_metrics(&self, text: &str, out: &mut Metrics) {
        let counts = &self.index.counts;
        let tokens = self.tokens.len() as f64;
        let chars = counts.chars as f64;
        let solid = counts.chars - counts.spaces;
        let ellipses = if counts.has_ellipsis {
            text.matches("...").count() + text.matches('…').count()
        } else {
            0
        };
        let anomalous_solid = counts.anomalous - counts.anomalous_spaces;
        let known = counts.letters + counts.digits + counts.marks + anomalous_solid;
        out.count(Metric::Chars, counts.chars);
        out.ratio(Metric::HashWordRatio, counts.hashes as f64, tokens);
        out.ratio(Metric::EllipsisWordRatio, ellipses as f64, tokens);
        out.ratio(Metric::LetterShare, counts.letters as f64, solid as f64);
        out.ratio(Metric::DigitShare, counts.digits as f64, solid as f64);
        out.ratio(Metric::UpperShare, counts.upper as f64, counts.letters as f64);
        out.ratio(Metric::PunctuationShare, solid.saturating_sub(known) as f64, solid as f64);
        out.ratio(Metric::AnomalousShare, counts.anomalous as f64, chars);
        out.ratio(Metric::MarkupShare, markup_chars(text, counts.has_markup) as f64, chars);
        out.ratio(Metric::BlankShare, counts.spaces as f64, chars);
        out.ratio(Metric::HanShare, counts.han as f64, solid as f64);
        out.count(Metric::EndsWithColon, u64::from(text.trim_end().ends_with([':', '：'])));
        out.count(Metric::CurlyBrackets, counts.braces);
        let filler = self.tokens.iter().zip(&self.spans).filter(|(number, span)| {
            self.vocabulary.words[**number as usize].flags & IN_PHRASE != 0
                && phrases::at(text.as_bytes(), span.0 as usize, span.1 as usize)
                    == Some(Phrase::Filler)
        });
        out.count(Metric::LoremIpsum, filler.count() as u64);
    }

    fn gram_metrics(&mut self, out: &mut Metrics) {
        let grams = self.counter.count(&self.tokens, &self.vocabulary.words, Rule::Covered);
        let chars: u64 =
            self.vocabulary.words.iter().map(|w| u64::from(w.count) * u64::from(w.chars)).sum();
        let top = [Metric::Top2GramShare, Metric::Top3GramShare, Metric::Top4GramShare];
        for (metric, value) in top.into_iter().zip(grams.top) {
            out.ratio(metric, value as f64, chars as f64);
        }
        let duplicate = [
            Metric::Duplicate5GramShare,
            Metric::Duplicate6GramShare,
            Metric::Duplicate7GramShare,
            Metric::Duplicate8GramShare,
            Metric::Duplicate9GramShare,
            Metric::Duplicate10GramShare,
        ];
        for (metric, value) in duplicate.into_iter().zip(grams.duplicate) {
            out.ratio(metric, value as f64, chars as f64);
        }
    }
}

/// `- item`, `* item`, `• item`; but not `-5 degrees`.
fn is_bullet(line: &str) -> bool {
    let mut chars = line.chars();
    let first = chars.next().unwrap_or(' ');
    STRONG_BULLETS.contains(first)
        || BULLETS.contains(first) && chars.next().is_none_or(char::is_whitespace)
}

fn ends_sentence(line: &str) -> bool {
    let table = classes::table();
    let closed = line.trim_end_matches(|c: char| table[c as usize] & CLOSER != 0);
    closed.chars().next_back().is_some_and(|c| table[c as usize] & TERMINAL != 0)
}

/// Characters inside `<tags>` and `&entities;`.
fn markup_chars(text: &str, has_any: bool) -> usize {
    const LONGEST_TAG: usize = 300;
    const LONGEST_ENTITY: usize = 12;
    if !has_any {
        return 0;
    }
    let (bytes, mut at, mut chars) = (text.as_bytes(), 0, 0);
    while let Some(next) = bytes[at..].iter().position(|b| matches!(b, b'<' | b'&')) {
        at += next;
        let (close, most) =
            if bytes[at] == b'<' { (b'>', LONGEST_TAG) } else { (b';', LONGEST_ENTITY) };
        let window = &bytes[at + 1..bytes.len().min(at + 1 + most)];
        let opens = window.first().is_some_and(|b| {
            b.is_ascii_alphabetic() || matches!((close, b), (b'>', b'/' | b'!') | (b';', b'#'))
        });
        match window.iter().position(|&b| b == close).filter(|_| opens) {
            Some(length)
                if close == b'>' || window[1..length].iter().all(u8::is_ascii_alphanumeric) =>
            {
                let end = at + length + 2;
                chars += String::from_utf8_lossy(&bytes[at..end]).chars().count();
                at = end;
            }
            _ => at += 1,
        }
    }
    chars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, metric: Metric) -> f64 {
        Measurer::default().measure(text, Some("en")).get(metric)
    }

    #[test]
    fn empty_and_symbol_texts_are_finite() {
        for text in ["", "\n\n", "!!! ???", "\u{200b}", "\0", " "] {
            let metrics = Measurer::default().measure(text, Some("en"));
            assert!(metrics.values().iter().all(|value| value.is_finite()), "{text:?}");
        }
    }

    #[test]
    fn sentences_in_any_script() {
        let zh = "今天下雨。我们在家。你呢？好的！他来了。我们走。";
        assert_eq!(value(zh, Metric::Sentences), 6.0);
        assert_eq!(value("Pi is 3.14 in v1.2. Yes!\nNo \"really?\"", Metric::Sentences), 3.0);
        assert_eq!(value("no end\n\nno end either", Metric::Sentences), 2.0);
        assert_eq!(value("Wait... what?!", Metric::Sentences), 2.0);
    }

    #[test]
    fn blank_lines_are_no_duplicates() {
        let text: String = (0..10).map(|i| format!("Sentence number {i}.\n\n\n\n")).collect();
        assert_eq!(value(&text, Metric::DuplicateLineShare), 0.0);
        assert_eq!(value(&text, Metric::DuplicateParagraphShare), 0.0);
        assert_eq!(value("a\na\nb\na\n", Metric::DuplicateLineShare), 0.5);
    }

    #[test]
    fn bullets() {
        for mark in ["- ", "* ", "• ", "‣ ", "  - "] {
            let text = format!("{mark}item\n").repeat(20);
            assert_eq!(value(&text, Metric::BulletLineShare), 1.0, "{mark}");
        }
        assert_eq!(value("-5 degrees at night", Metric::BulletLineShare), 0.0);
    }

    #[test]
    fn words_and_stop_words() {
        let text = "The cat and the dog, 2 of them -- sleep";
        assert_eq!(value(text, Metric::Words), 9.0);
        assert_eq!(value(text, Metric::SymbolWords), 1.0);
        assert_eq!(value(text, Metric::StopWords), 3.0);
        assert_eq!(value("中文文本", Metric::Words), 4.0);
        assert!(!Measurer::default().measure(text, None).has_stop_words);
    }

    #[test]
    fn markup_and_newlines() {
        assert_eq!(value("a <b>x</b> &amp; 1 < 2", Metric::MarkupShare), 12.0 / 22.0);
        assert_eq!(value("a\n\n\n\nb\n", Metric::LongestNewlineRun), 4.0);
        assert_eq!(value("x:", Metric::EndsWithColon), 1.0);
    }
}
