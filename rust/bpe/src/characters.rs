//! Vocabularies over characters: byte fallback, and which neighbours can ever join.

use rustc_hash::FxHashMap;

use crate::pieces::Ends;
use crate::spaces::{Run, Spaces};

/// The mark that stands for a space in SentencePiece-style vocabularies.
pub(crate) const SPACE_MARK: char = '\u{2581}';
/// The same as text.
pub(crate) const MARK_TEXT: &str = "\u{2581}";
/// The same in UTF-8.
pub(crate) const MARK: &[u8] = MARK_TEXT.as_bytes();

const UNKNOWN: u32 = u32::MAX;
/// Characters below this have the class `1 + code`; other classes follow.
const ASCII: usize = 128;
const BMP: usize = 1 << 16;

/// A vocabulary over characters.
///
/// Without a pattern merging runs over a whole document. But a token is a string of the vocabulary,
/// so no merge crosses a pair of neighbours that occurs inside no token: cutting there first gives
/// the same ids in pieces that can be cached.
#[derive(Debug, Clone)]
pub struct Characters {
    ids: FxHashMap<u32, u32>,
    ascii_ids: [u32; ASCII],
    byte_ids: [u32; 256],
    /// Class of each character of the basic plane that occurs in a longer token; 0: in none.
    classes: Vec<u16>,
    astral: FxHashMap<u32, u16>,
    /// A bit for each pair of classes, a row for each left one: whether they are neighbours in a token.
    joins: Vec<u64>,
    row: usize,
    /// The same for two ASCII characters, a byte each: whether there is a border between them.
    borders: Vec<bool>,
    spaces: Spaces,
}

/// The class of a space and of its mark.
const SPACE: u16 = b' ' as u16 + 1;
/// The class of the first character that is not ASCII.
const FIRST_OTHER: u16 = ASCII as u16 + 1;

/// Characters in the order in which they were met.
struct Numbers {
    /// A number for each character of the basic plane, 0 for one that was not met.
    of: Vec<u16>,
    astral: FxHashMap<char, u16>,
    /// The character of each number from `FIRST_OTHER`, and how often it was met.
    characters: Vec<(char, u32)>,
}

impl Default for Numbers {
    fn default() -> Self {
        let mut of = vec![0; BMP];
        (0..ASCII).for_each(|code| of[code] = code as u16 + 1);
        of[SPACE_MARK as usize] = of[usize::from(b' ')];
        Self { of, astral: FxHashMap::default(), characters: Vec::new() }
    }
}

impl Numbers {
    fn number(&mut self, c: char) -> u16 {
        let next = FIRST_OTHER + self.characters.len() as u16;
        let number = match self.of.get_mut(c as usize) {
            Some(number) => number,
            None => self.astral.entry(c).or_default(),
        };
        if *number == 0 {
            *number = next;
            self.characters.push((c, 0));
        }
        if *number >= FIRST_OTHER {
            self.characters[usize::from(*number - FIRST_OTHER)].1 += 1;
        }
        *number
    }
}

/// How far a text was split.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Progress {
    at: usize,
    class: u16,
}

impl Characters {
    /// From all `(string, id)` of the vocabulary and the ids of the 256 byte tokens.
    pub(crate) fn new<'v>(
        vocabulary: impl IntoIterator<Item = (&'v str, u32)>,
        byte_ids: [u32; 256],
    ) -> Self {
        let mut ids = FxHashMap::default();
        let mut ascii_ids = [UNKNOWN; ASCII];
        let mut numbers = Numbers::default();
        // The longer tokens as numbers of their characters, 0 between them.
        let mut tokens: Vec<u16> = Vec::new();
        for (token, id) in vocabulary {
            let mut characters = token.chars();
            let Some(first) = characters.next() else { continue };
            if characters.as_str().is_empty() {
                ids.insert(first as u32, id);
                if first.is_ascii() {
                    ascii_ids[first as usize] = id;
                }
                continue;
            }
            tokens.extend(token.chars().map(|c| numbers.number(c)));
            tokens.push(0);
        }
        // A space is written as the mark.
        if let Some(&mark) = ids.get(&(SPACE_MARK as u32)) {
            ascii_ids[usize::from(b' ')] = mark;
        }
        let mut this = Self {
            ids,
            ascii_ids,
            byte_ids,
            classes: vec![0; BMP],
            astral: FxHashMap::default(),
            joins: Vec::new(),
            row: 0,
            borders: vec![true; ASCII * ASCII],
            spaces: Spaces::default(),
        };
        this.join(&numbers, &tokens);
        this
    }

