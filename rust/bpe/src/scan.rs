//! The state machines behind the patterns: where a piece that starts here ends.
//!
//! ASCII is decided byte by byte, letters eight at a time; any other character goes through the
//! class table. Nothing recurses and nothing looks further back than the piece.

use crate::characters::character;
use crate::unicode::{Classes, LETTER, LOWERISH, NUMBER, SPACE, UPPERISH};

/// A text and the classes of its characters.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'t> {
    bytes: &'t [u8],
    classes: &'static Classes,
}

/// What an ASCII byte is to the patterns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Blank,
    /// White space but the blank, newlines included.
    Space,
    Quote,
    Other,
    /// Part of a longer character.
    Wide,
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Wide; 256];
    let mut byte = 0;
    while byte < 128 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Kind::Letter,
            b'0'..=b'9' => Kind::Digit,
            b' ' => Kind::Blank,
            b'\t'..=b'\r' => Kind::Space,
            b'\'' => Kind::Quote,
            _ => Kind::Other,
        };
        byte += 1;
    }
    kinds
};

const NEWLINES: [u32; 2] = ['\r' as u32, '\n' as u32];
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// The high bit of each byte of `word` (all below 0x80) that is at least `least`.
#[inline(always)]
const fn at_least(word: u64, least: u8) -> u64 {
    (word + (0x80 - least as u64) * ONES) & HIGH
}

