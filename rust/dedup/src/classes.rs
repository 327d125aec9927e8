//! What each character is to the tokeniser, and what it is folded to.

use std::sync::LazyLock;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// What a character does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Ends a unit and belongs to none.
    Gap,
    /// Part of a word: letters, marks and digits of scripts that write words apart.
    Word,
    /// A unit of its own: letters, marks and digits of scripts that do not.
    Single,
    /// As if it were not there: joiners, soft hyphens, variation selectors.
    Ignored,
}

/// Scripts that do not write words apart, and Hangul, whose words carry their endings.
const fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}'      // Thai, Lao
        | '\u{1000}'..='\u{109F}' | '\u{A9E0}'..='\u{A9FF}' | '\u{AA60}'..='\u{AA7F}' // Myanmar
        | '\u{1780}'..='\u{17FF}'    // Khmer
        | '\u{1950}'..='\u{19DF}' | '\u{1A20}'..='\u{1AAF}' | '\u{AA80}'..='\u{AADF}' // Tai
        | '\u{11700}'..='\u{1174F}'  // Ahom
        | '\u{3005}'..='\u{3007}'    // 々〆〇
        | '\u{3040}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9F}' // Kana
        | '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}' | '\u{AC00}'..='\u{D7FF}' // Hangul
        | '\u{A960}'..='\u{A97F}' | '\u{FFA0}'..='\u{FFDC}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' // Han
        | '\u{1AFF0}'..='\u{1B16F}' | '\u{20000}'..='\u{323AF}' | '\u{323B0}'..='\u{3347F}')
}

/// Characters without a shape that stand inside words (a part of Default_Ignorable_Code_Point).
const fn is_ignored(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{180B}'..='\u{180F}' | '\u{200C}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
        | '\u{E0000}'..='\u{E0FFF}')
}

fn find_class(c: char) -> Class {
    let is_part =
        |c: char| c.is_alphanumeric() || c.general_category_group() == GeneralCategoryGroup::Mark;
    if is_ignored(c) {
        Class::Ignored
    } else if !is_part(c) {
        Class::Gap
    } else if is_unspaced(c) {
        Class::Single
    } else {
        Class::Word
    }
}

/// Whether a text with this character can be in a form other than NFC.
fn find_unstable(c: char) -> bool {
    canonical_combining_class(c) != 0 || is_nfc_quick(std::iter::once(c)) != IsNormalized::Yes
}

/// Lower case; a full-width letter or digit as its plain one; both small sigmas as one. `None`
/// where that is more than one character.
fn find_folded(c: char) -> Option<char> {
    let c = match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0)?,
        'ς' => 'σ',
        c => c,
    };
    let mut lower = c.to_lowercase();
    let first = lower.next();
    if lower.next().is_none() { first } else { None }
}

const UNSTABLE: u8 = 4;
const PLANE: usize = 0x1_0000;

/// Answers for the basic plane, looked up once in a process.
struct Plane {
    /// `Class`, and `UNSTABLE`.
    classes: Vec<u8>,
    /// Folded character; 0 where it is not one character of this plane.
    folded: Vec<u16>,
}

static PLANE_TABLE: LazyLock<Plane> = LazyLock::new(|| {
    let mut plane = Plane { classes: vec![0; PLANE], folded: vec![0; PLANE] };
    for code in 0..PLANE {
        let Some(c) = char::from_u32(code as u32) else { continue };
        plane.classes[code] = find_class(c) as u8 | if find_unstable(c) { UNSTABLE } else { 0 };
        plane.folded[code] = find_folded(c).and_then(|c| u16::try_from(c as u32).ok()).unwrap_or(0);
    }
    plane
});

/// The tables, at hand without a check for whether they are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classes {
    classes: &'static [u8],
    folded: &'static [u16],
}

impl Classes {
    pub(crate) fn get() -> Self {
        Self { classes: &PLANE_TABLE.classes, folded: &PLANE_TABLE.folded }
    }

    /// Class of a character, and whether it can be in another form than NFC.
    #[inline]
    pub(crate) fn class(self, c: char) -> (Class, bool) {
        match self.classes.get(c as usize) {
            Some(&entry) => {
                let class = match entry & 3 {
                    0 => Class::Gap,
                    1 => Class::Word,
                    2 => Class::Single,
                    _ => Class::Ignored,
                };
                (class, entry & UNSTABLE != 0)
            }
            None => match c {
                '\u{1F000}'..='\u{1FAFF}' => (Class::Gap, false),
                '\u{20000}'..='\u{2A6DF}' => (Class::Single, false),
                _ => (find_class(c), find_unstable(c)),
            },
        }
    }

    /// For a character of the basic plane that is always in NFC: 1 if it is a unit of its own, 0 if it
    /// is part of none. `None` for all others.
    #[inline(always)]
    pub(crate) fn simple(self, code: u32) -> Option<usize> {
        const { assert!(Class::Gap as u8 == 0 && Class::Single as u8 == 2 && UNSTABLE == 4) };
        let entry = *self.classes.get(code as usize)?;
        (entry & !2 == 0).then_some(usize::from(entry >> 1))
    }

    /// Appends the folded character in UTF-8.
    #[inline]
    pub(crate) fn push_folded(self, c: char, word: &mut Vec<u8>) {
        let folded = self.folded.get(c as usize).copied().unwrap_or(0);
        match char::from_u32(u32::from(folded)) {
            Some(c) if folded != 0 => push(c, word),
            _ => c.to_lowercase().for_each(|c| push(c, word)),
        }
    }
}

#[inline]
pub(crate) fn push(c: char, word: &mut Vec<u8>) {
    word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_script() {
        let classes = Classes::get();
        let class = |c| classes.class(c).0;
        for c in "aЯهß3हि١ª́ａ".chars() {
            assert_eq!(class(c), Class::Word, "{c:?}");
        }
        for c in "今々かカ한ไทยລຂကក𠀀ｶ".chars() {
            assert_eq!(class(c), Class::Single, "{c:?}");
        }
        for c in " \n。，!_-💧\u{200B}\u{3000}\0".chars() {
            assert_eq!(class(c), Class::Gap, "{c:?}");
        }
        for c in "\u{AD}\u{200D}\u{FE0F}\u{FEFF}".chars() {
            assert_eq!(class(c), Class::Ignored, "{c:?}");
        }
    }

    #[test]
    fn folding_of_single_characters() {
        let folded = |text: &str| {
            let mut word = Vec::new();
            text.chars().for_each(|c| Classes::get().push_folded(c, &mut word));
            String::from_utf8(word).unwrap()
        };
        assert_eq!(folded("ÉЯΣςＡ１K"), "éяσσa1k");
        assert_eq!(folded("İ𐐀"), "i̇𐐨");
    }

    #[test]
    fn simple_ones_are_units_or_nothing() {
        let classes = Classes::get();
        for code in 0..PLANE as u32 {
            let Some(c) = char::from_u32(code) else { continue };
            let expected = match classes.class(c) {
                (Class::Gap, false) => Some(0),
                (Class::Single, false) => Some(1),
                _ => None,
            };
            assert_eq!(classes.simple(code), expected, "{c:?}");
        }
        assert!(('\u{4E00}'..='\u{9FFF}').all(|c| classes.simple(c as u32) == Some(1)));
        assert_eq!(classes.simple(PLANE as u32), None);
    }

    #[test]
    fn which_characters_can_be_out_of_form() {
        let unstable = |c| Classes::get().class(c).1;
        assert!(unstable('\u{308}') && unstable('\u{0958}') && unstable('\u{1161}'));
        assert!(!unstable('é') && !unstable('今') && !unstable('я'));
    }
}
