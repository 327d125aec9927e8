//! What each Unicode character is to the statistics: one flag word a code point, built once.

use std::sync::LazyLock;

use unicode_normalization::char::is_combining_mark;

/// Blank, as `char::is_whitespace`, and the four ASCII separators U+001C–U+001F.
pub const SPACE: u16 = 1;
/// A letter (general category L).
pub const ALPHA: u16 = 1 << 1;
/// A number (general category N).
pub const DIGIT: u16 = 1 << 2;
/// An upper-case letter.
pub const UPPER: u16 = 1 << 3;
/// A lower-case letter.
pub const LOWER: u16 = 1 << 4;
/// A character of a script written without blanks: it is a word of its own.
pub const UNIT: u16 = 1 << 5;
/// A combining mark: it belongs to the character before it.
pub const MARK: u16 = 1 << 6;
/// Punctuation that ends a clause.
pub const CLAUSE: u16 = 1 << 7;
/// Punctuation that ends a sentence (Unicode property `Sentence_Terminal`).
pub const TERMINAL: u16 = 1 << 8;
/// A Han ideograph.
pub const HAN: u16 = 1 << 9;
/// Control, invisible, private, replacement: nothing a reader should meet.
pub const ANOMALOUS: u16 = 1 << 10;
/// Closes a quotation or bracket, and so may follow a sentence's end.
pub const CLOSER: u16 = 1 << 11;
/// Punctuation or control in datatrove's sense, for `compat`.
pub const SYMBOL: u16 = 1 << 12;
/// A letter or number: what makes a token a word.
pub const ALNUM: u16 = ALPHA | DIGIT;

type Ranges = &'static [(u32, u32)];

