//! Repairs that come before any rule: what is invisible, broken or blank, never what is said.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::classes::{self, ANOMALOUS};

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
    /// Zero-width characters and soft hyphens (not the joiners that scripts and emoji need).
    ZeroWidth,
    /// CR LF, lone CR and the other line separators, made LF.
    LineEnd,
    /// Texts that were not composed (NFC): one a text.
    Composition,
    /// Lines with blanks at their end; two spaces, a line break in Markdown, stay.
    TrailingBlanks,
    /// Blank lines beyond two in a row, and those at the text's start and end.
    BlankLines,
    /// Runs of blanks inside a line, and no-break spaces, made one space.
    BlankRuns,
}

/// How many kinds of edit there are.
pub const EDITS: usize = 9;

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
];

/// How often each kind of edit was made.
pub type Edits = [u32; EDITS];

/// Repairs a text; applied twice it changes nothing more.
///
/// Source code keeps everything but line ends, byte-order marks and NULs: there blanks and odd
/// characters may mean something. In other texts fenced blocks keep their blanks.
#[must_use]
pub fn normalise(text: &str, is_code: bool) -> (Cow<'_, str>, Edits) {
    let mut edits = [0; EDITS];
    let clean = characters(text, is_code, &mut edits);
    if is_code {
        return (clean, edits);
    }
    let composed = match is_nfc_quick(clean.chars()) {
        IsNormalized::Yes => clean,
        _ => {
            let composed: String = clean.nfc().collect();
            edits[Edit::Composition as usize] += u32::from(composed != *clean);
            Cow::Owned(composed)
        }
    };
    let tidy = lines(&composed, &mut edits);
    if tidy == text { (Cow::Borrowed(text), edits) } else { (Cow::Owned(tidy), edits) }
}

/// Takes out single characters and settles line ends.
fn characters<'a>(text: &'a str, is_code: bool, edits: &mut Edits) -> Cow<'a, str> {
    let table = classes::table();
    let edit_of = |c: char| match c {
        '\n' | '\t' => None,
        '\r' => Some(Edit::LineEnd),
        '\0' => Some(Edit::Nul),
        '\u{feff}' => Some(Edit::ByteOrderMark),
        _ if is_code => None,
        '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(Edit::LineEnd),
        // What stands for something unknown or private is evidence for the rules.
        '\u{fffc}' | '\u{fffd}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}' => None,
        c if table[c as usize] & ANOMALOUS == 0 => None,
        c if c.is_control() => Some(Edit::Control),
        _ => Some(Edit::ZeroWidth),
    };
    let Some(first) = text.find(|c| edit_of(c).is_some()) else { return Cow::Borrowed(text) };
    let mut clean = String::with_capacity(text.len());
    clean.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(c) = rest.chars().next() {
        let edit = edit_of(c);
        let mut width = c.len_utf8();
        match edit {
            None => clean.push(c),
            Some(Edit::LineEnd) => {
                width += usize::from(rest.starts_with("\r\n"));
                clean.push('\n');
            }
            Some(Edit::Control) => width = colour_sequence(rest).unwrap_or(width),
            Some(_) => {}
        }
        if let Some(edit) = edit {
            edits[edit as usize] += 1;
        }
        rest = &rest[width..];
    }
    Cow::Owned(clean)
}

/// Length of a terminal's control sequence (ECMA-48: ESC, `[`, parameters, a letter).
fn colour_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters.as_bytes()[end].is_ascii_alphabetic().then_some(end + 3)
}

fn lines(text: &str, edits: &mut Edits) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut out = String::with_capacity(text.len());
    let mut blank = 0;
    let mut fence: Option<&str> = None;
    // The part after the last line feed is no blank line.
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let mark = fence_mark(line);
        let is_verbatim = fence.is_some() || mark.is_some();
        fence = match (fence, mark) {
            (None, open) => open,
            (Some(open), Some(mark)) if mark.starts_with(open) && bare_fence(line, mark) => None,
            (open, _) => open,
        };
        let bare = if is_verbatim { line } else { line.trim_end() };
        if bare.is_empty() && !is_verbatim {
            blank += 1;
            edits[Edit::TrailingBlanks as usize] += u32::from(!line.is_empty());
            continue;
        }
        let kept = if out.is_empty() { 0 } else { blank.min(BLANK_LINES) };
        edits[Edit::BlankLines as usize] += (blank - kept) as u32;
        if !out.is_empty() {
            out.push('\n');
        }
        out.extend(std::iter::repeat_n('\n', kept));
        blank = 0;
        if is_verbatim {
            out.push_str(line);
            continue;
        }
        push_line(bare, &mut out, edits);
        let tail = &line[bare.len()..];
        if tail == "  " {
            out.push_str(tail);
        } else {
            edits[Edit::TrailingBlanks as usize] += u32::from(!tail.is_empty());
        }
    }
    edits[Edit::BlankLines as usize] += blank as u32;
    if text.ends_with('\n') && !out.is_empty() {
        out.push('\n');
    }
    out
}

/// The run of backticks or tildes that opens or closes a fenced block (CommonMark 4.5).
fn fence_mark(line: &str) -> Option<&str> {
    let start = line.trim_start_matches(' ');
    if line.len() - start.len() > 3 {
        return None;
    }
    let first = start.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = start.len() - start.trim_start_matches(first).len();
    (length >= 3).then(|| &start[..length])
}

fn bare_fence(line: &str, mark: &str) -> bool {
    line.trim().len() == mark.len()
}

/// A line outside fenced blocks; its indentation and, when that makes it code, its blanks stay.
fn push_line(line: &str, out: &mut String, edits: &mut Edits) {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\u{a0}');
    let body = line.trim_start_matches(is_blank);
    let indentation = &line[..line.len() - body.len()];
    out.push_str(indentation);
    if indentation.len() >= 4 || indentation.contains('\t') {
        out.push_str(body);
        return;
    }
    let mut rest = body;
    while let Some(at) = rest.find(is_blank) {
        out.push_str(&rest[..at]);
        let after = rest[at..].trim_start_matches(is_blank);
        let run = &rest[at..rest.len() - after.len()];
        if matches!(run, " " | "\t") {
            out.push_str(run);
        } else {
            out.push(' ');
            edits[Edit::BlankRuns as usize] += 1;
        }
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prose(text: &str) -> String {
        normalise(text, false).0.into_owned()
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
        assert_eq!(normalise(code, true).0, "a  =  1 \n\n\n\n\nb = '\u{200b}'\n");
        let fenced = "text  x\n```py\na  =  1   \n\n\n\n\nb\n```\ny   z";
        assert_eq!(prose(fenced), "text x\n```py\na  =  1   \n\n\n\n\nb\n```\ny z");
        assert_eq!(prose("    x  =  1"), "    x  =  1");
    }

    #[test]
    fn edits_are_counted_by_kind() {
        let (_, edits) = normalise("\u{feff}a\0 \u{1}\u{200b}\r\ne\u{301}\n\n\n\n\nb   c", false);
        assert_eq!(edits, [1, 1, 1, 1, 1, 1, 1, 2, 1]);
        let clean = "A clean text.\n\nWith two paragraphs.\n";
        let (same, edits) = normalise(clean, false);
        assert!(matches!(same, Cow::Borrowed(_)));
        assert_eq!(edits, [0; EDITS]);
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
