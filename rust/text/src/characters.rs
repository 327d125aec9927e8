//! Single characters: what is invisible goes, unless a script or an emoji needs it.

use std::borrow::Cow;

use crate::classes::{self, ANOMALOUS};
use crate::normalise::{Edit, Edits};

/// Bytes at which a character starts that may have to go: ASCII controls, and the lead bytes of
/// U+0080–U+00BF, U+0600–U+063F, U+1000–U+1FFF, U+2000–U+2FFF and U+F000–U+FFFF.
const SUSPECT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = byte != b'\n' as usize && byte != b'\t' as usize;
        byte += 1;
    }
    table[0x7f] = true;
    table[0xc2] = true;
    table[0xd8] = true;
    table[0xe1] = true;
    table[0xe2] = true;
    table[0xef] = true;
    table
};

/// Takes out single characters and settles line ends.
pub fn repair<'a>(text: &'a str, is_code: bool, edits: &mut Edits) -> Cow<'a, str> {
    let (clean, has_contextual) = without_anomalies(text, is_code, edits);
    if is_code || !has_contextual {
        return clean;
    }
    match without_idle(&clean, edits) {
        Some(shorter) => Cow::Owned(shorter),
        None => clean,
    }
}

/// The text without what always goes, and whether something is left whose neighbours decide.
fn without_anomalies<'a>(text: &'a str, is_code: bool, edits: &mut Edits) -> (Cow<'a, str>, bool) {
    let mut has_contextual = false;
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
    let mut clean = String::new();
    let (mut copied, mut at) = (0, 0);
    let bytes = text.as_bytes();
    while let Some(offset) = bytes[at..].iter().position(|&byte| SUSPECT[byte as usize]) {
        at += offset;
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else { break };
        if !is_code && is_contextual(c) {
            has_contextual = true;
            at += c.len_utf8();
            continue;
        }
        let Some(edit) = edit_of(c) else {
            at += c.len_utf8();
            continue;
        };
        let (mut width, mut chars) = (c.len_utf8(), 1);
        if clean.capacity() == 0 {
            clean.reserve(text.len());
        }
        clean.push_str(&text[copied..at]);
        match edit {
            Edit::LineEnd => {
                width += usize::from(rest.starts_with("\r\n"));
                clean.push('\n');
            }
            Edit::Control => {
                width = colour_sequence(rest).unwrap_or(width);
                chars = rest[..width].chars().count();
            }
            _ => {}
        }
        edits.note(edit, 1, chars);
        at += width;
        copied = at;
    }
    if copied == 0 {
        return (Cow::Borrowed(text), has_contextual);
    }
    clean.push_str(&text[copied..]);
    (Cow::Owned(clean), has_contextual)
}

/// Length of a terminal's control sequence (ECMA-48: ESC, `[`, parameters, a letter).
fn colour_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters.as_bytes()[end].is_ascii_alphabetic().then_some(end + 3)
}

/// Zero-width space, joiners and marks of direction: their neighbours say whether they do anything.
fn is_contextual(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without joiners that join nothing and marks that direct nothing; `None` if it has none.
///
/// A character is judged by the last one that stayed and by the next that is sure to stay, so
/// doing it twice changes nothing.
fn without_idle(text: &str, edits: &mut Edits) -> Option<String> {
    let has_right_to_left = text.chars().any(is_right_to_left);
    let mut kept = String::with_capacity(text.len());
    let mut removed = 0;
    let mut last = '\n';
    for (at, c) in text.char_indices() {
        let is_idle = is_contextual(c) && {
            let next = text[at + c.len_utf8()..].chars().next().unwrap_or('\n');
            match c {
                // Word breaks of scripts without blanks (Unicode 16, section 6.2).
                '\u{200b}' => !(is_unspaced(last) && is_unspaced(next)),
                '\u{200c}' => !(is_joining(last) || is_joining(next)),
                '\u{200d}' => {
                    let is_emoji = is_pictographic(last) && is_pictographic(next);
                    !(is_emoji || is_joining(last) || is_joining(next))
                }
                _ => !has_right_to_left,
            }
        };
        if is_idle {
            removed += 1;
        } else {
            kept.push(c);
            last = c;
        }
    }
    edits.note(Edit::ZeroWidth, removed, removed as usize);
    (removed > 0).then_some(kept)
}

/// Hebrew to Arabic extended, their presentation forms, and the planes of such scripts.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{61b}' | '\u{61d}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// Letters and marks of scripts in which joiners choose a letter's form: Arabic and its kin,
/// Mongolian, and the Brahmic scripts (Unicode 16, sections 9.2, 12.1, 13.5).
fn is_joining(c: char) -> bool {
    matches!(c, '\u{61d}'..='\u{8ff}' | '\u{900}'..='\u{dff}' | '\u{f00}'..='\u{109f}'
        | '\u{1700}'..='\u{17ff}' | '\u{1800}'..='\u{18af}' | '\u{1900}'..='\u{1cff}'
        | '\u{a800}'..='\u{abff}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10800}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}')
}

/// Thai, Lao, Tibetan, Burmese, Khmer, Tai scripts.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{1950}'..='\u{19df}'
        | '\u{1a20}'..='\u{1aaf}' | '\u{a9e0}'..='\u{a9ff}' | '\u{aa60}'..='\u{aadf}')
}

/// What an emoji sequence is made of: symbols, pictographs, skin tones, variation selectors.
fn is_pictographic(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
        | '\u{fe0e}' | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(text: &str) -> String {
        repair(text, false, &mut Edits::default()).into_owned()
    }

    #[test]
    fn joiners_stay_where_they_join() {
        for text in [
            "👩\u{200d}👩\u{200d}👧 🏳\u{fe0f}\u{200d}🌈 👩🏽\u{200d}🔬",
            "می\u{200c}خواهم",
            "ന്\u{200d} क्\u{200d}ष श्र\u{200c}ी",
            "ภาษา\u{200b}ไทย",
            "אבג\u{200f}! abc\u{200e}",
        ] {
            assert_eq!(repaired(text), text);
        }
    }

    #[test]
    fn joiners_go_where_they_do_not() {
        assert_eq!(repaired("a\u{200c}b\u{200d}c \u{200e}x\u{202e}y\u{202c}"), "abc xy");
        assert_eq!(repaired("👩\u{200d}x"), "👩x");
        assert_eq!(repaired("می\u{200c}\u{200c}\u{200c}خ"), "می\u{200c}\u{200c}خ");
        assert_eq!(repaired("中\u{200b}文"), "中文");
        assert_eq!(repaired("ไ\u{200b}\u{200b} x"), "ไ x");
    }
}
