//! From counts to statistics.

use std::sync::LazyLock;

use super::{Measurer, Totals};
use crate::grams::Grams;
use crate::lines::Repeats;
use crate::markup::markup_chars;
use crate::metrics::{Metric, Metrics};
use crate::vocabulary::{HAS_LETTER, IS_CAPITALS, IS_STOP_WORD, IS_UNIT, IS_WORD, STOP_WORD_SHIFT};

/// c·log2 c of the small counts.
static LOGS: LazyLock<Vec<f64>> = LazyLock::new(|| (0..4096).map(weighted_log).collect());

fn weighted_log(count: u32) -> f64 {
    if count > 1 { f64::from(count) * f64::from(count).log2() } else { 0.0 }
}

impl Measurer {
    pub(super) fn character_metrics(&self, metrics: &mut Metrics, text: &str) {
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

    pub(super) fn word_metrics(&self, metrics: &mut Metrics) {
        use Metric::{
            AlphaWordShare, CapitalWordShare, MeanWordLength, StopWordShare, StopWords,
            SymbolWords, UniqueWordShare, UniqueWords, UnitShare, WordEntropy, Words,
        };
        let table = LOGS.as_slice();
        let (mut words, mut unique, mut chars, mut letters, mut capitals) = (0u64, 0u64, 0, 0, 0);
        let (mut stops, mut stop_total, mut units, mut logs) = (0u64, 0u64, 0u64, 0.0);
        for word in self.vocabulary.words() {
            let count = u64::from(word.count);
            let of = |flag: u16| if word.flags & flag != 0 { count } else { 0 };
            letters += of(HAS_LETTER);
            if word.flags & IS_WORD != 0 {
                words += count;
                unique += 1;
                chars += count * u64::from(word.chars);
                capitals += of(IS_CAPITALS);
                units += of(IS_UNIT);
                logs += match table.get(word.count as usize) {
                    Some(known) => *known,
                    None => weighted_log(word.count),
                };
            }
            if word.flags & IS_STOP_WORD != 0 {
                // Lists are far shorter than 64 words.
                stops |= 1u64 << (word.flags >> STOP_WORD_SHIFT & 63);
                stop_total += count;
            }
        }
        let tokens = self.tokens.numbers.len() as f64;
        let total = words as f64;
        metrics.count(Words, words);
        metrics.count(SymbolWords, self.tokens.numbers.len() as u64 - words);
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

    pub(super) fn line_metrics(&self, metrics: &mut Metrics, totals: &Totals) {
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

    pub(super) fn gram_metrics(
        &self,
        metrics: &mut Metrics,
        grams: &Grams,
        token_chars: u32,
        is_compat: bool,
    ) {
        use Metric::{
            Duplicate5GramShare, Duplicate6GramShare, Duplicate7GramShare, Duplicate8GramShare,
            Duplicate9GramShare, Duplicate10GramShare, HashWordRatio, NewlinesPerWord,
            Top2GramShare, Top3GramShare, Top4GramShare,
        };
        let whole = if is_compat { self.index.counts.chars } else { token_chars.into() } as f64;
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
        let tokens = self.tokens.numbers.len() as f64;
        metrics.ratio(HashWordRatio, self.index.counts.hashes as f64, tokens);
        metrics.ratio(NewlinesPerWord, self.index.counts.newlines as f64, tokens);
    }
}