    /// The most frequent characters come first, so that the bits that text asks for lie together.
    fn join(&mut self, numbers: &Numbers, tokens: &[u16]) {
        let mut others: Vec<usize> = (0..numbers.characters.len()).collect();
        others.sort_unstable_by_key(|&at| {
            let (c, count) = numbers.characters[at];
            (std::cmp::Reverse(count), c)
        });
        // Number → class: those of ASCII are the same.
        let first = FIRST_OTHER;
        let mut classes: Vec<u16> = (0..first).chain(others.iter().map(|_| 0)).collect();
        for (class, &at) in (first..).zip(&others) {
            classes[usize::from(first) + at] = class;
            let c = numbers.characters[at].0;
            match self.classes.get_mut(c as usize) {
                Some(place) => *place = class,
                None => _ = self.astral.insert(c as u32, class),
            }
        }
        for code in 0..ASCII {
            self.classes[code] = code as u16 + 1;
        }
        // Text may write a space or the mark itself; both are the mark.
        self.classes[SPACE_MARK as usize] = self.classes[usize::from(b' ')];
        self.row = classes.len().div_ceil(64);
        self.joins = vec![0; classes.len() * self.row];
        for pair in tokens.windows(2).filter(|pair| pair[0] != 0 && pair[1] != 0) {
            let [left, right] = [pair[0], pair[1]].map(|number| classes[usize::from(number)]);
            self.joins[usize::from(left) * self.row + usize::from(right) / 64] |= 1 << (right % 64);
        }
        let tokens = tokens.iter().map(|&number| classes[usize::from(number)]);
        self.spaces = Spaces::new(classes.len(), SPACE, tokens);
        for (place, border) in self.borders.iter_mut().enumerate() {
            let (left, right) = (place / ASCII + 1, place % ASCII + 1);
            *border = self.joins[left * self.row + right / 64] >> (right % 64) & 1 == 0;
        }
    }

    #[inline(always)]
    fn class(&self, code: u32) -> u16 {
        match self.classes.get(code as usize) {
            Some(&class) => class,
            None => self.astral.get(&code).copied().unwrap_or(0),
        }
    }

    #[inline(always)]
    fn is_border(&self, left: u16, right: u16) -> bool {
        self.joins[usize::from(left) * self.row + usize::from(right) / 64] >> (right % 64) & 1 == 0
    }

    /// Adds the ends of stretches that no merge crosses until `ends` is full or the text ends.
    ///
    /// `pairs`: whether two spaces are joined before a space is joined to anything else.
    pub(crate) fn split(&self, text: &str, progress: &mut Progress, pairs: bool, ends: &mut Ends) {
        let bytes = text.as_bytes();
        let Progress { mut at, mut class } = *progress;
        if at == 0 && !bytes.is_empty() {
            let (code, after) = character(bytes, 0);
            (at, class) = (after, self.class(code));
        }
        while at < bytes.len() && !ends.is_full() {
            if class as usize <= ASCII
                && class > 0
                && let Some(eight) = bytes.get(at..at + 8)
                && let word = u64::from_le_bytes(eight.try_into().unwrap_or([0; 8]))
                && word & HIGH == 0
            {
                let double = if pairs { double_space(word, bytes.get(at + 8)) } else { 8 };
                let mut left = usize::from(class) - 1;
                let mut step = |offset: usize| {
                    let right = usize::from(eight[offset]);
                    ends.push_if(
                        at + offset,
                        self.borders[(left * ASCII + right) % (ASCII * ASCII)],
                    );
                    left = right;
                };
                if double == 8 {
                    (0..8).for_each(step);
                    (at, class) = (at + 8, left as u16 + 1);
                    continue;
                }
                (0..double).for_each(&mut step);
                (at, class) = (at + double, left as u16 + 1);
            }
            if pairs && class != SPACE && bytes[at..].starts_with(b"  ") {
                (at, class) = self.cut_run(bytes, at, class, ends);
                continue;
            }
            let (code, after) = character(bytes, at);
            let next = self.class(code);
            ends.push_if(at, self.is_border(class, next));
            (at, class) = (after, next);
        }
        if at == bytes.len() && !bytes.is_empty() {
            ends.push(at);
        }
        *progress = Progress { at, class };
    }

    /// Adds the borders of a run of spaces and what follows; returns where that ends, and its class.
    #[inline(always)]
    fn cut_run(&self, text: &[u8], start: usize, before: u16, ends: &mut Ends) -> (usize, u16) {
        let run = Run::at(text, start);
        let (mut first, mut last) = (self.is_border(before, SPACE), false);
        let (mut at, mut class) = (run.end, SPACE);
        if at < text.len() {
            let (code, after) = character(text, at);
            (at, class) = (after, self.class(code));
            let (before_run, after_run) = self.spaces.borders(run, before, class);
            first |= before_run;
            last = after_run || self.is_border(SPACE, class);
        }
        ends.push_if(start, first);
        ends.push_if(run.end, last);
        (at, class)
    }

