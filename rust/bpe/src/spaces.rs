//! Where runs of spaces can be cut off in a vocabulary over characters.
//!
//! Where joining two spaces comes before all else that a space could join, a run of them first turns
//! into pairs, from the left, and one more space if their number is odd. A token that crosses an end
//! of the run then holds whole pairs there, which few tokens do. So the indentation of a line of code,
//! which its neighbours alone would tie to the word that follows, can be cut from it.

use crate::characters::MARK;

/// Which characters can be joined to a run of two spaces or more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spaces {
    /// By the class of a character: whether it follows two spaces in a token.
    follows: Vec<bool>,
    /// Whether two spaces or more that end a token stand after it.
    leads: Vec<bool>,
}

/// A run of spaces in a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// How many.
    count: usize,
    /// Where the run ends.
    pub(crate) end: usize,
}

impl Run {
    /// The run that starts at a place; a space may be written as its mark.
    #[inline(always)]
    pub(crate) fn at(text: &[u8], start: usize) -> Self {
        let (mut end, mut count) = (start, 0);
        loop {
            if text.get(end) == Some(&b' ') {
                end += 1;
            } else if text.get(end..end + MARK.len()) == Some(MARK) {
                end += MARK.len();
            } else {
                return Self { count, end };
            }
            count += 1;
        }
    }
}

impl Spaces {
    /// For so many classes of characters, of which `space` is that of a space; `tokens` are classes
    /// with 0 between them.
    pub(crate) fn new(classes: usize, space: u16, tokens: impl Iterator<Item = u16>) -> Self {
        let mut this = Self { follows: vec![false; classes], leads: vec![false; classes] };
        let (mut before, mut last, mut count) = (0, 0, 0);
        for class in tokens {
            if class == space {
                before = if count == 0 { last } else { before };
                count += 1;
            } else {
                match class {
                    _ if count < 2 => {}
                    0 => this.leads[usize::from(before)] = true,
                    class => this.follows[usize::from(class)] = true,
                }
                count = 0;
            }
            last = class;
        }
        this
    }

    /// Whether there is a border before a run and after it, between these two classes.
    #[inline(always)]
    pub(crate) fn borders(&self, run: Run, before: u16, after: u16) -> (bool, bool) {
        // A token that goes on after the run holds its last pair and what follows.
        let closed = run.count > 1 && !self.follows[usize::from(after)];
        (closed && !self.leads[usize::from(before)], closed && run.count.is_multiple_of(2))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Allowed, HfOptions, Tokenizer};

    /// A vocabulary of these characters and merges, in this order.
    fn tokenizer(merges: &[(&str, &str)]) -> Tokenizer {
        let characters = ["▁", "a", "b", "\n", "\t"].map(str::to_owned);
        let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
        let mut names: Vec<String> = bytes.chain(characters).collect();
        let mut kept = Vec::new();
        for (left, right) in merges {
            let known = |part: &str| names.iter().any(|name| name == part);
            let pair = serde_json::json!([left, right]);
            if known(left) && known(right) && !kept.contains(&pair) {
                let joined = format!("{left}{right}");
                if !known(&joined) {
                    names.push(joined);
                }
                kept.push(pair);
            }
        }
        let vocab: serde_json::Map<_, _> =
            names.into_iter().zip(0..).map(|(name, id)| (name, serde_json::json!(id))).collect();
        let file = serde_json::json!({
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            "model": {"type": "BPE", "vocab": vocab, "merges": kept, "byte_fallback": true},
        });
        Tokenizer::from_hf(&file.to_string(), HfOptions { parity: true }).unwrap()
    }

    /// What merging the whole text in one piece gives.
    fn whole(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let crate::tokenizer::Alphabet::Characters(characters) = &tokenizer.alphabet else {
            panic!("a vocabulary over characters");
        };
        let (mut symbols, mut ids) = (Vec::new(), Vec::new());
        characters.symbols(text.replace(' ', "▁").as_bytes(), |id| symbols.push(id));
        tokenizer.merges.heap(&symbols, |id, _| ids.push(id));
        ids
    }

    fn pairs(tokenizer: &Tokenizer) -> bool {
        let crate::tokenizer::Alphabet::Characters(characters) = &tokenizer.alphabet else {
            return false;
        };
        tokenizer.pairs_spaces(characters)
    }

    #[test]
    fn runs_are_cut_only_where_pairs_come_first() {
        let first = tokenizer(&[("▁", "▁"), ("▁▁", "▁▁"), ("▁", "a")]);
        assert!(pairs(&first));
        assert!(!pairs(&tokenizer(&[("▁", "a"), ("▁", "▁")])));
        assert!(!pairs(&tokenizer(&[("a", "b")])));
    }

    #[test]
    fn cut_or_whole_the_ids_are_the_same() {
        let mut state = 5u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        let pool =
            ["▁", "▁▁", "▁▁▁", "▁▁▁▁", "a", "b", "ab", "\n", "\t", "\n▁▁", "▁▁\n", "▁a", "▁ab"];
        let mut cut = 0;
        for round in 0..300 {
            let mut merges = vec![("▁", "▁")];
            merges.extend(
                (0..random(14)).map(|_| (pool[random(pool.len())], pool[random(pool.len())])),
            );
            // Else pairs come first in all of them, and nothing shows that it matters.
            if round % 3 == 0 {
                merges.rotate_left(1);
            }
            let tokenizer = tokenizer(&merges);
            cut += usize::from(pairs(&tokenizer));
            for _ in 0..40 {
                let parts = ["a", "b", "\n", "\t", " ", "  ", "    ", "▁", "é", "         "];
                let text: String = (0..random(14)).map(|_| parts[random(parts.len())]).collect();
                let ids = tokenizer.encode(&text, &Allowed::none());
                assert_eq!(ids, whole(&tokenizer, &text), "{text:?} {merges:?}");
            }
        }
        assert!((150..300).contains(&cut));
    }
}