impl<'t> Scan<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { bytes: text.as_bytes(), classes: Classes::get() }
    }

    #[inline(always)]
    fn kind(&self, at: usize) -> Option<Kind> {
        self.bytes.get(at).map(|&byte| KINDS[usize::from(byte)])
    }

    /// The character at a byte position, and the position after it.
    #[inline(always)]
    fn at(&self, at: usize) -> Option<(u32, usize)> {
        (at < self.bytes.len()).then(|| character(self.bytes, at))
    }

    #[inline(always)]
    fn class(&self, code: u32) -> u8 {
        self.classes.of(code)
    }

    /// The end of a run of characters with one of the `wanted` bits.
    #[inline]
    fn run(&self, mut at: usize, wanted: u8) -> usize {
        while let Some((code, after)) = self.at(at) {
            if self.class(code) & wanted == 0 {
                break;
            }
            at = after;
        }
        at
    }

    /// The end of a run of ASCII letters; `fold` is 0x20 to take capitals too.
    #[inline(always)]
    fn ascii_letters(&self, mut at: usize, first: u8, last: u8, fold: u8) -> usize {
        while let Some(eight) = self.bytes.get(at..at + 8) {
            let word = u64::from_le_bytes(eight.try_into().unwrap_or([0; 8]));
            let low = (word | (u64::from(fold) * ONES)) & !HIGH;
            let letters = at_least(low, first) & !at_least(low, last + 1) & !word;
            let others = letters ^ HIGH;
            if others != 0 {
                return at + others.trailing_zeros() as usize / 8;
            }
            at += 8;
        }
        while self.bytes.get(at).is_some_and(|byte| (first..=last).contains(&(byte | fold))) {
            at += 1;
        }
        at
    }

    /// The end of a run of `\p{L}`.
    #[inline(always)]
    fn letters(&self, at: usize) -> usize {
        let end = self.ascii_letters(at, b'a', b'z', 0x20);
        match self.kind(end) {
            Some(Kind::Wide) => self.run(end, LETTER),
            _ => end,
        }
    }

    fn contraction(&self, at: usize, any_case: bool) -> Option<usize> {
        if self.bytes.get(at) != Some(&b'\'') {
            return None;
        }
        // Of these letters only s has a third form under simple case folding: ſ.
        let fold = |code: u32| match code {
            0x17F if any_case => b's',
            0..0x80 if any_case => (code as u8).to_ascii_lowercase(),
            0..0x80 => code as u8,
            _ => 0,
        };
        let (first, after_first) = self.at(at + 1)?;
        match fold(first) {
            b's' | b't' | b'm' | b'd' => Some(after_first),
            first => {
                let (second, after_second) = self.at(after_first)?;
                let two = (first, fold(second));
                matches!(two, (b'r' | b'v', b'e') | (b'l', b'l')).then_some(after_second)
            }
        }
    }

    /// `\s+(?!\S)|\s+`, for a scan that starts at white space.
    fn spaces(&self, start: usize) -> usize {
        let (mut at, mut last) = (start, start);
        while let Some((code, after)) = self.at(at) {
            if self.class(code) & SPACE == 0 {
                // The last one belongs to what follows, if it is not the only one.
                return if last > start { last } else { at };
            }
            (last, at) = (at, after);
        }
        at
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`.
    fn newlines_or_spaces(&self, start: usize) -> usize {
        let (mut at, mut newline, mut last) = (start, start, start);
        while let Some((code, after)) = self.at(at) {
            if self.class(code) & SPACE == 0 {
                break;
            }
            if NEWLINES.contains(&code) {
                newline = after;
            }
            (last, at) = (at, after);
        }
        match newline > start {
            true => newline,
            false if at == self.bytes.len() || last == start => at,
            false => last,
        }
    }

    /// ` ?[^\s\p{L}\p{N}]+`.
    #[inline]
    fn symbols(&self, start: usize) -> Option<usize> {
        let first = start + usize::from(self.bytes.get(start) == Some(&b' '));
        let mut at = first;
        while let Some((code, after)) = self.at(at) {
            if self.class(code) & (SPACE | LETTER | NUMBER) != 0 {
                break;
            }
            at = after;
        }
        (at > first).then_some(at)
    }

    #[inline]
    fn bytes_in(&self, mut at: usize, wanted: &[u8]) -> usize {
        while self.bytes.get(at).is_some_and(|byte| wanted.contains(byte)) {
            at += 1;
        }
        at
    }

    fn digits(&self, start: usize, most: usize) -> usize {
        let mut at = start;
        for _ in 0..most {
            match self.at(at) {
                Some((code, after)) if self.class(code) & NUMBER != 0 => at = after,
                _ => break,
            }
        }
        at
    }

    pub(crate) fn gpt2(&self, start: usize) -> usize {
        if let Some(end) = self.contraction(start, false) {
            return end;
        }
        let first = start + usize::from(self.bytes.get(start) == Some(&b' '));
        for wanted in [LETTER, NUMBER] {
            let end = if wanted == LETTER { self.letters(first) } else { self.run(first, wanted) };
            if end > first {
                return end;
            }
        }
        self.symbols(start).unwrap_or_else(|| self.spaces(start))
    }

    #[inline(always)]
    pub(crate) fn gpt4(&self, start: usize, digits: usize) -> usize {
        match self.kind(start) {
            Some(Kind::Letter) => return self.letters(start + 1),
            Some(Kind::Blank | Kind::Other) if self.kind(start + 1) == Some(Kind::Letter) => {
                return self.letters(start + 2);
            }
            _ => {}
        }
        self.gpt4_rest(start, digits)
    }

    fn gpt4_rest(&self, start: usize, digits: usize) -> usize {
        if let Some(end) = self.contraction(start, true) {
            return end;
        }
        let Some((code, after)) = self.at(start) else { return start };
        let class = self.class(code);
        if class & LETTER != 0 {
            return self.letters(after);
        }
        if class & NUMBER != 0 {
            return self.digits(start, digits);
        }
        if !NEWLINES.contains(&code) {
            let end = self.letters(after);
            if end > after {
                return end;
            }
        }
        match self.symbols(start) {
            Some(end) => self.bytes_in(end, b"\r\n"),
            None => self.newlines_or_spaces(start),
        }
    }

    /// `U*L+` (`lower`) or `U+L*` from `at`, where the classes overlap.
    fn word(&self, at: usize, lower: bool) -> Option<usize> {
        let upper_end = self.run(at, UPPERISH);
        let lower_end = self.run(upper_end, LOWERISH);
        if !lower {
            return (upper_end > at).then_some(lower_end);
        }
        if lower_end > upper_end {
            return Some(lower_end);
        }
        // U* gives characters back until the last of them can serve as L.
        let mut end = upper_end;
        while end > at {
            let mut start = end - 1;
            while self.bytes[start] & 0xC0 == 0x80 {
                start -= 1;
            }
            if self.class(character(self.bytes, start).0) & LOWERISH != 0 {
                return Some(end);
            }
            end = start;
        }
        None
    }

    #[inline(always)]
    pub(crate) fn gpt4o(&self, start: usize) -> usize {
        let first = match self.kind(start) {
            Some(Kind::Letter) => start,
            Some(Kind::Blank | Kind::Other) if self.kind(start + 1) == Some(Kind::Letter) => {
                start + 1
            }
            _ => return self.gpt4o_rest(start),
        };
        let upper_end = self.ascii_letters(first, b'A', b'Z', 0);
        let end = self.ascii_letters(upper_end, b'a', b'z', 0);
        match self.kind(end) {
            Some(Kind::Wide) => self.gpt4o_rest(start),
            Some(Kind::Quote) => self.contraction(end, true).unwrap_or(end),
            _ => end,
        }
    }

    fn gpt4o_rest(&self, start: usize) -> usize {
        let Some((code, after)) = self.at(start) else { return start };
        let class = self.class(code);
        let may_lead = class & (LETTER | NUMBER) == 0 && !NEWLINES.contains(&code);
        for lower in [true, false] {
            let led = if may_lead { self.word(after, lower) } else { None };
            if let Some(end) = led.or_else(|| self.word(start, lower)) {
                return self.contraction(end, true).unwrap_or(end);
            }
        }
        if class & NUMBER != 0 {
            return self.digits(start, 3);
        }
        match self.symbols(start) {
            Some(end) => self.bytes_in(end, b"\r\n/"),
            None => self.newlines_or_spaces(start),
        }
    }
}
