//! All statistics of a text: one pass of bitmaps, one over its tokens and lines, one over the
//! places where something repeats.

use xxhash_rust::xxh3::xxh3_64;

use crate::compat;
use crate::grams::{self, Grams};
use crate::index::Index;
use crate::lines::{self, Repeats};
use crate::markup::markup_chars;
use crate::metrics::{Metric, Metrics};
use crate::phrases::{self, Phrase};
use crate::sentences::{self, line_ends_sentence};
use crate::stop_words;
use crate::vocabulary::{
    ENDS_CLAUSE, HAS_LETTER, IN_PHRASE, IS_CAPITALS, IS_STOP_WORD, IS_UNIT, IS_WORD, Judge,
    STOP_WORD_SHIFT, Vocabulary,
};

/// Lines of at most this many characters are short (FineWeb, Penedo et al. 2024, §3.6).
pub const SHORT_LINE: usize = 30;
/// A longer word takes its line out of C4's count.
const LONGEST_WORD: u32 = 1000;

/// Measures texts one after the other, reusing its buffers.
#[derive(Default)]
pub struct Measurer {
    index: Index,
    vocabulary: Vocabulary,
    tokens: Vec<u32>,
    grams: grams::Counter,
    lines: Repeats,
    paragraphs: Repeats,
}

/// What the walk over lines adds up.
#[derive(Default)]
struct Totals {
    lines: u64,
    line_chars: u64,
    longest_line: usize,
    bullets: u64,
    ellipses: u64,
    terminal: u64,
    short: u64,
    sentences: u64,
    prose_sentences: u64,
    boilerplate: u64,
    filler: u64,
    longest_clause: u64,
    longest_newlines: u64,
}

/// State of the paragraph under way.
#[derive(Default)]
struct Paragraph {
    open: bool,
    hash: u64,
    chars: u64,
    /// Words in a row without clause punctuation.
    clause: u64,
    /// A word has begun since the last sentence end.
    sentence_open: bool,
}

/// What the tokens of a line say.
#[derive(Default)]
struct LineWords {
    words: u64,
    longest: u32,
    boilerplate: bool,
    /// First byte of the last word.
    last: Option<usize>,
}

impl Measurer {
    /// Statistics of `text`, a record in `language` (ISO 639-1) if that is known.
    pub fn measure(&mut self, text: &str, language: Option<&str>) -> Metrics {
        self.run(text, language, false)
    }

    /// The same with datatrove's definitions on words parted by blanks.
    pub fn measure_compat(&mut self, text: &str) -> Metrics {
        self.run(text, Some("en"), true)
    }

    fn run(&mut self, text: &str, language: Option<&str>, is_compat: bool) -> Metrics {
        let list = language.and_then(stop_words::list);
        let (number, stop_words) = list.unwrap_or((0, &[]));
        let judge = Judge { list: number, stop_words, compat: is_compat };
        let mut metrics = Metrics::default();
        metrics.has_stop_words = list.is_some();
        self.index.read(text, !is_compat);
        self.vocabulary.reset(self.index.counts.tokens as usize);
        self.tokens.clear();
        self.lines.reset();
        self.paragraphs.reset();
        let totals = self.walk(text, judge);
        let rule = if is_compat { grams::Rule::Datatrove } else { grams::Rule::Covered };
        let grams = self.grams.count(&self.tokens, &self.vocabulary.words, rule);
        self.character_metrics(&mut metrics, text);
        self.word_metrics(&mut metrics);
        self.line_metrics(&mut metrics, &totals);
        self.gram_metrics(&mut metrics, &grams, is_compat);
        if is_compat {
            compat::line_metrics(text, &self.index, &mut self.lines, &mut metrics);
        }
        metrics
    }

    fn walk(&mut self, text: &str, judge: Judge<'_>) -> Totals {
        let mut totals = Totals::default();
        let mut paragraph = Paragraph::default();
        let (mut from, mut newlines) = (0, 0);
        for block in 0..self.index.blocks.len() {
            let mut bits = self.index.blocks[block].newline;
            while bits != 0 {
                let to = block * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                newlines = if to == from { newlines + 1 } else { 1 };
                totals.longest_newlines = totals.longest_newlines.max(newlines);
                self.line(text, from, to, judge, &mut totals, &mut paragraph);
                from = to + 1;
            }
        }
        self.line(text, from, text.len(), judge, &mut totals, &mut paragraph);
        self.end_paragraph(&mut totals, &mut paragraph);
        totals
    }

