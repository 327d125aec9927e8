//! Where sentences end, in the punctuation of any script.

use crate::classes::{self, CLOSER, LOWER, SPACE, TERMINAL, UNIT, UPPER};
use crate::index::Block;

/// Sentence ends of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// How many there are.
    pub count: u64,
    /// Byte after the last one.
    pub last: usize,
}

/// Sentence ends among the marked punctuation of `from..to`, a line without its line feed.
///
/// Runs of marks end one sentence. Full-width marks and those of other scripts always end one; the
/// ASCII ones do when a blank or the line's end follows (so `3.14` and `v1.2` do not), or, between
/// characters of scripts without blanks, when such a character follows. A full stop does not when
/// the next word is in lower case ("e.g. this") or the stop belongs to an initial ("J. Smith").
#[inline(always)]
pub fn ends(text: &str, blocks: &[Block], from: usize, to: usize) -> Ends {
    let mut found = Ends { count: 0, last: from };
    if from == to {
        return found;
    }
    let mut next = from;
    let first = from / 64;
    for (offset, bitmap) in blocks[first..=(to - 1) / 64].iter().enumerate() {
        let block = first + offset;
        let mut bits = bitmap.terminal;
        while bits != 0 {
            let at = block * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            if at < next || at >= to {
                continue;
            }
            let (after, is_end) = common(text.as_bytes(), at, to).unwrap_or_else(|| {
                let (after, only_stops) = run(&text[at..to]);
                (after, is_end(text, at, at + after, to, only_stops))
            });
            next = at + after;
            if is_end {
                found = Ends { count: found.count + 1, last: next };
            }
        }
    }
    found
}

/// Whether a line (without blanks around it) ends with a sentence's end: closing quotes and
/// brackets may follow the mark.
pub fn line_ends_sentence(line: &str) -> bool {
    let table = classes::table();
    let mark = line.chars().rev().find(|&c| table[c as usize] & CLOSER == 0);
    mark.is_some_and(|c| table[c as usize] & TERMINAL != 0)
}

/// What `run` and `is_end` say of the common cases, by a look at a few bytes; `None` for others.
#[inline(always)]
fn common(bytes: &[u8], at: usize, to: usize) -> Option<(usize, bool)> {
    // Four bytes: the mark and what follows, all within the line.
    let four = bytes[..to].get(at..at + 4)?;
    if four[0] >= 0x80 {
        // A mark of another script always ends a sentence; before Han its run is over.
        let is_wide = four[0] & 0xf0 == 0xe0;
        return (is_wide && matches!(four[3], 0xe4..=0xe9)).then_some((3, true));
    }
    if four[1].is_ascii_alphanumeric() {
        return Some((1, false));
    }
    let before = bytes[at.checked_sub(1)?];
    let is_plain = before.is_ascii_lowercase() || before.is_ascii_digit();
    let starts_anew = four[2].is_ascii_uppercase() || four[2].is_ascii_digit();
    (four[1] == b' ' && (is_plain && starts_anew || four[0] != b'.')).then_some((1, true))
}

/// Length of a run of marks and closers, and whether its marks are all full stops.
fn run(rest: &str) -> (usize, bool) {
    let table = classes::table();
    let mut only_stops = true;
    for (at, character) in rest.char_indices() {
        let flags = table[character as usize];
        if flags & TERMINAL != 0 || character == '…' {
            only_stops &= character == '.';
        } else if flags & CLOSER == 0 {
            return (at, only_stops);
        }
    }
    (rest.len(), only_stops)
}

fn is_end(text: &str, at: usize, after: usize, to: usize, only_stops: bool) -> bool {
    let table = classes::table();
    let bytes = text.as_bytes();
    if !bytes[at].is_ascii() || after == to {
        return true;
    }
    let following = text[after..to].chars().next().unwrap_or('\n');
    let flags = table[following as usize];
    let before = text[..at].chars().next_back().unwrap_or(' ');
    if flags & UNIT != 0 {
        return !only_stops || table[before as usize] & UNIT != 0;
    }
    if flags & SPACE == 0 {
        return false;
    }
    if !only_stops {
        return true;
    }
    let continues = text[after..to]
        .chars()
        .find(|&c| table[c as usize] & SPACE == 0)
        .is_some_and(|c| table[c as usize] & LOWER != 0);
    let initial = table[before as usize] & UPPER != 0
        && after - at == 1
        && text[..at - before.len_utf8()]
            .chars()
            .next_back()
            .is_none_or(|c| table[c as usize] & SPACE != 0 || c == '.' || c == '(');
    !continues && !initial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;

    fn count(text: &str) -> u64 {
        let mut index = Index::default();
        index.read(text, true, crate::ascii::classify);
        ends(text, &index.blocks, 0, text.len()).count
    }

    #[test]
    fn every_script_ends() {
        assert_eq!(count("今天下雨。我们在家。你呢？好的！他来了。我们走。"), 6);
        assert_eq!(count("它来了!我们走.好的?"), 3);
        assert_eq!(count("यह है। वह है।"), 2);
        assert_eq!(count("هل تسمع؟ نعم."), 2);
        assert_eq!(count("He said \"Go!\" Then he went."), 2);
        assert_eq!(count("真的吗？！走吧。」好。"), 3);
    }

    #[test]
    fn stops_inside_do_not_end() {
        assert_eq!(count("Pi is 3.14 in v1.2 of it."), 1);
        assert_eq!(count("e.g. this and J. Smith came."), 1);
        assert_eq!(count("see example.com/a.html now"), 0);
        assert_eq!(count("版本3.14很好。"), 1);
        assert_eq!(count("Wait... what? Yes..."), 2);
    }

    #[test]
    fn lines() {
        for line in ["Yes.", "Yes!\"", "好。", "（好！）"] {
            assert!(line_ends_sentence(line), "{line}");
        }
        for line in ["Yes", "Yes,", "", "\"", "标题"] {
            assert!(!line_ends_sentence(line), "{line}");
        }
    }
}
