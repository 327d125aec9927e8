//! C4's line filter as datatrove 0.10 runs it: which lines stay, and whether the page does.

use crate::classes::{self, SPACE};
use crate::compat;
use crate::spacy::{self, Tokenizer, is_digit};

/// What the filter asks of lines; bounds below 0 are not asked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Judge lines; otherwise sentences.
    pub by_line: bool,
    /// Take out `[1]`, `[edit]`, `[citation needed]`.
    pub remove_citations: bool,
    /// A line must end with `.`, `?`, `!` or a straight quotation mark, and not with `...`.
    pub end_punctuation: bool,
    /// Sentences that must stay.
    pub min_sentences: i64,
    /// Words that a line must have.
    pub min_words: i64,
    /// Characters that no word of a line may pass.
    pub max_word_chars: i64,
    /// Drop pages with "lorem ipsum".
    pub lorem_ipsum: bool,
    /// Drop lines that mention JavaScript.
    pub javascript: bool,
    /// Drop pages with `{`.
    pub curly_bracket: bool,
    /// Drop lines about cookies, privacy and terms of use.
    pub policy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            by_line: true,
            remove_citations: true,
            end_punctuation: true,
            min_sentences: 5,
            min_words: 3,
            max_word_chars: 1000,
            lorem_ipsum: true,
            javascript: true,
            curly_bracket: true,
            policy: true,
        }
    }
}

/// Why a page is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// "lorem ipsum".
    LoremIpsum,
    /// `{`.
    CurlyBracket,
    /// Too few sentences stay.
    TooFewSentences,
}

impl Reason {
    /// Its name, as datatrove gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LoremIpsum => "lorem_ipsum",
            Self::CurlyBracket => "curly_bracket",
            Self::TooFewSentences => "too_few_sentences",
        }
    }
}

/// Lines by what became of them, up to the one that drops the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// All.
    pub total: u64,
    /// A word is too long.
    pub too_long_word: u64,
    /// No mark at the end.
    pub no_terminal_punctuation: u64,
    /// Too few words.
    pub too_few_words: u64,
    /// JavaScript.
    pub javascript: u64,
    /// Cookies, privacy, terms of use.
    pub policy: u64,
    /// Kept.
    pub kept: u64,
}

/// What the filter says of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why it is dropped; none where it is kept.
    pub reason: Option<Reason>,
    /// Sentences on kept lines.
    pub sentences: u64,
    /// Lines by fate.
    pub lines: Lines,
}

/// Runs the filter, keeping its buffers.
#[derive(Default)]
pub struct Filter {
    page: Tokenizer,
    edited: Tokenizer,
    line: String,
    lower: Vec<u8>,
    pieces: Vec<(usize, usize)>,
}

/// Which phrases the page may hold, so that most lines are not searched.
struct Phrases {
    lorem_ipsum: bool,
    javascript: bool,
    policy: bool,
}

const POLICIES: [&str; 6] = [
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
];

impl Filter {
    /// Judges `text`, adding the lines that stay to `kept`; parted by line feeds, or by blanks where
    /// sentences are judged.
    pub fn run(&mut self, text: &str, options: &Options, kept: Option<&mut String>) -> Outcome {
        self.page.read(text);
        let page = std::mem::take(&mut self.page);
        let outcome = self.judge(text, page.words(), options, kept);
        self.page = page;
        outcome
    }