/// Scripts written without blanks between words, and Hangul syllables (counted one by one, so that
/// Korean gets the same thresholds as its neighbours).
const UNITS: Ranges = &[
    (0x0E00, 0x0EFF),   // Thai, Lao
    (0x0F00, 0x0FFF),   // Tibetan
    (0x1000, 0x109F),   // Myanmar
    (0x1100, 0x11FF),   // Hangul Jamo
    (0x1780, 0x17FF),   // Khmer
    (0x1950, 0x19DF),   // Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),   // Tai Tham
    (0x2E80, 0x2FDF),   // CJK radicals
    (0x3005, 0x3007),   // iteration mark, closing mark, zero
    (0x3021, 0x3029),   // Hangzhou numerals
    (0x3031, 0x3035),   // kana repeat marks
    (0x3038, 0x303C),   // Hangzhou numerals, vertical iteration marks
    (0x3041, 0x30FF),   // Hiragana, Katakana
    (0x3105, 0x318F),   // Bopomofo, Hangul compatibility Jamo
    (0x31A0, 0x31FF),   // Bopomofo extended, CJK strokes, Katakana extensions
    (0x3400, 0x4DBF),   // Han extension A
    (0x4E00, 0x9FFF),   // Han
    (0xA000, 0xA4CF),   // Yi
    (0xAA60, 0xAADF),   // Myanmar extended A, Tai Viet
    (0xAC00, 0xD7FB),   // Hangul syllables
    (0xF900, 0xFAFF),   // Han compatibility
    (0xFF66, 0xFFDC),   // half-width Katakana and Hangul
    (0x1AFF0, 0x1B16F), // Kana supplements
    (0x20000, 0x3FFFD), // Han extensions
];
const HANS: Ranges = &[
    (0x2E80, 0x2FD5),
    (0x3005, 0x3005),
    (0x3007, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303B),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAD9),
    (0x20000, 0x3FFFD),
];
/// Unicode 14–16, property `Sentence_Terminal`, with the full-width and small forms.
#[rustfmt::skip]
const TERMINALS: Ranges = &[
    (0x21, 0x21), (0x2e, 0x2e), (0x3f, 0x3f), (0x589, 0x589), (0x61d, 0x61f), (0x6d4, 0x6d4),
    (0x700, 0x702), (0x7f9, 0x7f9), (0x837, 0x837), (0x839, 0x839), (0x83d, 0x83e), (0x964, 0x965),
    (0x104a, 0x104b), (0x1362, 0x1362), (0x1367, 0x1368), (0x166e, 0x166e), (0x1735, 0x1736),
    (0x17d4, 0x17d6), (0x17d9, 0x17da), (0x1803, 0x1803), (0x1809, 0x1809), (0x1944, 0x1945),
    (0x1aa8, 0x1aab), (0x1b5a, 0x1b5b), (0x1b5e, 0x1b5f), (0x1b7d, 0x1b7e), (0x1c3b, 0x1c3c),
    (0x1c7e, 0x1c7f), (0x203c, 0x203d), (0x2047, 0x2049), (0x2e2e, 0x2e2e), (0x2e3c, 0x2e3c),
    (0x2e53, 0x2e54), (0x3002, 0x3002), (0xa4ff, 0xa4ff), (0xa60e, 0xa60f), (0xa6f3, 0xa6f3),
    (0xa6f7, 0xa6f7), (0xa876, 0xa877), (0xa8ce, 0xa8cf), (0xa92f, 0xa92f), (0xa9c8, 0xa9c9),
    (0xaa5d, 0xaa5f), (0xaaf0, 0xaaf1), (0xabeb, 0xabeb), (0xfe52, 0xfe52), (0xfe56, 0xfe57),
    (0xff01, 0xff01), (0xff0e, 0xff0e), (0xff1f, 0xff1f), (0xff61, 0xff61), (0x10a56, 0x10a57),
    (0x10f55, 0x10f59), (0x10f86, 0x10f89), (0x11047, 0x11048), (0x110be, 0x110c1),
    (0x11141, 0x11143), (0x111c5, 0x111c6), (0x111cd, 0x111cd), (0x111de, 0x111df),
    (0x11238, 0x11239), (0x1123b, 0x1123c), (0x112a9, 0x112a9), (0x1144b, 0x1144c),
    (0x115c2, 0x115c3), (0x115c9, 0x115d7), (0x11641, 0x11642), (0x1173c, 0x1173e),
    (0x11944, 0x11944), (0x11946, 0x11946), (0x11a42, 0x11a43), (0x11a9b, 0x11a9c),
    (0x11c41, 0x11c42), (0x11ef7, 0x11ef8), (0x11f43, 0x11f44), (0x16a6e, 0x16a6f),
    (0x16af5, 0x16af5), (0x16b37, 0x16b38), (0x16b44, 0x16b44), (0x16e98, 0x16e98),
    (0x1bc9f, 0x1bc9f), (0x1da88, 0x1da88),
];
/// Letter numbers and letter-like symbols that Rust calls alphabetic and Unicode no letters.
const NOT_LETTERS: Ranges = &[
    (0x16EE, 0x16F0),
    (0x2160, 0x2182),
    (0x2185, 0x2188),
    (0x24B6, 0x24E9),
    (0x3007, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303A),
    (0xA6E6, 0xA6EF),
    (0x10140, 0x10174),
    (0x10341, 0x10341),
    (0x1034A, 0x1034A),
    (0x103D1, 0x103D5),
    (0x12400, 0x1246E),
    (0x1F130, 0x1F149),
    (0x1F150, 0x1F169),
    (0x1F170, 0x1F189),
];
const ANOMALIES: Ranges = &[
    (0x00, 0x08),
    (0x0B, 0x0C),
    (0x0E, 0x1F),
    (0x7F, 0x84),
    (0x86, 0x9F),
    (0xAD, 0xAD),        // soft hyphen
    (0x180E, 0x180E),    // Mongolian vowel separator, once a blank
    (0x200B, 0x200B),    // zero-width space
    (0x2060, 0x2064),    // word joiner, invisible operators
    (0xE000, 0xF8FF),    // private use
    (0xFDD0, 0xFDEF),    // noncharacters
    (0xFEFF, 0xFEFF),    // byte-order mark
    (0xFFF9, 0xFFFD),    // interlinear marks, object and replacement characters
    (0xFFFE, 0xFFFF),    // noncharacters
    (0xF0000, 0x10FFFF), // private use
];
/// datatrove's punctuation list; its sentence terminals are `TERMINALS`.
const DATATROVE_SYMBOLS: Ranges = &[
    (0x00, 0x08),
    (0x0B, 0x1F),
    (0x21, 0x2F),
    (0x3A, 0x40),
    (0x5B, 0x60),
    (0x7B, 0x9F),
    (0xAB, 0xAB),
    (0xB4, 0xB4),
    (0xBB, 0xBB),
    (0x2013, 0x2014),
    (0x2019, 0x2019),
    (0x201C, 0x201E),
    (0x2026, 0x2026),
    (0x2236, 0x2236),
    (0x2501, 0x2501),
    (0x25BA, 0x25BA),
    (0x3001, 0x3002),
    (0x3008, 0x300D),
    (0x3010, 0x3011),
    (0xFF01, 0xFF01),
    (0xFF05, 0xFF05),
    (0xFF08, 0xFF09),
    (0xFF0C, 0xFF0C),
    (0xFF0E, 0xFF0E),
    (0xFF11, 0xFF11),
    (0xFF1A, 0xFF1B),
    (0xFF1F, 0xFF1F),
    (0xFF5E, 0xFF5E),
];
const CLAUSES: &str = ",.;:!?—–…،؛؟۔।、。，；：！？｡､﹐﹑﹔﹕·⋯";
const CLOSERS: &str = "\"')]}”’»›）］｝」』】》〉〕〗｣";

