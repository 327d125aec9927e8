//! The patterns that cut text into pieces before merging, as hand-written machines.
//!
//! Each follows the regular expression that stands above it, alternative by alternative; a pattern
//! that is not in this list is refused when a file is loaded, never guessed.

use crate::blocks::{BLOCK, Starts};
#[cfg(target_arch = "x86_64")]
use crate::blocks::{starts, starts_gpt2};
use crate::junctions::Junctions;
use crate::pieces::Ends;
use crate::scan::Scan;

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

    /// Adds the ends of pieces until `ends` is full or the text ends, and cuts those of wide
    /// characters further where `junctions` allow it.
    pub(crate) fn split(
        self,
        text: &str,
        progress: &mut Progress,
        junctions: Option<&Junctions>,
        ends: &mut Ends,
    ) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
        {
            // SAFETY: the features were just found.
            return unsafe { self.split_avx2(text, progress, junctions, ends) };
        }
        let scan = Scan::new(text);
        let mut work = Filling { bytes: text.as_bytes(), progress, junctions, ends };
        match self {
            Self::Gpt2 => work.fill(|start| scan.gpt2(start), |_| None),
            Self::Cl100k => work.fill(|start| scan.gpt4(start, 3), |_| None),
            Self::Qwen => work.fill(|start| scan.gpt4(start, 1), |_| None),
            Self::O200k => work.fill(|start| scan.gpt4o(start), |_| None),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    fn split_avx2(
        self,
        text: &str,
        progress: &mut Progress,
        junctions: Option<&Junctions>,
        ends: &mut Ends,
    ) {
        let scan = Scan::new(text);
        let mut work = Filling { bytes: text.as_bytes(), progress, junctions, ends };
        match self {
            Self::Gpt2 => {
                work.fill(|start| scan.gpt2(start), |block| Some(starts_gpt2(block)));
            }
            Self::Cl100k => {
                work.fill(|start| scan.gpt4(start, 3), |block| Some(starts::<3, false>(block)));
            }
            Self::Qwen => {
                work.fill(|start| scan.gpt4(start, 1), |block| Some(starts::<1, false>(block)));
            }
            Self::O200k => {
                work.fill(|start| scan.gpt4o(start), |block| Some(starts::<3, true>(block)));
            }
        }
    }

    /// Calls `piece` with each piece of `text`, in order; the pieces tile the text.
    pub fn each<'t>(self, text: &'t str, mut piece: impl FnMut(&'t str)) {
        let (mut progress, mut ends, mut start) = (Progress::default(), Ends::default(), 0);
        while start < text.len() {
            self.split(text, &mut progress, None, &mut ends);
            for &end in ends.take() {
                piece(&text[start..end]);
                start = end;
            }
        }
    }
}

/// How far a text was split.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Progress {
    at: usize,
    /// Where the piece ends that `at` is inside of.
    piece_end: usize,
}

/// A text on its way into `ends`.
struct Filling<'t, 's> {
    bytes: &'t [u8],
    progress: &'s mut Progress,
    junctions: Option<&'s Junctions>,
    ends: &'s mut Ends,
}

impl Filling<'_, '_> {
    /// Until `ends` is full or the text ends; `next` finds the end of the piece that starts at a
    /// place, `block` many at once where it can.
    #[inline(always)]
    fn fill(
        &mut self,
        next: impl Fn(usize) -> usize,
        block: impl Fn(&[u8; BLOCK]) -> Option<Starts>,
    ) {
        let Progress { mut at, mut piece_end } = *self.progress;
        // Before this place blocks are of no use.
        let mut hard = 0;
        while at < self.bytes.len() && !self.ends.is_full() {
            if piece_end <= at {
                if at >= hard
                    && let Some(bytes) = self.bytes[at..].first_chunk::<BLOCK>()
                    && bytes[..8].iter().fold(0, |all, byte| all | byte) < 0x80
                    && let Some(starts) = block(bytes)
                {
                    let begin = at;
                    at = self.ends.push_bits(at, starts.bits);
                    hard = match starts.hard {
                        BLOCK if at > begin => at,
                        BLOCK => at + 1,
                        hard => begin + hard + 1,
                    };
                    if at > begin {
                        piece_end = at;
                        continue;
                    }
                }
                piece_end = next(at);
            }
            at = match self.junctions {
                Some(junctions) if piece_end - at > 3 && self.bytes[piece_end - 1] >= 0x80 => {
                    junctions.split(self.bytes, at, piece_end, self.ends)
                }
                _ => {
                    self.ends.push(piece_end);
                    piece_end
                }
            };
        }
        *self.progress = Progress { at, piece_end };
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn pieces(pattern: Pattern, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        pattern.each(text, |piece| pieces.push(piece));
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