    /// The same over words that were read from `text`.
    pub fn judge(
        &mut self,
        text: &str,
        words: &spacy::Words,
        options: &Options,
        mut kept: Option<&mut String>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let phrases = self.phrases(text, options);
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        if options.by_line {
            split_lines(text, |from, to| pieces.push((from, to)));
        } else {
            spacy::sentence_pieces(text, words, |from, to| pieces.push((from, to)));
        }
        let mut next = 0;
        for &(from, to) in &pieces {
            let line = trim(&text[from..to]);
            let (line, is_edited) = match self.line(line, options, &mut outcome) {
                Some(is_edited) if is_edited => (self.line.as_str(), true),
                Some(_) => (line, false),
                None => continue,
            };
            if has_phrase(line, &mut self.lower, phrases.lorem_ipsum, &["lorem ipsum"]) {
                outcome.reason = Some(Reason::LoremIpsum);
            } else if has_phrase(line, &mut self.lower, phrases.javascript, &["javascript"]) {
                outcome.lines.javascript += 1;
                continue;
            } else if options.curly_bracket && line.contains('{') {
                outcome.reason = Some(Reason::CurlyBracket);
            } else if has_phrase(line, &mut self.lower, phrases.policy, &POLICIES) {
                outcome.lines.policy += 1;
                continue;
            }
            if outcome.reason.is_some() {
                break;
            }
            if options.min_sentences != -1 {
                outcome.sentences += if !options.by_line {
                    1
                } else if is_edited {
                    self.edited.sentences(line)
                } else {
                    let from = line.as_ptr() as usize - text.as_ptr() as usize;
                    spacy::count_sentences(text, words, from, from + line.len(), &mut next)
                };
            }
            outcome.lines.kept += 1;
            if let Some(kept) = kept.as_deref_mut() {
                if outcome.lines.kept > 1 {
                    kept.push(if options.by_line { '\n' } else { ' ' });
                }
                kept.push_str(line);
            }
        }
        self.pieces = pieces;
        if outcome.reason.is_none() && (outcome.sentences as i64) < options.min_sentences {
            outcome.reason = Some(Reason::TooFewSentences);
        }
        if let Some(kept) = kept {
            let trimmed = trim(kept);
            if trimmed.len() < kept.len() {
                *kept = trimmed.to_owned();
            }
        }
        outcome
    }

    /// Whether the line passes the rules on words and its end; true where `self.line` is its edited
    /// form.
    fn line(&mut self, line: &str, options: &Options, outcome: &mut Outcome) -> Option<bool> {
        let lines = &mut outcome.lines;
        lines.total += 1;
        let table = classes::table();
        let words =
            || line.split(|c: char| table[c as usize] & SPACE != 0).filter(|w| !w.is_empty());
        let longest = usize::try_from(options.max_word_chars).unwrap_or(usize::MAX);
        // A line of fewer bytes has no such word.
        if options.max_word_chars != -1
            && line.len() > longest
            && words().any(|word| word.len() > longest && word.chars().count() > longest)
        {
            lines.too_long_word += 1;
            return None;
        }
        let is_edited = options.remove_citations && without_citations(line, &mut self.line);
        let edited = if is_edited { self.line.as_str() } else { line };
        if options.end_punctuation
            && (!edited.ends_with(['.', '?', '!', '"', '\'']) || edited.ends_with("..."))
        {
            lines.no_terminal_punctuation += 1;
            return None;
        }
        let least = usize::try_from(options.min_words).unwrap_or(0);
        if words().take(least).count() < least {
            lines.too_few_words += 1;
            return None;
        }
        Some(is_edited)
    }

    fn phrases(&mut self, text: &str, options: &Options) -> Phrases {
        lower(text, &mut self.lower);
        let has = |phrase: &str| find(&self.lower, phrase);
        Phrases {
            lorem_ipsum: options.lorem_ipsum && has("lorem ipsum"),
            javascript: options.javascript && has("javascript"),
            policy: options.policy && (has("cookie") || has("policy") || has("terms of use")),
        }
    }
}

fn has_phrase(line: &str, buffer: &mut Vec<u8>, possible: bool, phrases: &[&str]) -> bool {
    if !possible {
        return false;
    }
    lower(line, buffer);
    phrases.iter().any(|phrase| find(buffer, phrase))
}

