//! The patterns that cut text into pieces before merging, as hand-written machines.
//!
//! Each follows the regular expression that stands above it, alternative by alternative; a pattern
//! that is not in this list is refused when a file is loaded, never guessed.

use crate::unicode::{LETTER, LOWERISH, NUMBER, SPACE, UPPERISH, class};

/// A known pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-2's, also used by byte-level pre-tokenizers with `use_regex`.
    Gpt2,
    /// GPT-4's (`cl100k_base`): up to three digits a piece.
    Cl100k,
    /// Qwen's: as GPT-4's with one digit a piece.
    Qwen,
    /// GPT-4o's (`o200k_base`): cuts before capitals inside words.
    O200k,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CL100K: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const KNOWN: [(Pattern, &str); 4] = [
    (Pattern::Gpt2, GPT2),
    (Pattern::Cl100k, CL100K),
    (Pattern::Qwen, QWEN),
    (Pattern::O200k, O200K),
];

impl Pattern {
    /// The pattern written as this regular expression, if it is known.
    #[must_use]
    pub fn from_regex(regex: &str) -> Option<Self> {
        KNOWN.iter().find(|(_, known)| *known == regex).map(|&(pattern, _)| pattern)
    }

    /// The regular expression.
    #[must_use]
    pub fn regex(self) -> &'static str {
        KNOWN.iter().find(|(pattern, _)| *pattern == self).map_or("", |&(_, regex)| regex)
    }

    /// Calls `piece` with each piece of `text`, in order; the pieces tile the text.
    pub fn split<'t>(self, text: &'t str, mut piece: impl FnMut(&'t str)) {
        let mut start = 0;
        while start < text.len() {
            let scan = Scan { text, start };
            let end = match self {
                Self::Gpt2 => scan.gpt2(),
                Self::Cl100k => scan.gpt4(3),
                Self::Qwen => scan.gpt4(1),
                Self::O200k => scan.gpt4o(),
            };
            piece(&text[start..end]);
            start = end;
        }
    }
}

#[derive(Clone, Copy)]
struct Scan<'t> {
    text: &'t str,
    start: usize,
}

const fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

