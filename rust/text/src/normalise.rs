//! Repairs that come before any rule: what is invisible, broken or blank, never what is said.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::classes::{self, ANOMALOUS};

/// Blank lines in a row that stay.
const BLANK_LINES: usize = 2;

/// Repairs a text; applied twice it changes nothing more.
///
/// Line ends become `\n`; byte-order marks, control and zero-width characters go (not the joiners
/// that scripts and emoji need); characters are composed (NFC); blanks at line ends go, but for two
/// (a line break in Markdown); of long runs of blank lines two stay, and none at either end.
#[must_use]
pub fn normalise(text: &str) -> String {
    let table = classes::table();
    let is_noise = |c: char| table[c as usize] & ANOMALOUS != 0 && c != '\u{ad}' && !is_private(c);
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' => {
                if rest.peek() == Some(&'\n') {
                    rest.next();
                }
                clean.push('\n');
            }
            '\n' | '\t' => clean.push(c),
            c if is_noise(c) && c != '\u{fffd}' => {}
            c => clean.push(c),
        }
    }
    if is_nfc_quick(clean.chars()) != IsNormalized::Yes {
        clean = clean.nfc().collect();
    }
    lines(&clean)
}

/// Private-use characters may be a document's own letters, and are left to the rules.
const fn is_private(c: char) -> bool {
    matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}')
}

fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = 0;
    for line in text.split('\n') {
        let bare = line.trim_end_matches([' ', '\t', '\u{a0}', '\u{3000}']);
        if bare.is_empty() {
            blank += 1;
            continue;
        }
        if !out.is_empty() {
            out.extend(std::iter::repeat_n('\n', 1 + blank.min(BLANK_LINES)));
        }
        blank = 0;
        out.push_str(bare);
        if line[bare.len()..] == *"  " {
            out.push_str("  ");
        }
    }
    if text.ends_with('\n') && !out.is_empty() {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn repairs() {
        assert_eq!(normalise("\u{feff}a\r\nb\rc\0"), "a\nb\nc");
        assert_eq!(normalise("e\u{301} \u{200b}x"), "é x");
        assert_eq!(normalise("a \t\n\n\n\n\nb  \nc"), "a\n\n\nb  \nc");
        assert_eq!(normalise("\n\n  def f():\n      pass\n\n"), "  def f():\n      pass\n");
        assert_eq!(normalise("👩\u{200d}👩 می\u{200c}خواهم"), "👩\u{200d}👩 می\u{200c}خواهم");
        assert_eq!(normalise(" \n \u{3000}\n"), "");
    }

    #[test]
    fn twice_is_once() {
        for text in [
            "a\u{200b}\r\n  \r\n\u{200b}\r\nb",
            "x \u{200b} ",
            "\u{1}\n\u{1}\na",
            "a  \r",
            "e\u{200b}\u{301}",
        ] {
            let once = normalise(text);
            assert_eq!(normalise(&once), once, "{text:?}");
        }
    }
}
