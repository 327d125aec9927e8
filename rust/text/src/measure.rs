//! All statistics of a text: one pass of bitmaps, one over its tokens and lines, one over the
//! places where something repeats.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::ascii::{self, Ascii};
use crate::c4;
use crate::compat;
use crate::grams;
use crate::index::Index;
use crate::lines::{self, Repeats};
use crate::metrics::{Metric, Metrics};
use crate::phrases::{self, Phrase};
use crate::sentences::{self, line_ends_sentence};
use crate::spacy;
use crate::stop_words;
use crate::vocabulary::{CLAUSE_SHIFT, IN_PHRASE, IS_WORD, Judge, Look, Tokens, Vocabulary};

mod figures;
#[cfg(test)]
mod tests;

/// Lines of at most this many characters are short (FineWeb, Penedo et al. 2024, §3.6).
pub const SHORT_LINE: usize = 30;
/// A longer word takes its line out of C4's count.
const LONGEST_WORD: u32 = 1000;

/// Measures texts one after the other, reusing its buffers.
#[derive(Default)]
pub struct Measurer {
    index: Index,
    vocabulary: Vocabulary,
    tokens: Tokens,
    grams: grams::Counter,
    lines: Repeats,
    paragraphs: Repeats,
    spacy: spacy::Words,
    c4: c4::Filter,
    /// Whether the words of the text under way are spaCy's.
    cut_by_spacy: bool,
    compression: bool,
    compressed: Vec<u8>,
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
    /// Whether `compression_ratio` is measured from now on, which takes about as long as all else.
    pub fn set_compression(&mut self, compression: bool) {
        self.compression = compression;
    }