    /// The byte that an id falls back for, if it is one of those.
    pub(crate) fn byte_of(&self, id: u32) -> Option<u8> {
        (0..=255).find(|&byte: &u8| self.byte_ids[usize::from(byte)] == id)
    }

    /// Calls `symbol` with the symbols of a piece before merging.
    #[inline(always)]
    pub(crate) fn symbols(&self, piece: &[u8], mut symbol: impl FnMut(u32)) {
        let mut at = 0;
        while at < piece.len() {
            let (code, after) = character(piece, at);
            let id = match self.ascii_ids.get(code as usize) {
                Some(&id) => id,
                None => self.ids.get(&code).copied().unwrap_or(UNKNOWN),
            };
            if id == UNKNOWN {
                piece[at..after].iter().for_each(|&byte| symbol(self.byte_ids[usize::from(byte)]));
            } else {
                symbol(id);
            }
            at = after;
        }
    }
}

const HIGH: u64 = 0x8080_8080_8080_8080;

/// Where two spaces stand side by side in eight bytes of ASCII and the one after them; 8: nowhere.
#[inline(always)]
fn double_space(word: u64, next: Option<&u8>) -> usize {
    // The high bit of each byte that is a space.
    let spaces = !((word ^ 0x2020_2020_2020_2020) + !HIGH) & HIGH;
    let shifted = spaces >> 8 | u64::from(next == Some(&b' ')) << 63;
    (spaces & shifted).trailing_zeros() as usize / 8
}

/// The character at a place in UTF-8 text, and the place after it.
#[inline(always)]
pub(crate) fn character(bytes: &[u8], at: usize) -> (u32, usize) {
    let tail = |offset: usize| u32::from(bytes[at + offset]) & 0x3F;
    match bytes[at] {
        byte @ 0..0x80 => (u32::from(byte), at + 1),
        byte @ 0xE0..0xF0 => ((u32::from(byte) & 0xF) << 12 | tail(1) << 6 | tail(2), at + 3),
        byte @ 0xC0..0xE0 => ((u32::from(byte) & 0x1F) << 6 | tail(1), at + 2),
        byte => ((u32::from(byte) & 7) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), at + 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(characters: &Characters, text: &str, pairs: bool) -> Vec<String> {
        let (mut progress, mut ends, mut all) = (Progress::default(), Ends::default(), Vec::new());
        while all.last() != Some(&text.len()) && !text.is_empty() {
            characters.split(text, &mut progress, pairs, &mut ends);
            all.extend_from_slice(ends.take());
        }
        let starts = [0].into_iter().chain(all.iter().copied());
        starts.zip(&all).map(|(start, &end)| text[start..end].to_owned()).collect()
    }

    #[test]
    fn cuts_where_no_token_crosses() {
        let vocabulary = ["a", "b", "ab", "▁a", "国", "国家", "𠮷野", "▁▁"];
        let characters = Characters::new(vocabulary.into_iter().zip(0..), [9; 256]);
        assert_eq!(
            pieces(&characters, "ab ab  b国家国𠮷野x", false),
            ["ab", " ab", "  ", "b", "国家", "国", "𠮷野", "x"]
        );
        assert_eq!(pieces(&characters, "a▁▁a", false), ["a", "▁▁a"]);
        assert_eq!(pieces(&characters, &"ba".repeat(500), false).concat(), "ba".repeat(500));
        assert_eq!(pieces(&characters, &"ab".repeat(500), false).len(), 500);
        assert_eq!(pieces(&characters, "", false), [""; 0]);
    }

    #[test]
    fn cuts_runs_of_spaces_off() {
        let vocabulary = ["a", "▁a", "▁▁", "▁▁▁▁", "\n", "\n▁▁\n", "\t▁▁", "▁▁\n"];
        let characters = Characters::new(vocabulary.into_iter().zip(0..), [9; 256]);
        let text = "b  a\n    a\n   a\t  a\n  \n  ▁ ";
        assert_eq!(
            pieces(&characters, text, true),
            ["b", "  ", "a", "\n", "    ", "a", "\n", "   a", "\t  ", "a", "\n  \n  ▁ "]
        );
        assert_eq!(
            pieces(&characters, text, false),
            ["b", "  a", "\n    a", "\n   a", "\t  a", "\n  \n  ▁ "]
        );
        let long = format!("x{}a", " ".repeat(100_000));
        assert_eq!(pieces(&characters, &long, true).len(), 3);
        for start in 1..20 {
            let text = "x".repeat(start) + "  a";
            assert_eq!(pieces(&characters, &text, true)[start..], ["  ", "a"]);
        }
    }

    #[test]
    fn decoding() {
        for c in ['a', 'é', '国', '𠮷', '\u{10ffff}'] {
            let text = c.to_string();
            assert_eq!(character(text.as_bytes(), 0), (c as u32, text.len()));
        }
    }
}
