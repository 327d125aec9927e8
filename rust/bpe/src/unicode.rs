//! Character classes that the patterns ask for, as one byte a character.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

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
}
