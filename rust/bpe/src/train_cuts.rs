//! Where text is cut before its pieces are counted; no learned token crosses a cut.

use crate::Pattern;
use crate::scripts::{NO_SCRIPT, script_of};
use crate::unicode::{Classes, NUMBER};

/// Rules that cut text for training.
///
/// The pattern cuts when a vocabulary over bytes encodes, too. Digits and scripts cut here only: the
/// vocabulary itself keeps the rule then, for no merge gives a token that breaks it.
#[derive(Debug, Clone, Copy)]
pub struct Cuts {
    /// Cuts words.
    pub pattern: Pattern,
    /// Most digits (`\p{N}`) in a token, which then holds nothing else; 0: as the pattern has it.
    pub digits: usize,
    /// Whether a token keeps to one script; characters common to scripts go with any.
    pub one_script: bool,
}

impl From<Pattern> for Cuts {
    fn from(pattern: Pattern) -> Self {
        Self { pattern, digits: 0, one_script: false }
    }
}

impl Cuts {
    /// Calls `piece` with each piece of `text`, in order; the pieces tile the text.
    pub fn each<'t>(&self, text: &'t str, mut piece: impl FnMut(&'t str)) {
        if self.digits == 0 && !self.one_script {
            return self.pattern.each(text, piece);
        }
        self.pattern.each(text, |word| {
            if word.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_digit()) {
                piece(word);
            } else {
                self.finer(word, &mut piece);
            }
        });
    }

    fn finer<'t>(&self, word: &'t str, piece: &mut impl FnMut(&'t str)) {
        let classes = Classes::get();
        let (mut start, mut script, mut digits) = (0, NO_SCRIPT, 0);
        for (at, c) in word.char_indices() {
            let is_digit = self.digits > 0 && classes.of(u32::from(c)) & NUMBER != 0;
            let own = if self.one_script { script_of(c) } else { NO_SCRIPT };
            let by_digits =
                if is_digit { digits == self.digits || digits == 0 } else { digits > 0 };
            let by_script = own != NO_SCRIPT && script != NO_SCRIPT && own != script;
            if by_digits || by_script {
                if at > start {
                    piece(&word[start..at]);
                }
                (start, script, digits) = (at, NO_SCRIPT, 0);
            }
            digits += usize::from(is_digit);
            if own != NO_SCRIPT {
                script = own;
            }
        }
        if start < word.len() {
            piece(&word[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(cuts: Cuts, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        cuts.each(text, |piece| pieces.push(piece));
        assert_eq!(pieces.concat(), text);
        pieces
    }

    #[test]
    fn digits_stand_in_groups_of_their_own() {
        let cuts = |digits| Cuts { pattern: Pattern::Gpt2, digits, one_script: false };
        assert_eq!(pieces(cuts(1), "a 123½b"), ["a", " ", "1", "2", "3", "½", "b"]);
        assert_eq!(pieces(cuts(3), "x 1234567"), ["x", " ", "123", "456", "7"]);
        assert_eq!(pieces(cuts(0), "x 1234567"), ["x", " 1234567"]);
        assert_eq!(pieces(cuts(1), ""), Vec::<&str>::new());
    }

    #[test]
    fn scripts_do_not_mix() {
        let cuts = Cuts { one_script: true, ..Pattern::Cl100k.into() };
        assert_eq!(
            pieces(cuts, "用Python写，καφές don't"),
            ["用", "Python", "写", "，καφές", " don", "'t"]
        );
        assert_eq!(pieces(Pattern::Cl100k.into(), "用Python写"), ["用Python写"]);
        assert_eq!(pieces(cuts, "カナと漢字"), ["カナと漢字"]);
    }
}
