//! Repairs that come before any rule: what is invisible, broken, blank or not the page's own text;
//! never what is said.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

use crate::blocks::{self, Kind};
use crate::boilerplate::LineRules;
use crate::characters;
use crate::citations;

/// Blank lines in a row that stay.
const BLANK_LINES: usize = 2;

/// What is repaired, in the order in which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Edit {
    /// Byte-order marks, wherever they stand.
    ByteOrderMark,
    /// NUL characters.
    Nul,
    /// Other control characters and terminal colour sequences.
    Control,
    /// Zero-width characters and soft hyphens, joiners and marks of direction that do nothing.
    ZeroWidth,
    /// CR LF, lone CR and the other line separators, made LF.
    LineEnd,
    /// Texts that were not composed (NFC or NFKC): one a text.
    Composition,
    /// Lines with blanks at their end; two spaces, a line break in Markdown, stay.
    TrailingBlanks,
    /// Blank lines beyond two in a row, and those at the text's start and end.
    BlankLines,
    /// Runs of blanks inside a line, and no-break spaces, made one space.
    BlankRuns,
    /// Citation marks: `[1]`, `[citation needed]`.
    Citations,
}

/// How many kinds of edit there are.
pub const EDITS: usize = 10;

/// Column names of the kinds of edit.
pub const EDIT_NAMES: [&str; EDITS] = [
    "byte_order_mark",
    "nul",
    "control",
    "zero_width",
    "line_end",
    "composition",
    "trailing_blanks",
    "blank_lines",
    "blank_runs",
    "citations",
];

/// How often each kind of edit was made, and how many characters it took out or replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Edits by kind.
    pub counts: [u32; EDITS],
    /// Characters by kind.
    pub characters: [u32; EDITS],
    /// Lines taken out: number of the rule, lines, characters.
    pub lines: Vec<(usize, u32, u32)>,
}

impl Edits {
    pub(crate) fn note(&mut self, edit: Edit, count: u32, characters: usize) {
        self.counts[edit as usize] += count;
        self.characters[edit as usize] += characters as u32;
    }
}

/// Unicode normalisation form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Canonical composition.
    #[default]
    Nfc,
    /// Compatibility composition, outside code and formulas: width, ligatures, superscripts go.
    Nfkc,
}

/// What to repair.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repairs<'a> {
    /// Source code keeps everything but line ends, byte-order marks and NULs: there blanks and odd
    /// characters may mean something.
    pub is_code: bool,
    /// Normalisation form.
    pub form: Form,
    /// Take out citation marks.
    pub citations: bool,
    /// Lines to take out.
    pub lines: Option<&'a LineRules>,
}

/// Repairs a text; applied twice it changes nothing more.
///
/// Fenced and indented code keeps its blanks, and code, formulas and tables keep their lines.
#[must_use]
pub fn normalise<'a>(text: &'a str, repairs: Repairs<'_>) -> (Cow<'a, str>, Edits) {
    let mut edits = Edits::default();
    let clean = characters::repair(text, repairs.is_code, &mut edits);
    if repairs.is_code || clean.is_empty() {
        return (clean, edits);
    }
    let lines = composed(&clean, repairs.form, &mut edits);
    let kinds = blocks::kinds(lines.iter().map(|line| line.as_ref()));
    let mut lines = lines;
    let may_have_runs = lines.iter().any(|line| matches!(line, Cow::Owned(_))) || has_runs(&clean);
    for (line, &kind) in lines.iter_mut().zip(&kinds) {
        tidy(line, kind, repairs.citations, may_have_runs, &mut edits);
    }
    let mut stays = vec![true; lines.len()];
    if let Some(rules) = repairs.lines {
        edits.lines = rules.apply(&lines, &kinds, &mut stays);
    }
    let joined = join(&lines, &kinds, &stays, clean.ends_with('\n'), clean.len(), &mut edits);
    if joined == text { (Cow::Borrowed(text), edits) } else { (Cow::Owned(joined), edits) }
}

/// The lines in the normalisation form asked for. A line feed composes with nothing, so lines can
/// be taken one by one.
fn composed<'a>(text: &'a str, form: Form, edits: &mut Edits) -> Vec<Cow<'a, str>> {
    // The part after the last line feed is no blank line.
    let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    let is_canonical =
        is_plainly_composed(text.as_bytes()) || is_nfc_quick(text.chars()) == IsNormalized::Yes;
    let is_done = match form {
        Form::Nfc => is_canonical,
        Form::Nfkc => text.is_ascii() || is_nfkc_quick(text.chars()) == IsNormalized::Yes,
    };
    if is_done {
        return lines.map(Cow::Borrowed).collect();
    }
    let canonical = |line: &'a str| match line.is_ascii() || is_canonical {
        true => Cow::Borrowed(line),
        false => Cow::Owned(line.nfc().collect::<String>()),
    };
    let mut composed: Vec<Cow<'a, str>> = lines.clone().map(canonical).collect();
    if form == Form::Nfkc {
        compatible(&mut composed);
    }
    let changed: usize =
        lines.zip(&composed).map(|(before, after)| changed_chars(before, after)).sum();
    edits.note(Edit::Composition, u32::from(changed > 0), changed);
    composed
}