    #[inline(always)]
    fn line(
        &mut self,
        text: &str,
        from: usize,
        to: usize,
        judge: Judge<'_>,
        totals: &mut Totals,
        paragraph: &mut Paragraph,
    ) {
        let whole = &text[from..to];
        let line = whole.trim();
        if line.is_empty() {
            self.end_paragraph(totals, paragraph);
            return;
        }
        let start = from + (whole.len() - whole.trim_start().len());
        let end = start + line.len();
        let words = self.line_tokens(text, start, end, judge, totals, paragraph);
        let chars = self.index.chars(start, end);
        let hash = xxh3_64(line.as_bytes());
        self.lines.push(hash, chars as u64);
        paragraph.open = true;
        paragraph.hash = lines::join(paragraph.hash, hash);
        paragraph.chars += chars as u64;

        let ends = sentences::ends(text, &self.index.blocks, start, end);
        totals.sentences += ends.count;
        paragraph.sentence_open = match words.last {
            Some(word) if ends.count > 0 => word >= ends.last,
            Some(_) => true,
            None => paragraph.sentence_open && ends.count == 0,
        };
        let has_ellipsis = self.index.counts.has_ellipsis && lines::ends_with_ellipsis(line);
        let is_terminal = line_ends_sentence(line);
        let is_prose = is_terminal && !has_ellipsis && words.words >= 3;
        if is_prose && words.longest <= LONGEST_WORD && !words.boilerplate {
            totals.prose_sentences += ends.count.max(1);
        }
        totals.lines += 1;
        totals.line_chars += chars as u64;
        totals.longest_line = totals.longest_line.max(chars);
        totals.bullets += u64::from(lines::starts_with_bullet(line));
        totals.ellipses += u64::from(has_ellipsis);
        totals.terminal += u64::from(is_terminal);
        totals.short += u64::from(chars <= SHORT_LINE);
        totals.boilerplate += u64::from(words.boilerplate);
    }

    /// Numbers the tokens that start in `from..to`.
    #[inline(always)]
    fn line_tokens(
        &mut self,
        text: &str,
        from: usize,
        to: usize,
        judge: Judge<'_>,
        totals: &mut Totals,
        paragraph: &mut Paragraph,
    ) -> LineWords {
        let mut line = LineWords::default();
        let (first, last) = (from / 64, (to - 1) / 64);
        for block in first..=last {
            let bitmap = self.index.blocks[block];
            let mut starts = bitmap.start;
            if block == first {
                starts &= !0 << (from % 64);
            }
            if block == last {
                starts &= !0 >> (63 - (to - 1) % 64);
            }
            while starts != 0 {
                let bit = starts.trailing_zeros();
                starts &= starts - 1;
                let start = block * 64 + bit as usize;
                let stops = bitmap.stop & (!1u64 << bit);
                let end = if stops == 0 {
                    self.next_stop(block + 1).min(text.len())
                } else {
                    block * 64 + stops.trailing_zeros() as usize
                };
                let number = self.vocabulary.number(text, start, end, judge);
                self.tokens.push(number);
                let word = self.vocabulary.words[number as usize];
                if word.flags & IS_WORD != 0 {
                    line.words += 1;
                    line.last = Some(start);
                    paragraph.clause += 1;
                }
                line.longest = line.longest.max(word.chars);
                if word.flags & (ENDS_CLAUSE | IN_PHRASE) != 0 {
                    if word.flags & ENDS_CLAUSE != 0 {
                        totals.longest_clause = totals.longest_clause.max(paragraph.clause);
                        paragraph.clause = 0;
                    }
                    if word.flags & IN_PHRASE != 0 {
                        match phrases::at(text.as_bytes(), start, end) {
                            Some(Phrase::Filler) => totals.filler += 1,
                            Some(Phrase::Boilerplate) => line.boilerplate = true,
                            None => {}
                        }
                    }
                }
            }
        }
        line
    }

