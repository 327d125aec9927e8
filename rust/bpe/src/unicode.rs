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

struct Table {
    page_of: Vec<u16>,
    pages: Vec<[u8; PAGE]>,
}

/// Unicode data of the `regex-syntax` crate, the same that the reference's regex engine uses.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
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
    let mut table = Table { page_of: Vec::new(), pages: Vec::new() };
    for page in flat.chunks_exact(PAGE) {
        let known = table.pages.iter().position(|known| known == page);
        let index = known.unwrap_or_else(|| {
            table.pages.push(page.try_into().unwrap_or([0; PAGE]));
            table.pages.len() - 1
        });
        table.page_of.push(index as u16);
    }
    table
});

/// The class bits of a character.
#[inline]
pub fn class(c: char) -> u8 {
    let (table, code) = (&*TABLE, c as usize);
    table.pages[usize::from(table.page_of[code / PAGE])][code % PAGE]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        assert_eq!(class('a'), LETTER | LOWERISH);
        assert_eq!(class('A'), LETTER | UPPERISH);
        assert_eq!(class('世'), LETTER | UPPERISH | LOWERISH);
        assert_eq!(class('5'), NUMBER);
        assert_eq!(class('\u{301}'), UPPERISH | LOWERISH);
        assert_eq!(class('\u{3000}'), SPACE);
        assert_eq!(class('!'), 0);
    }
}
