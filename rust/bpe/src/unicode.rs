//! Character classes that the patterns ask for, as one byte a character, and NFC.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::characters::character;

/// `\p{L}`.
pub const LETTER: u8 = 1;
/// `\p{N}`.
pub const NUMBER: u8 = 2;
/// `\s`.
pub const SPACE: u8 = 4;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`.
pub const UPPERISH: u8 = 8;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
pub const LOWERISH: u8 = 16;

const PAGE: usize = 256;
const BMP: usize = 1 << 16;

/// The class bits of every character.
pub struct Classes {
    /// The basic plane, flat.
    plane: Vec<u8>,
    page_of: Vec<u16>,
    pages: Vec<[u8; PAGE]>,
}

impl Classes {
    /// From the Unicode data of `regex-syntax`, which the reference's regex engine uses as well.
    pub fn get() -> &'static Self {
        static TABLE: LazyLock<Classes> = LazyLock::new(Classes::new);
        &TABLE
    }

    fn new() -> Self {
        let mut flat = vec![0u8; 0x11_0000];
        let classes = [
            (LETTER, r"\p{L}"),
            (NUMBER, r"\p{N}"),
            (SPACE, r"\s"),
            (UPPERISH, r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"),
            (LOWERISH, r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"),
        ];
        for (bit, class) in classes {
            let hir = regex_syntax::parse(class).map(regex_syntax::hir::Hir::into_kind);
            if let Ok(HirKind::Class(Class::Unicode(ranges))) = hir {
                for range in ranges.iter() {
                    for code in u32::from(range.start())..=u32::from(range.end()) {
                        flat[code as usize] |= bit;
                    }
                }
            }
        }
        let mut this = Self { plane: Vec::new(), page_of: Vec::new(), pages: Vec::new() };
        for page in flat.chunks_exact(PAGE) {
            let known = this.pages.iter().position(|known| known == page);
            let index = known.unwrap_or_else(|| {
                this.pages.push(page.try_into().unwrap_or([0; PAGE]));
                this.pages.len() - 1
            });
            this.page_of.push(index as u16);
        }
        flat.truncate(BMP);
        this.plane = flat;
        this
    }

    /// The class bits of a character.
    #[inline(always)]
    pub fn of(&self, code: u32) -> u8 {
        let code = code as usize;
        match self.plane.get(code) {
            Some(&bits) => bits,
            None => self.pages[usize::from(self.page_of[code / PAGE])][code % PAGE],
        }
    }
}

/// A bit for each character up to U+1FFFF that NFC leaves alone whatever stands beside it.
static STABLE: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut bits = vec![0; 0x2_0000 / 64];
    for c in (0..0x2_0000).filter_map(char::from_u32) {
        let alone = is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes;
        if alone && canonical_combining_class(c) == 0 {
            bits[c as usize / 64] |= 1 << (c as u32 % 64);
        }
    }
    bits
});

/// Whether a look at each character alone is enough to know that a text is in NFC.
fn is_surely_nfc(text: &[u8]) -> bool {
    let (stable, mut at) = (&*STABLE, 0);
    while at < text.len() {
        match text[at] {
            0..0x80 => at = ascii_end(text, at),
            // U+4000 to U+9FFF: ideographs and hexagrams, all stable.
            0xE4..=0xE9 => at += 3,
            _ => {
                let (code, after) = character(text, at);
                let bits = stable.get(code as usize / 64).copied().unwrap_or(0);
                if bits >> (code % 64) & 1 == 0 {
                    return false;
                }
                at = after;
            }
        }
    }
    true
}

/// Somewhere after ASCII at `at` that only ASCII lies before.
#[inline(always)]
fn ascii_end(text: &[u8], mut at: usize) -> usize {
    let word = |eight: &[u8]| u64::from_le_bytes(eight.try_into().unwrap_or([0; 8]));
    while let Some(some) = text.get(at..at + 32) {
        let all = some.chunks_exact(8).fold(0, |all, eight| all | word(eight));
        if all & 0x8080_8080_8080_8080 != 0 {
            break;
        }
        at += 32;
    }
    while text.get(at).is_some_and(u8::is_ascii) {
        at += 1;
    }
    at
}

/// Whether what stands before a character has no part in its composition.
pub fn starts_anew(c: char) -> bool {
    STABLE.get(c as usize / 64).is_none_or(|bits| bits >> (c as u32 % 64) & 1 == 1)
}

/// A text in NFC.
pub fn nfc(text: &str) -> Cow<'_, str> {
    if is_surely_nfc(text.as_bytes()) || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(c: char) -> u8 {
        Classes::get().of(c as u32)
    }

    #[test]
    fn samples() {
        assert_eq!(class('a'), LETTER | LOWERISH);
        assert_eq!(class('A'), LETTER | UPPERISH);
        assert_eq!(class('世'), LETTER | UPPERISH | LOWERISH);
        assert_eq!(class('5'), NUMBER);
        assert_eq!(class('\u{301}'), UPPERISH | LOWERISH);
        assert_eq!(class('\u{3000}'), SPACE);
        assert_eq!(class('!'), 0);
        assert_eq!(class('𠮷'), class('世'));
    }

    #[test]
    fn nfc_is_what_the_slow_way_gives() {
        for c in (0..0x3_0000).filter_map(char::from_u32) {
            for text in [format!("a{c}"), format!("{c}\u{301}"), format!("가{c}x")] {
                let slow: String = text.nfc().collect();
                assert_eq!(nfc(&text), slow);
                assert!(!is_surely_nfc(text.as_bytes()) || slow == text);
            }
        }
        assert!(is_surely_nfc("plain 中文，한국어 のテスト 🙂 é".as_bytes()));
    }
}