    fn next_stop(&self, from: usize) -> usize {
        for (block, bitmap) in self.index.blocks.iter().enumerate().skip(from) {
            if bitmap.stop != 0 {
                return block * 64 + bitmap.stop.trailing_zeros() as usize;
            }
        }
        usize::MAX
    }

    fn end_paragraph(&mut self, totals: &mut Totals, paragraph: &mut Paragraph) {
        if !paragraph.open {
            return;
        }
        self.paragraphs.push(paragraph.hash, paragraph.chars);
        totals.sentences += u64::from(paragraph.sentence_open);
        totals.longest_clause = totals.longest_clause.max(paragraph.clause);
        *paragraph = Paragraph::default();
    }

    fn character_metrics(&self, metrics: &mut Metrics, text: &str) {
        use Metric::{
            AnomalousShare, BlankShare, Chars, CurlyBrackets, DigitShare, EllipsisWordRatio,
            EndsWithColon, HanShare, LetterShare, MarkupShare, NewlineShare, PunctuationShare,
            UpperShare,
        };
        let counts = &self.index.counts;
        let all = counts.chars as f64;
        let visible = (counts.chars - counts.spaces) as f64;
        let known = counts.letters
            + counts.digits
            + counts.marks
            + (counts.anomalous - counts.anomalous_spaces);
        metrics.count(Chars, counts.chars);
        metrics.ratio(LetterShare, counts.letters as f64, visible);
        metrics.ratio(DigitShare, counts.digits as f64, visible);
        metrics.ratio(UpperShare, counts.upper as f64, counts.letters as f64);
        metrics.ratio(PunctuationShare, visible - known as f64, visible);
        metrics.ratio(HanShare, counts.han as f64, visible);
        metrics.ratio(AnomalousShare, counts.anomalous as f64, all);
        metrics.ratio(BlankShare, counts.spaces as f64, all);
        metrics.ratio(NewlineShare, counts.newlines as f64, all);
        metrics.count(CurlyBrackets, counts.braces);
        let markup = if counts.has_markup { markup_chars(text) } else { 0 };
        metrics.ratio(MarkupShare, (markup as f64).min(all), all);
        let ellipses = if counts.has_ellipsis {
            text.matches("...").count() + text.matches('…').count()
        } else {
            0
        };
        metrics.ratio(EllipsisWordRatio, ellipses as f64, counts.tokens as f64);
        metrics.count(EndsWithColon, u64::from(text.trim_end().ends_with([':', '：'])));
    }

    fn word_metrics(&self, metrics: &mut Metrics) {
        use Metric::{
            AlphaWordShare, CapitalWordShare, MeanWordLength, StopWordShare, StopWords,
            SymbolWords, UniqueWordShare, UniqueWords, UnitShare, WordEntropy, Words,
        };
        let (mut words, mut unique, mut chars, mut letters, mut capitals) = (0u64, 0u64, 0, 0, 0);
        let (mut stops, mut stop_total, mut units, mut logs) = (0u64, 0u64, 0u64, 0.0);
        for word in &self.vocabulary.words {
            let count = u64::from(word.count);
            let of = |flag: u16| if word.flags & flag != 0 { count } else { 0 };
            letters += of(HAS_LETTER);
            if word.flags & IS_WORD != 0 {
                words += count;
                unique += 1;
                chars += count * u64::from(word.chars);
                capitals += of(IS_CAPITALS);
                units += of(IS_UNIT);
                if word.count > 1 {
                    logs += count as f64 * (count as f64).log2();
                }
            }
            if word.flags & IS_STOP_WORD != 0 {
                // Lists are far shorter than 64 words.
                stops |= 1u64 << (word.flags >> STOP_WORD_SHIFT & 63);
                stop_total += count;
            }
        }
        let tokens = self.tokens.len() as f64;
        let total = words as f64;
        metrics.count(Words, words);
        metrics.count(SymbolWords, self.tokens.len() as u64 - words);
        metrics.count(UniqueWords, unique);
        metrics.ratio(MeanWordLength, chars as f64, total);
        metrics.ratio(UniqueWordShare, unique as f64, total);
        // H = log2 n − Σ c·log2 c / n.
        let entropy = if words > 0 { (total.log2() - logs / total).max(0.0) } else { 0.0 };
        metrics.set(WordEntropy, entropy);
        metrics.ratio(AlphaWordShare, letters as f64, tokens);
        metrics.ratio(CapitalWordShare, capitals as f64, total);
        metrics.count(StopWords, u64::from(stops.count_ones()));
        metrics.ratio(StopWordShare, stop_total as f64, total);
        metrics.ratio(UnitShare, units as f64, total);
    }