impl Scan<'_> {
    /// The character at a byte position, and the position after it.
    #[inline]
    fn at(&self, position: usize) -> Option<(char, usize)> {
        let bytes = self.text.as_bytes();
        match bytes.get(position) {
            None => None,
            Some(&byte) if byte < 0x80 => Some((char::from(byte), position + 1)),
            Some(_) => self.text[position..].chars().next().map(|c| (c, position + c.len_utf8())),
        }
    }

    #[inline]
    fn run(&self, mut position: usize, wanted: impl Fn(char) -> bool) -> usize {
        while let Some((c, after)) = self.at(position) {
            if !wanted(c) {
                break;
            }
            position = after;
        }
        position
    }

    fn contraction(&self, position: usize, any_case: bool) -> Option<usize> {
        let (quote, after) = self.at(position)?;
        if quote != '\'' {
            return None;
        }
        // Of these letters only s has a third form under simple case folding: ſ.
        let fold = |c: char| match c {
            'ſ' if any_case => 's',
            _ if any_case => c.to_ascii_lowercase(),
            _ => c,
        };
        let (first, after_first) = self.at(after)?;
        match fold(first) {
            's' | 't' | 'm' | 'd' => Some(after_first),
            first => {
                let (second, after_second) = self.at(after_first)?;
                let two = (first, fold(second));
                matches!(two, ('r' | 'v', 'e') | ('l', 'l')).then_some(after_second)
            }
        }
    }

    /// `\s+(?!\S)|\s+`, for a scan that starts at white space.
    fn spaces(&self) -> usize {
        let end = self.run(self.start, |c| class(c) & SPACE != 0);
        if end == self.text.len() {
            return end;
        }
        let last = self.text[self.start..end].chars().next_back().map_or(0, char::len_utf8);
        if end - last > self.start { end - last } else { end }
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`.
    fn newlines_or_spaces(&self) -> usize {
        let end = self.run(self.start, |c| class(c) & SPACE != 0);
        match self.text[self.start..end].rfind(is_newline) {
            Some(last) => self.start + last + 1,
            None => self.spaces(),
        }
    }

    /// ` ?[^\s\p{L}\p{N}]+` and then a run of `tail`.
    fn symbols(&self, tail: impl Fn(char) -> bool) -> Option<usize> {
        let first = match self.at(self.start)? {
            (' ', after) => after,
            _ => self.start,
        };
        let end = self.run(first, |c| class(c) & (SPACE | LETTER | NUMBER) == 0);
        (end > first).then(|| self.run(end, tail))
    }

    fn gpt2(&self) -> usize {
        if let Some(end) = self.contraction(self.start, false) {
            return end;
        }
        let Some((c, after)) = self.at(self.start) else { return self.start };
        let first = if c == ' ' { after } else { self.start };
        for wanted in [LETTER, NUMBER] {
            let end = self.run(first, |c| class(c) & wanted != 0);
            if end > first {
                return end;
            }
        }
        self.symbols(|_| false).unwrap_or_else(|| self.spaces())
    }

    fn digits(&self, most: usize) -> usize {
        let mut position = self.start;
        for _ in 0..most {
            match self.at(position) {
                Some((c, after)) if class(c) & NUMBER != 0 => position = after,
                _ => break,
            }
        }
        position
    }

    fn gpt4(&self, digits: usize) -> usize {
        if let Some(end) = self.contraction(self.start, true) {
            return end;
        }
        let Some((c, after)) = self.at(self.start) else { return self.start };
        let letters = |position| self.run(position, |c| class(c) & LETTER != 0);
        let bits = class(c);
        if bits & LETTER != 0 {
            return letters(after);
        }
        if bits & NUMBER != 0 {
            return self.digits(digits);
        }
        if !is_newline(c) {
            let end = letters(after);
            if end > after {
                return end;
            }
        }
        self.symbols(is_newline).unwrap_or_else(|| self.newlines_or_spaces())
    }

    /// `U*L+` (`lower`) or `U+L*` from `position`, where the classes overlap.
    fn word(&self, position: usize, lower: bool) -> Option<usize> {
        let upper_end = self.run(position, |c| class(c) & UPPERISH != 0);
        let lower_end = self.run(upper_end, |c| class(c) & LOWERISH != 0);
        if !lower {
            return (upper_end > position).then_some(lower_end);
        }
        if lower_end > upper_end {
            return Some(lower_end);
        }
        // U* gives characters back until the last of them can serve as L.
        let mut end = upper_end;
        for c in self.text[position..upper_end].chars().rev() {
            if class(c) & LOWERISH != 0 {
                return Some(end);
            }
            end -= c.len_utf8();
        }
        None
    }

    fn gpt4o(&self) -> usize {
        let Some((c, after)) = self.at(self.start) else { return self.start };
        let may_lead = class(c) & (LETTER | NUMBER) == 0 && !is_newline(c);
        for lower in [true, false] {
            let led = if may_lead { self.word(after, lower) } else { None };
            if let Some(end) = led.or_else(|| self.word(self.start, lower)) {
                return self.contraction(end, true).unwrap_or(end);
            }
        }
        if class(c) & NUMBER != 0 {
            return self.digits(3);
        }
        self.symbols(|c| is_newline(c) || c == '/').unwrap_or_else(|| self.newlines_or_spaces())
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn pieces(pattern: Pattern, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        pattern.split(text, |piece| pieces.push(piece));
        assert_eq!(pieces.concat(), text);
        pieces
    }

    #[test]
    fn gpt4_pieces() {
        let text = "I'll pay  $1234.5\r\n\n  now\n'ſo";
        assert_eq!(
            pieces(Pattern::Cl100k, text),
            [
                "I", "'ll", " pay", " ", " $", "123", "4", ".", "5", "\r\n\n", " ", " now", "\n",
                "'ſ", "o"
            ]
        );
        assert_eq!(pieces(Pattern::Qwen, "12 3"), ["1", "2", " ", "3"]);
        assert_eq!(pieces(Pattern::Cl100k, "a   "), ["a", "   "]);
        assert_eq!(pieces(Pattern::Cl100k, "世界。hello"), ["世界", "。hello"]);
    }

    #[test]
    fn gpt4o_pieces() {
        assert_eq!(pieces(Pattern::O200k, "HTTPServer don't"), ["HTTPServer", " don't"]);
        assert_eq!(pieces(Pattern::O200k, "camelCase ABC"), ["camel", "Case", " ABC"]);
        assert_eq!(pieces(Pattern::O200k, "//x /\n/y"), ["//", "x", " /\n/", "y"]);
    }

    #[test]
    fn gpt2_pieces() {
        assert_eq!(
            pieces(Pattern::Gpt2, "we're  12\n\n!x"),
            ["we", "'re", " ", " 12", "\n", "\n", "!", "x"]
        );
    }

    #[test]
    fn only_known_patterns_are_recognised() {
        for (pattern, regex) in super::KNOWN {
            assert_eq!(Pattern::from_regex(regex), Some(pattern));
        }
        assert_eq!(Pattern::from_regex(r"\w+"), None);
    }
}