static TABLE: LazyLock<Box<[u16]>> = LazyLock::new(build);

/// Flags of every code point below U+110000, indexed by code point.
pub fn table() -> &'static [u16] {
    &TABLE
}

fn build() -> Box<[u16]> {
    let mut table = vec![0u16; 0x11_0000].into_boxed_slice();
    for (code, flags) in table.iter_mut().enumerate().filter(|&(code, _)| may_be_assigned(code)) {
        let Some(character) = u32::try_from(code).ok().and_then(char::from_u32) else {
            continue;
        };
        *flags = basic_flags(character);
    }
    let mut mark = |ranges: Ranges, flag: u16| {
        for &(first, last) in ranges {
            for flags in &mut table[first as usize..=last as usize] {
                *flags |= flag;
            }
        }
    };
    mark(HANS, HAN);
    mark(TERMINALS, TERMINAL | CLAUSE | SYMBOL);
    mark(DATATROVE_SYMBOLS, SYMBOL);
    for &(first, last) in NOT_LETTERS {
        table[first as usize..=last as usize].iter_mut().for_each(|flags| *flags &= !ALPHA);
    }
    for &(first, last) in UNITS {
        // Marks join the unit before them; punctuation of these scripts stays punctuation.
        let range = &mut table[first as usize..=last as usize];
        range.iter_mut().filter(|f| **f & MARK == 0 && **f & (ALNUM | HAN) != 0).for_each(
            |flags| {
                *flags |= UNIT;
            },
        );
    }
    for &(first, last) in ANOMALIES {
        for flags in &mut table[first as usize..=last as usize] {
            *flags = (*flags & (SPACE | SYMBOL)) | ANOMALOUS;
        }
    }
    CLAUSES.chars().for_each(|c| table[c as usize] |= CLAUSE);
    CLOSERS.chars().for_each(|c| table[c as usize] |= CLOSER);
    table
}

/// Whether the code point lies in a plane in use: the others, three quarters of all, need no look.
fn may_be_assigned(code: usize) -> bool {
    code < 0x4_0000 || (0xE_0000..0xE_1000).contains(&code)
}

fn basic_flags(character: char) -> u16 {
    if character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character) {
        return SPACE;
    }
    if is_combining_mark(character) {
        return MARK;
    }
    let mut flags = 0;
    if character.is_alphabetic() {
        flags |= ALPHA;
    }
    if character.is_numeric() {
        flags |= DIGIT;
    }
    if character.is_uppercase() {
        flags |= UPPER;
    } else if character.is_lowercase() {
        flags |= LOWER;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(character: char) -> u16 {
        table()[character as usize]
    }

    #[test]
    fn scripts() {
        assert_eq!(flags('国') & (UNIT | HAN | ALPHA), UNIT | HAN | ALPHA);
        assert_eq!(flags('カ') & (UNIT | HAN), UNIT);
        assert_eq!(flags('한') & UNIT, UNIT);
        assert_eq!(flags('ก') & UNIT, UNIT);
        assert_eq!(flags('\u{e31}') & (UNIT | MARK), MARK); // Thai vowel sign
        assert_eq!(flags('。') & (TERMINAL | CLAUSE | UNIT), TERMINAL | CLAUSE);
        assert_eq!(flags('é') & (ALPHA | LOWER | UNIT), ALPHA | LOWER);
        assert_eq!(flags('Ⅷ') & (ALPHA | DIGIT), DIGIT);
    }

    #[test]
    fn planes_passed_over_hold_nothing() {
        for character in ('\0'..=char::MAX).filter(|&c| !may_be_assigned(c as usize)) {
            assert_eq!(basic_flags(character), 0, "{character:?}");
        }
    }

    #[test]
    fn anomalies() {
        for character in ['\0', '\u{200b}', '\u{fffd}', '\u{e000}', '\u{ad}', '\u{feff}'] {
            assert_eq!(flags(character) & ANOMALOUS, ANOMALOUS, "{character:?}");
        }
        // Joiners are needed in Persian, Indic scripts and emoji; line ends and tabs are layout.
        for character in ['\u{200d}', '\u{200c}', '\t', '\n', '\r', 'a', '中'] {
            assert_eq!(flags(character) & ANOMALOUS, 0, "{character:?}");
        }
    }
}