/// Writes `text` to `out` so that phrases of ASCII letters are found in it as in its lower case.
///
/// Of other characters only the Kelvin sign has one of ASCII.
fn lower(text: &str, out: &mut Vec<u8>) {
    out.clear();
    if !text.is_ascii() && text.contains('\u{212a}') {
        out.extend_from_slice(text.replace('\u{212a}', "k").as_bytes());
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.make_ascii_lowercase();
}

/// Whether `phrase` is in `text`, both in lower case.
fn find(text: &[u8], phrase: &str) -> bool {
    memchr::memmem::find(text, phrase.as_bytes()).is_some()
}

/// Writes `line` without citations to `out` if it has any.
fn without_citations(line: &str, out: &mut String) -> bool {
    let mut rest = line;
    let mut found = false;
    while let Some(at) = rest.find('[') {
        let inside = &rest[at + 1..];
        let digits = inside.trim_start_matches(is_digit);
        let after = digits
            .strip_prefix(']')
            .or_else(|| inside.strip_prefix("edit]"))
            .or_else(|| inside.strip_prefix("citation needed]"));
        if after.is_some() && !found {
            out.clear();
            out.push_str(&line[..line.len() - rest.len()]);
            found = true;
        }
        let until = if after.is_some() { at } else { at + 1 };
        if found {
            out.push_str(&rest[..until]);
        }
        rest = after.unwrap_or(inside);
    }
    if found {
        out.push_str(rest);
    }
    found
}

fn trim(text: &str) -> &str {
    compat::trim_end(compat::trim_start(text))
}

/// Python's `str.splitlines`, as byte ranges.
fn split_lines(text: &str, mut line: impl FnMut(usize, usize)) {
    compat::split_lines(text, |part| {
        let from = part.as_ptr() as usize - text.as_ptr() as usize;
        line(from, from + part.len());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "A first line of text. And a second sentence!\n\
        Menu\n\
        Please enable JavaScript now.\n\
        It was so [1] in the year [edit]. See there[citation needed].\n\
        Our privacy policy is here for you.\n\
        Is it so? \"Yes, it is,\" he said...\n\
        And that was \"all\"";

    fn run(text: &str, options: &Options) -> (Outcome, String) {
        let mut kept = String::new();
        (Filter::default().run(text, options, Some(&mut kept)), kept)
    }

    #[test]
    fn lines_stay_or_go() {
        let (outcome, kept) = run(PAGE, &Options::default());
        let want = "A first line of text. And a second sentence!\n\
            It was so  in the year . See there.\nAnd that was \"all\"";
        assert_eq!(kept, want);
        let lines = Lines {
            total: 7,
            no_terminal_punctuation: 2,
            javascript: 1,
            policy: 1,
            kept: 3,
            ..Lines::default()
        };
        assert_eq!(outcome, Outcome { reason: None, sentences: 5, lines });
        let one_more = Options { min_sentences: 6, ..Options::default() };
        assert_eq!(run(PAGE, &one_more).0.reason, Some(Reason::TooFewSentences));
    }

    #[test]
    fn pages_go() {
        let reason = |text| run(text, &Options::default()).0.reason;
        assert_eq!(reason("This is Lorem Ipsum text."), Some(Reason::LoremIpsum));
        assert_eq!(reason("if (x) { y } is code."), Some(Reason::CurlyBracket));
        // A line that is dropped before is not asked.
        assert_eq!(reason("JavaScript { is gone."), Some(Reason::TooFewSentences));
        assert_eq!(reason("{ no mark at the end"), Some(Reason::TooFewSentences));
        assert_eq!(reason(""), Some(Reason::TooFewSentences));
    }

    #[test]
    fn words_of_a_line() {
        let options = Options { min_sentences: 1, ..Options::default() };
        assert_eq!(run("Two words.", &options).0.lines.too_few_words, 1);
        assert_eq!(run("Three words now.", &options).0.lines.kept, 1);
        let long = |n| format!("A {} word.", "é".repeat(n));
        assert_eq!(run(&long(1000), &options).0.lines.kept, 1);
        assert_eq!(run(&long(1001), &options).0.lines.too_long_word, 1);
    }

    #[test]
    fn citations() {
        let mut out = String::new();
        for (line, want) in
            [("a[1][]b[[2]]", "ab[]"), ("[٣] x [edit] y", " x  y"), ("[citation needed]", "")]
        {
            assert!(without_citations(line, &mut out));
            assert_eq!(out, want);
        }
        assert!(!without_citations("[a] [1 ] [", &mut out));
    }

    #[test]
    fn sentences_for_lines() {
        let options = Options { by_line: false, min_sentences: 2, ..Options::default() };
        let (outcome, kept) = run("One is here now. Two\nis here too. Menu", &options);
        assert_eq!(kept, "One is here now. Two\nis here too.");
        assert_eq!((outcome.reason, outcome.sentences), (None, 2));
    }

    #[test]
    fn the_kelvin_sign_is_a_letter() {
        let (outcome, _) = run("This site uses coo\u{212a}ies today.", &Options::default());
        assert_eq!(outcome.lines.policy, 1);
    }
}