/// Whether all characters are of blocks in which every character is its own canonical composition:
/// up to U+02FF, U+2010–U+203F, CJK punctuation and kana without combining marks, Han, full-width
/// forms. Most texts are, and this is quicker than to look each of them up.
fn is_plainly_composed(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let width = match byte {
            0..=0x7f => 1,
            0xc2..=0xcb => 2,
            0xe4..=0xe9 => 3,
            0xe2 if bytes[at + 1] == 0x80 && bytes[at + 2] >= 0x90 => 3,
            0xe3 => match (bytes[at + 1], bytes[at + 2]) {
                (0x80, 0xaa..=0xaf) | (0x82, 0x99 | 0x9a) => return false,
                (0x80..=0x83, _) => 3,
                _ => return false,
            },
            0xef if matches!(bytes[at + 1], 0xbc | 0xbd) => 3,
            _ => return false,
        };
        at += width;
    }
    true
}

/// NFKC for prose; done again where it made a fence or formula out of full-width marks, until the
/// lines in blocks are those that were left alone.
fn compatible(lines: &mut [Cow<'_, str>]) {
    let mut done = 0;
    while done < lines.len() {
        let kinds = blocks::kinds(lines.iter().map(|line| line.as_ref()));
        let mut place = done;
        done = lines.len();
        while place < lines.len() {
            if !matches!(kinds[place], Kind::Fence | Kind::Formula) && !lines[place].is_ascii() {
                let better: String = lines[place].nfkc().collect();
                if better != lines[place] {
                    let opens = ["```", "~~~", "$$", "\\[", "\\begin{"];
                    let is_opening = opens.iter().any(|mark| better.trim().starts_with(mark));
                    lines[place] = Cow::Owned(better);
                    if is_opening {
                        done = place + 1;
                        break;
                    }
                }
            }
            place += 1;
        }
    }
}

/// Characters of `before` that are not in `after`, between what both start and end with.
fn changed_chars(before: &str, after: &str) -> usize {
    if before == after {
        return 0;
    }
    let same = |(a, b): &(char, char)| a == b;
    let start = before.chars().zip(after.chars()).take_while(same).count();
    let all = before.chars().count();
    let room = all.min(after.chars().count()) - start;
    let end = before.chars().rev().zip(after.chars().rev()).take(room).take_while(same).count();
    (all - start - end).max(1)
}

/// Blanks and citation marks of a line.
fn tidy(
    line: &mut Cow<'_, str>,
    kind: Kind,
    citations: bool,
    may_have_runs: bool,
    edits: &mut Edits,
) {
    match kind {
        Kind::Fence => return,
        Kind::Blank => {
            if !line.is_empty() {
                edits.note(Edit::TrailingBlanks, 1, line.chars().count());
                *line = Cow::Borrowed("");
            }
            return;
        }
        _ => {}
    }
    if citations
        && matches!(kind, Kind::Prose | Kind::Table)
        && let Some((shorter, count)) = citations::without_marks(line)
    {
        edits.note(Edit::Citations, count, line.chars().count() - shorter.chars().count());
        *line = Cow::Owned(shorter);
    }
    let bare = line.trim_end();
    let tail = &line[bare.len()..];
    if !tail.is_empty() && (tail != "  " || bare.is_empty()) {
        edits.note(Edit::TrailingBlanks, 1, tail.chars().count());
        let length = bare.len();
        cut(line, length);
    }
    if may_have_runs && kind != Kind::Indented {
        single_blanks(line, edits);
    }
}

fn cut(line: &mut Cow<'_, str>, length: usize) {
    match line {
        Cow::Borrowed(text) => *text = &text[..length],
        Cow::Owned(text) => text.truncate(length),
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{a0}')
}

/// Makes runs of blanks inside a line one space; its indentation and its line break stay.
fn single_blanks(line: &mut Cow<'_, str>, edits: &mut Edits) {
    let end = line.trim_end().len();
    let start = line.len() - line.trim_start_matches(is_blank).len();
    if start >= end || !has_runs(&line[start..end]) {
        return;
    }
    let mut out = String::with_capacity(line.len());
    out.push_str(&line[..start]);
    let mut rest = &line[start..end];
    while let Some(at) = rest.find(is_blank) {
        out.push_str(&rest[..at]);
        let after = rest[at..].trim_start_matches(is_blank);
        let run = &rest[at..rest.len() - after.len()];
        if matches!(run, " " | "\t") {
            out.push_str(run);
        } else {
            out.push(' ');
            edits.note(Edit::BlankRuns, 1, (run.chars().count() - 1).max(1));
        }
        rest = after;
    }
    out.push_str(rest);
    out.push_str(&line[end..]);
    *line = Cow::Owned(out);
}

/// Whether there are two blanks in a row, or a no-break space.
fn has_runs(text: &str) -> bool {
    let bytes = text.as_bytes();
    let blank = |byte: u8| u8::from(byte == b' ') | u8::from(byte == b'\t');
    // Blocks without a branch inside, so that they are looked at many bytes at once.
    let block = |(left, right): (&[u8], &[u8])| {
        left.iter().zip(right).fold(0, |found, (&a, &b)| {
            found | (blank(a) & blank(b)) | (u8::from(a == 0xc2) & u8::from(b == 0xa0))
        }) != 0
    };
    !bytes.is_empty() && bytes.chunks(512).zip(bytes[1..].chunks(512)).any(block)
}

/// The lines that stay, without blank lines at the ends and with two in a row at most.
fn join(
    lines: &[Cow<'_, str>],
    kinds: &[Kind],
    stays: &[bool],
    ends_with_feed: bool,
    size: usize,
    edits: &mut Edits,
) -> String {
    let mut out = String::with_capacity(size);
    let mut blank = 0;
    let mut is_first = true;
    for ((line, &kind), _) in lines.iter().zip(kinds).zip(stays).filter(|(_, stays)| **stays) {
        if kind == Kind::Blank {
            blank += 1;
            continue;
        }
        let kept = if is_first { 0 } else { blank.min(BLANK_LINES) };
        edits.note(Edit::BlankLines, (blank - kept) as u32, blank - kept);
        if !is_first {
            out.push('\n');
        }
        out.extend(std::iter::repeat_n('\n', kept));
        out.push_str(line);
        (blank, is_first) = (0, false);
    }
    edits.note(Edit::BlankLines, blank as u32, blank);
    if ends_with_feed && !is_first {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prose(text: &str) -> String {
        normalise(text, Repairs::default()).0.into_owned()
    }

    #[test]
    fn repairs() {
        assert_eq!(prose("\u{feff}a\r\nb\rc\0"), "a\nb\nc");
        assert_eq!(prose("e\u{301} \u{200b}x"), "é x");
        assert_eq!(prose("a \t\n\n\n\n\nb  \nc"), "a\n\n\nb  \nc");
        assert_eq!(prose("\n\n  def f():\n      pass\n\n"), "  def f():\n      pass\n");
        assert_eq!(prose("👩\u{200d}👩 می\u{200c}خواهم"), "👩\u{200d}👩 می\u{200c}خواهم");
        assert_eq!(prose(" \n \u{3000}\n"), "");
        assert_eq!(prose("Unter\u{ad}nehmen"), "Unternehmen");
        assert_eq!(prose("\u{1b}[1;32mgreen\u{1b}[m tea"), "green tea");
        assert_eq!(prose("a   b\u{a0}c \t d\te"), "a b c d\te");
    }

    #[test]
    fn code_keeps_its_blanks() {
        let code = "\u{feff}a  =  1 \r\n\n\n\n\nb = '\u{200b}'\0\n";
        let as_code = Repairs { is_code: true, ..Repairs::default() };
        assert_eq!(normalise(code, as_code).0, "a  =  1 \n\n\n\n\nb = '\u{200b}'\n");
        let fenced = "text  x\n```py\na  =  1   \n\n\n\n\nb\n```\ny   z";
        assert_eq!(prose(fenced), "text x\n```py\na  =  1   \n\n\n\n\nb\n```\ny z");
        assert_eq!(prose("    x  =  1"), "    x  =  1");
    }

    #[test]
    fn compatibility_forms() {
        let wide = Repairs { form: Form::Nfkc, ..Repairs::default() };
        let nfkc = |text: &str| normalise(text, wide).0.into_owned();
        assert_eq!(nfkc("ＡＢＣ ﬁn ①\n```\nＡ ²\n```\n$$\nx²\n$$\nx²"), {
            "ABC fin 1\n```\nＡ ²\n```\n$$\nx²\n$$\nx2"
        });
        // A fence that only NFKC makes one: what is inside it stays, on the second time too.
        let odd = "｀｀｀\nＡ\n｀｀｀\nＢ";
        assert_eq!(nfkc(&nfkc(odd)), nfkc(odd));
    }

    #[test]
    fn edits_are_counted_by_kind() {
        let (_, edits) =
            normalise("\u{feff}a\0 \u{1}\u{200b}\r\ne\u{301}\n\n\n\n\nb   c", Repairs::default());
        assert_eq!(edits.counts, [1, 1, 1, 1, 1, 1, 1, 2, 1, 0]);
        assert_eq!(edits.characters, [1, 1, 1, 1, 1, 2, 1, 2, 2, 0]);
        let clean = "A clean text.\n\nWith two paragraphs.\n";
        let (same, edits) = normalise(clean, Repairs::default());
        assert!(matches!(same, Cow::Borrowed(_)));
        assert_eq!(edits, Edits::default());
    }

    #[test]
    fn twice_is_once() {
        for text in [
            "a\u{200b}\r\n  \r\n\u{200b}\r\nb",
            "x \u{200b} ",
            "\u{1}\n\u{1}\na",
            "a  \r",
            "e\u{200b}\u{301}",
            "```\n\n",
            "\n```\n  \n\n\n",
            "~~~\n```\n~~~\n\n\n\n\nx",
            "\u{1b}[3\u{1b}[1m2m",
        ] {
            let once = prose(text);
            assert_eq!(prose(&once), once, "{text:?}");
        }
    }
}
