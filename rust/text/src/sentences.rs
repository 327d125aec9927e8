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
pub fn ends(text: &str, blocks: &[Block], from: usize, to: usize) -> Ends {
    let mut found = Ends { count: 0, last: from };
    if from == to {
        return found;
    }
    let mut next = from;
    for (block, bitmap) in blocks.iter().enumerate().take((to - 1) / 64 + 1).skip(from / 64) {
        let mut bits = bitmap.terminal;
        while bits != 0 {
            let at = block * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            if at < next || at >= to {
                continue;
            }
            let (after, only_stops) = run(&text[at..to]);
            next = at + after;
            if is_end(text, at, next, to, only_stops) {
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
        index.read(text, true);
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