    /// Bytes that its buffers hold for the texts to come, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        // Of a text of one-letter words, tokens and grams take about 35 bytes a byte, bitmaps 0.6.
        self.vocabulary.memory() + 56 * self.index.memory() + self.compressed.capacity()
    }

    /// Statistics of `text`, a record in `language` (ISO 639-1) if that is known. Of a text above
    /// 4 GiB, the first 4 GiB are measured.
    pub fn measure(&mut self, text: &str, language: Option<&str>) -> Metrics {
        self.run(text, language, None)
    }

    /// The same with datatrove's definitions.
    pub fn measure_compat(&mut self, text: &str, words: compat::Words) -> Metrics {
        self.run(text, Some("en"), Some(words))
    }

    fn run(
        &mut self,
        text: &str,
        language: Option<&str>,
        compat: Option<compat::Words>,
    ) -> Metrics {
        self.cut_by_spacy = compat == Some(compat::Words::Spacy);
        let list = language.and_then(stop_words::list);
        let (number, stop_words) = list.unwrap_or((0, &[]));
        let judge = Judge { list: number, stop_words, compat: compat.is_some() };
        let text = within_limit(text);
        let mut metrics = self.dispatch(text, judge);
        metrics.has_stop_words = list.is_some();
        if self.compression {
            let bytes = self.compressed_bytes(text) as f64;
            metrics.ratio(Metric::CompressionRatio, bytes, text.len() as f64);
        }
        metrics
    }

    fn compressed_bytes(&mut self, text: &str) -> usize {
        self.compressed.resize(lz4_flex::block::get_maximum_output_size(text.len()), 0);
        // The room is what the library asks for.
        lz4_flex::block::compress_into(text.as_bytes(), &mut self.compressed).unwrap_or(0)
    }

    #[cfg(target_arch = "x86_64")]
    fn dispatch(&mut self, text: &str, judge: Judge<'_>) -> Metrics {
        let modern = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        if modern {
            // SAFETY: the processor was just asked for each of them.
            return unsafe { self.all_modern(text, judge) };
        }
        self.all(text, judge, ascii::classify)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn dispatch(&mut self, text: &str, judge: Judge<'_>) -> Metrics {
        self.all(text, judge, ascii::classify)
    }

    /// `all`, compiled for processors of 2013 and later.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn all_modern(&mut self, text: &str, judge: Judge<'_>) -> Metrics {
        self.all(text, judge, |chunk| ascii::classify_avx2(chunk))
    }

    #[inline(always)]
    fn all(
        &mut self,
        text: &str,
        judge: Judge<'_>,
        classify: impl Fn(&[u8; 64]) -> Ascii,
    ) -> Metrics {
        let mut metrics = Metrics::default();
        self.index.read(text, !judge.compat, classify);
        let tokens = self.index.counts.tokens as usize;
        spread(self.index.blocks.iter().map(|b| b.start), tokens, &mut self.tokens.starts);
        spread(self.index.blocks.iter().map(|b| b.end), tokens, &mut self.tokens.ends);
        self.vocabulary.number(text, tokens, &mut self.tokens, judge);
        self.lines.reset(self.index.counts.newlines);
        self.paragraphs.reset(0);
        let totals = self.walk(text);
        if self.cut_by_spacy {
            self.count_spacy_words(text, judge);
        }
        let rule = if judge.compat { grams::Rule::Datatrove } else { grams::Rule::Covered };
        let grams = self.grams.count(
            &self.tokens.numbers,
            &self.tokens.reach,
            self.vocabulary.words(),
            rule,
        );
        self.character_metrics(&mut metrics, text);
        self.word_metrics(&mut metrics);
        self.line_metrics(&mut metrics, &totals);
        let token_chars = self.tokens.reach.last().copied().unwrap_or(0);
        self.gram_metrics(&mut metrics, &grams, token_chars, judge.compat);
        if judge.compat {
            compat::line_metrics(text, &self.index, &mut self.lines, &mut metrics);
            let page = self.cut_by_spacy.then_some(&self.spacy);
            compat::c4_metrics(text, page, &mut self.c4, &mut metrics);
        }
        metrics
    }

    /// Puts spaCy's words in the place of those between blanks.
    #[inline(never)]
    fn count_spacy_words(&mut self, text: &str, judge: Judge<'_>) {
        let tokens = &mut self.tokens;
        let chunks = tokens.starts.iter().zip(&tokens.ends).zip(&tokens.numbers);
        self.spacy.read(text, chunks.map(|((&from, &to), &name)| (from, to, name)), judge);
        self.vocabulary.replace(&self.spacy.words);
        tokens.numbers.clone_from(&self.spacy.tokens);
        std::mem::swap(&mut tokens.reach, &mut self.spacy.reach);
        self.index.counts.tokens = tokens.numbers.len() as u64;
    }

    #[inline(always)]
    fn walk(&mut self, text: &str) -> Totals {
        let mut totals = Totals::default();
        let mut paragraph = Paragraph::default();
        let (mut from, mut newlines, mut first, mut before) = (0, 0, 0, 0);
        for block in 0..self.index.blocks.len() {
            let bitmap = self.index.blocks[block];
            let mut bits = bitmap.newline;
            while bits != 0 {
                let bit = bits.trailing_zeros();
                let to = block * 64 + bit as usize;
                bits &= bits - 1;
                newlines = if to == from { newlines + 1 } else { 1 };
                totals.longest_newlines = totals.longest_newlines.max(newlines);
                let after = before + (bitmap.start & !(!0 << bit)).count_ones() as usize;
                self.line(text, from..to, first..after, &mut totals, &mut paragraph);
                from = to + 1;
                first = after;
            }
            before += bitmap.start.count_ones() as usize;
        }
        self.line(text, from..text.len(), first..before, &mut totals, &mut paragraph);
        self.end_paragraph(&mut totals, &mut paragraph);
        totals
    }

    /// Bytes of a line without the blanks around it.
    #[inline(always)]
    fn trimmed(&self, text: &str, line: &Range<usize>, tokens: &Range<usize>) -> Range<usize> {
        if self.index.counts.anomalous_spaces > 0 {
            // The separators U+001C to U+001F part tokens, and yet are no blanks around a line.
            let whole = &text[line.clone()];
            let from = line.start + (whole.len() - whole.trim_start().len());
            return from..from + whole.trim().len();
        }
        if tokens.is_empty() {
            return line.start..line.start;
        }
        self.tokens.starts[tokens.start] as usize..self.tokens.ends[tokens.end - 1] as usize
    }

    #[inline(always)]
    fn line(
        &mut self,
        text: &str,
        line: Range<usize>,
        tokens: Range<usize>,
        totals: &mut Totals,
        paragraph: &mut Paragraph,
    ) {
        let Range { start, end } = self.trimmed(text, &line, &tokens);
        if start == end {
            self.end_paragraph(totals, paragraph);
            return;
        }
        let line = &text[start..end];
        let words = self.line_tokens(text, tokens, totals, paragraph);
        let chars = self.index.chars(start, end);
        // A single line repeats nothing.
        let hash = if self.index.counts.newlines > 0 { xxh3_64(line.as_bytes()) } else { 0 };
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

    /// What a line's tokens say.
    #[inline(always)]
    fn line_tokens(
        &self,
        text: &str,
        tokens: Range<usize>,
        totals: &mut Totals,
        paragraph: &mut Paragraph,
    ) -> LineWords {
        let mut line = LineWords::default();
        let looks = &self.tokens.looks[tokens.clone()];
        let (mut words, mut longest, mut any) = (0, Look::default(), Look::default());
        let (mut clause, mut longest_clause) = (paragraph.clause, totals.longest_clause);
        for &look in looks {
            let flags = look.flags();
            let is_word = u64::from(flags & IS_WORD);
            longest = longest.max(look);
            any = any.or(look);
            words += is_word;
            clause += is_word;
            longest_clause = longest_clause.max(clause);
            // Back to 0 after a token that ends a clause, without a branch.
            clause &= u64::from(flags >> CLAUSE_SHIFT & 1).wrapping_sub(1);
        }
        (line.words, line.longest) = (words, longest.chars());
        (paragraph.clause, totals.longest_clause) = (clause, longest_clause);
        let last = looks.iter().rposition(|look| look.flags() & IS_WORD != 0);
        line.last = last.map(|at| self.tokens.starts[tokens.start + at] as usize);
        if any.flags() & IN_PHRASE != 0 {
            let bounds = self.tokens.starts[tokens.clone()].iter().zip(&self.tokens.ends[tokens]);
            for ((&from, &to), _) in
                bounds.zip(looks).filter(|(_, look)| look.flags() & IN_PHRASE != 0)
            {
                match phrases::at(text.as_bytes(), from as usize, to as usize) {
                    Some(Phrase::Filler) => totals.filler += 1,
                    Some(Phrase::Boilerplate) => line.boilerplate = true,
                    None => {}
                }
            }
        }
        line
    }

    #[inline(always)]
    fn end_paragraph(&mut self, totals: &mut Totals, paragraph: &mut Paragraph) {
        if !paragraph.open {
            return;
        }
        self.paragraphs.push(paragraph.hash, paragraph.chars);
        totals.sentences += u64::from(paragraph.sentence_open);
        *paragraph = Paragraph::default();
    }
}

/// Positions are kept in 32 bits.
pub fn within_limit(text: &str) -> &str {
    let mut limit = text.len().min(u32::MAX as usize - 64);
    while !text.is_char_boundary(limit) {
        limit -= 1;
    }
    &text[..limit]
}

/// Writes the places of all ones, `total` of them, to `out`.
#[inline(always)]
fn spread(bitmaps: impl Iterator<Item = u64>, total: usize, out: &mut Vec<u32>) {
    // A block writes sixteen places at once, wanted or not, which the next one overwrites: only
    // text of scripts without blanks has more.
    if out.len() < total + 64 {
        out.resize(total + 64, 0);
    }
    let mut at = 0;
    for (block, mut bits) in bitmaps.enumerate() {
        let base = block as u32 * 64;
        let count = bits.count_ones() as usize;
        let mut write = |places: &mut [u32]| {
            for place in places {
                *place = base.wrapping_add(bits.trailing_zeros());
                bits &= bits.wrapping_sub(1);
            }
        };
        write(&mut out[at..at + 16]);
        let mut written = 16;
        while written < count {
            write(&mut out[at + written..at + written + 8]);
            written += 8;
        }
        at += count;
    }
}
