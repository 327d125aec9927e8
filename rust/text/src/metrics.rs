//! The public table of statistics: names, order and kind, one `f64` each.

macro_rules! metrics {
    ($($variant:ident $name:literal $kind:ident $doc:literal;)*) => {
        /// One statistic of a text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Metric { $(#[doc = $doc] $variant),* }

        impl Metric {
            /// Every statistic, in the order of the table.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant),*];

            /// Column name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name),* }
            }

            /// Whether it is a whole number.
            #[must_use]
            pub fn is_count(self) -> bool {
                match self { $(Metric::$variant => metrics!(@count $kind)),* }
            }

            /// What it means, in a line.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self { $(Metric::$variant => $doc.trim_ascii()),* }
            }

            /// The statistic of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Metric> {
                match name { $($name => Some(Metric::$variant),)* _ => None }
            }
        }
    };
    (@count count) => { true };
    (@count ratio) => { false };
}

metrics! {
    Chars "chars" count "Characters (code points).";
    Words "words" count "Words: tokens with a letter or digit. Blanks part tokens; each Han, kana, Hangul, Thai … character is a token.";
    SymbolWords "symbol_words" count "Tokens without letter or digit.";
    UniqueWords "unique_words" count "Different words.";
    Sentences "sentences" count "Sentences, by the sentence-ending punctuation of any script; the open end of a paragraph counts as one.";
    Lines "lines" count "Lines that are not blank.";
    Paragraphs "paragraphs" count "Blocks of lines parted by blank lines.";
    MeanWordLength "mean_word_length" ratio "Characters a word.";
    UniqueWordShare "unique_word_share" ratio "Different words by words.";
    WordEntropy "word_entropy" ratio "Shannon entropy of the word frequencies, in bits a word.";
    AlphaWordShare "alpha_word_share" ratio "Share of tokens with a letter.";
    CapitalWordShare "capital_word_share" ratio "Share of words in capitals only.";
    StopWords "stop_words" count "Different stop words of the record's language (0 where the language has no list).";
    StopWordShare "stop_word_share" ratio "Share of words that are stop words.";
    HashWordRatio "hash_word_ratio" ratio "`#` characters by tokens.";
    EllipsisWordRatio "ellipsis_word_ratio" ratio "`...` and `…` by tokens.";
    BulletLineShare "bullet_line_share" ratio "Share of lines that start with a list mark.";
    EllipsisLineShare "ellipsis_line_share" ratio "Share of lines that end with an ellipsis.";
    TerminalLineShare "terminal_line_share" ratio "Share of lines that end a sentence (closing quotes and brackets may follow).";
    ShortLineShare "short_line_share" ratio "Share of lines of at most 30 characters.";
    MeanLineLength "mean_line_length" ratio "Characters a line.";
    LongestLine "longest_line" count "Characters of the longest line.";
    NewlinesPerWord "newlines_per_word" ratio "Line feeds by tokens.";
    NewlineShare "newline_share" ratio "Line feeds by characters.";
    LongestNewlineRun "longest_newline_run" count "Line feeds in the longest run of them.";
    DuplicateLineShare "duplicate_line_share" ratio "Share of lines seen before in the text.";
    DuplicateLineCharShare "duplicate_line_char_share" ratio "Their share of the lines' characters.";
    DuplicateTextCharShare "duplicate_text_char_share" ratio "Characters of repeated lines by all characters but line feeds.";
    DuplicateParagraphShare "duplicate_paragraph_share" ratio "Share of paragraphs seen before in the text.";
    DuplicateParagraphCharShare "duplicate_paragraph_char_share" ratio "Their share of the paragraphs' characters.";
    Top2GramShare "top_2gram_share" ratio "Share of token characters in the most frequent pair of tokens (0 when none occurs twice).";
    Top3GramShare "top_3gram_share" ratio "The same for three tokens.";
    Top4GramShare "top_4gram_share" ratio "The same for four tokens.";
    Duplicate5GramShare "duplicate_5gram_share" ratio "Share of token characters inside repetitions of an earlier 5-gram, each counted once.";
    Duplicate6GramShare "duplicate_6gram_share" ratio "The same for 6-grams.";
    Duplicate7GramShare "duplicate_7gram_share" ratio "The same for 7-grams.";
    Duplicate8GramShare "duplicate_8gram_share" ratio "The same for 8-grams.";
    Duplicate9GramShare "duplicate_9gram_share" ratio "The same for 9-grams.";
    Duplicate10GramShare "duplicate_10gram_share" ratio "The same for 10-grams.";
    LetterShare "letter_share" ratio "Letters by characters that are not blank.";
    DigitShare "digit_share" ratio "Digits by characters that are not blank.";
    UpperShare "upper_share" ratio "Upper-case letters by letters.";
    PunctuationShare "punctuation_share" ratio "Punctuation and symbols by characters that are not blank.";
    AnomalousShare "anomalous_share" ratio "Control, invisible, private-use and replacement characters by all characters.";
    MarkupShare "markup_share" ratio "Characters inside HTML tags and entities by all characters.";
    BlankShare "blank_share" ratio "Blanks by characters.";
    HanShare "han_share" ratio "Han ideographs by characters that are not blank.";
    UnitShare "unit_share" ratio "Words that are a single character of a script without blanks, by words.";
    LongestClause "longest_clause" count "Most words in a row without any punctuation that ends a clause.";
    EndsWithColon "ends_with_colon" count "1 when the text ends with a colon.";
    CurlyBrackets "curly_brackets" count "`{` characters.";
    LoremIpsum "lorem_ipsum" count "Occurrences of the filler phrase.";
    BoilerplateLines "boilerplate_lines" count "Lines that mention JavaScript or a cookie, privacy or usage policy.";
    ProseSentences "prose_sentences" count "Sentences on lines that C4 keeps: ended by punctuation, three words or more, no word over 1,000 characters, no boilerplate.";
    CompressionRatio "compression_ratio" ratio "Bytes of the text as one LZ4 block by its bytes (0 for an empty text; slightly above 1 for a short one): low where text repeats. Measured only where it is asked for.";
}

/// How many statistics there are.
pub const METRICS: usize = Metric::ALL.len();

/// All statistics of one text. Every value is finite, whatever the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    values: [f64; METRICS],
    /// Whether stop words could be counted: the language was given and has a list.
    pub has_stop_words: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { values: [0.0; METRICS], has_stop_words: false }
    }
}

impl Metrics {
    /// The value of one statistic.
    #[must_use]
    pub fn get(&self, metric: Metric) -> f64 {
        self.values[metric as usize]
    }

    /// All values in the order of [`Metric::ALL`].
    #[must_use]
    pub fn values(&self) -> &[f64; METRICS] {
        &self.values
    }

    pub(crate) fn set(&mut self, metric: Metric, value: f64) {
        debug_assert!(value.is_finite(), "{}", metric.name());
        self.values[metric as usize] = value;
    }

    pub(crate) fn count(&mut self, metric: Metric, value: impl TryInto<u64>) {
        self.set(metric, value.try_into().map_or(0.0, |value| value as f64));
    }

    /// Sets `part / whole`, and 0 where there is no whole.
    pub(crate) fn ratio(&mut self, metric: Metric, part: f64, whole: f64) {
        self.set(metric, if whole > 0.0 { part / whole } else { 0.0 });
    }
}