    fn line_metrics(&self, metrics: &mut Metrics, totals: &Totals) {
        use Metric::{
            BoilerplateLines, BulletLineShare, DuplicateLineCharShare, DuplicateLineShare,
            DuplicateParagraphCharShare, DuplicateParagraphShare, DuplicateTextCharShare,
            EllipsisLineShare, Lines, LongestClause, LongestLine, LongestNewlineRun, LoremIpsum,
            MeanLineLength, Paragraphs, ProseSentences, Sentences, ShortLineShare,
            TerminalLineShare,
        };
        let counts = &self.index.counts;
        let lines = totals.lines as f64;
        metrics.count(Lines, totals.lines);
        metrics.count(Sentences, totals.sentences);
        metrics.count(Paragraphs, self.paragraphs.total);
        metrics.ratio(BulletLineShare, totals.bullets as f64, lines);
        metrics.ratio(EllipsisLineShare, totals.ellipses as f64, lines);
        metrics.ratio(TerminalLineShare, totals.terminal as f64, lines);
        metrics.ratio(ShortLineShare, totals.short as f64, lines);
        metrics.ratio(MeanLineLength, totals.line_chars as f64, lines);
        metrics.count(LongestLine, totals.longest_line as u64);
        metrics.count(LongestNewlineRun, totals.longest_newlines);
        metrics.count(LongestClause, totals.longest_clause);
        metrics.count(LoremIpsum, totals.filler);
        metrics.count(BoilerplateLines, totals.boilerplate);
        metrics.count(ProseSentences, totals.prose_sentences);
        let repeated = |metrics: &mut Metrics, from: &Repeats, share, char_share| {
            metrics.ratio(share, from.repeated as f64, from.total as f64);
            metrics.ratio(char_share, from.repeated_chars as f64, from.total_chars as f64);
        };
        repeated(metrics, &self.lines, DuplicateLineShare, DuplicateLineCharShare);
        repeated(metrics, &self.paragraphs, DuplicateParagraphShare, DuplicateParagraphCharShare);
        let text_chars = (counts.chars - counts.newlines) as f64;
        metrics.ratio(DuplicateTextCharShare, self.lines.repeated_chars as f64, text_chars);
    }

    fn gram_metrics(&self, metrics: &mut Metrics, grams: &Grams, is_compat: bool) {
        use Metric::{
            Duplicate5GramShare, Duplicate6GramShare, Duplicate7GramShare, Duplicate8GramShare,
            Duplicate9GramShare, Duplicate10GramShare, HashWordRatio, NewlinesPerWord,
            Top2GramShare, Top3GramShare, Top4GramShare,
        };
        let words = &self.vocabulary.words;
        let token_chars: u64 = words.iter().map(|w| u64::from(w.count) * u64::from(w.chars)).sum();
        let whole = if is_compat { self.index.counts.chars } else { token_chars } as f64;
        let top = [Top2GramShare, Top3GramShare, Top4GramShare];
        for (metric, chars) in top.into_iter().zip(grams.top) {
            metrics.ratio(metric, chars as f64, whole);
        }
        let duplicate = [
            Duplicate5GramShare,
            Duplicate6GramShare,
            Duplicate7GramShare,
            Duplicate8GramShare,
            Duplicate9GramShare,
            Duplicate10GramShare,
        ];
        for (metric, chars) in duplicate.into_iter().zip(grams.duplicate) {
            metrics.ratio(metric, chars as f64, whole);
        }
        let tokens = self.tokens.len() as f64;
        metrics.ratio(HashWordRatio, self.index.counts.hashes as f64, tokens);
        metrics.ratio(NewlinesPerWord, self.index.counts.newlines as f64, tokens);
    }
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
        assert_eq!(value("Wait... What?!", Metric::Sentences), 2.0);
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
