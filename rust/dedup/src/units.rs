//! Text to units: the words or characters that shingles are made of, as 64-bit hashes.
//!
//! Hash of a unit (part of the signature's definition, so it never changes): FNV-1a over the UTF-8
//! bytes of the unit after folding, in 64 bits, started from `seed ^ 0xcbf29ce484222325`.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::Unit;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// What a character does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Ends a unit and is none.
    Gap,
    /// Part of a word.
    Word,
    /// A unit of its own.
    Single,
}

/// Scripts that do not write words apart.
const fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0E00}'..='\u{0EFF}'      // Thai, Lao
        | '\u{1000}'..='\u{109F}'    // Myanmar
        | '\u{1780}'..='\u{17FF}'    // Khmer
        | '\u{3005}'..='\u{3007}'    // 々〆〇
        | '\u{3040}'..='\u{30FF}'    // Hiragana, Katakana
        | '\u{31F0}'..='\u{31FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{1100}'..='\u{11FF}' | '\u{AC00}'..='\u{D7AF}'
        | '\u{20000}'..='\u{323AF}')
}

fn class_of(c: char) -> Class {
    let is_part =
        |c: char| c.is_alphanumeric() || c.general_category_group() == GeneralCategoryGroup::Mark;
    if !is_part(c) {
        Class::Gap
    } else if is_unspaced(c) {
        Class::Single
    } else {
        Class::Word
    }
}

/// ASCII byte → its folded form, or 0 for a gap.
const fn ascii_table(fold: bool) -> [u8; 128] {
    let mut table = [0; 128];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = if fold { byte.to_ascii_lowercase() } else { byte };
        }
        byte += 1;
    }
    table
}

static EXACT: [u8; 128] = ascii_table(false);
static FOLDED: [u8; 128] = ascii_table(true);

#[inline]
fn feed(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(PRIME)
}

fn feed_char(mut hash: u64, c: char, fold: bool) -> u64 {
    let mut buffer = [0; 4];
    let mut add = |c: char| {
        for &byte in c.encode_utf8(&mut buffer).as_bytes() {
            hash = feed(hash, byte);
        }
    };
    if fold {
        c.to_lowercase().for_each(&mut add)
    } else {
        add(c)
    }
    hash
}

/// Appends the hash of each unit of `text` to `units`.
pub fn units(text: &str, unit: Unit, fold: bool, seed: u64, units: &mut Vec<u64>) {
    let bytes = text.as_bytes();
    let table = if fold { &FOLDED } else { &EXACT };
    let start = OFFSET ^ seed;
    let mut at = 0;
    let mut hash = start;
    // `hash` equals `start` exactly when no unit is open.
    let mut open = false;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte < 0x80 {
            at += 1;
            let folded = table[usize::from(byte)];
            if folded != 0 || (unit == Unit::Code && byte == b'_') {
                hash = feed(hash, if folded == 0 { byte } else { folded });
                open = true;
                continue;
            }
            if open {
                units.push(hash);
                (hash, open) = (start, false);
            }
            if unit == Unit::Code && byte.is_ascii_punctuation() {
                units.push(feed(start, byte));
            }
            continue;
        }
        let Some(c) = text[at..].chars().next() else { break };
        at += c.len_utf8();
        match class_of(c) {
            Class::Word => {
                hash = feed_char(hash, c, fold);
                open = true;
                continue;
            }
            class => {
                if open {
                    units.push(hash);
                    (hash, open) = (start, false);
                }
                if class == Class::Single {
                    units.push(feed_char(start, c, fold));
                }
            }
        }
    }
    if open {
        units.push(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str, unit: Unit) -> usize {
        let mut found = Vec::new();
        units(text, unit, true, 1, &mut found);
        found.len()
    }

    fn hashes(text: &str) -> Vec<u64> {
        let mut found = Vec::new();
        units(text, Unit::Text, true, 1, &mut found);
        found
    }

    #[test]
    fn words_and_characters() {
        assert_eq!(count("The red kite, 3 times!", Unit::Text), 5);
        assert_eq!(count("今天下雨。", Unit::Text), 4);
        assert_eq!(count("用Python写code", Unit::Text), 4);
        assert_eq!(count("สวัสดี", Unit::Text), 6);
        assert_eq!(count("Сегодня дождь", Unit::Text), 2);
        assert_eq!(count("हिन्दी भाषा", Unit::Text), 2);
        assert_eq!(count("!!! --- …", Unit::Text), 0);
    }

    #[test]
    fn folding() {
        assert_eq!(hashes("Red KITE"), hashes("red, kite"));
        assert_eq!(hashes("ÉCOLE"), hashes("école"));
        assert_ne!(hashes("ab c"), hashes("a bc"));
    }

    #[test]
    fn code_ignores_layout() {
        assert_eq!(count("def f_1(x):\n\treturn x+1", Unit::Code), 10);
        let mut two = (Vec::new(), Vec::new());
        units("if x:\n  y = 1", Unit::Code, false, 1, &mut two.0);
        units("if x:\n\ty=1", Unit::Code, false, 1, &mut two.1);
        assert_eq!(two.0, two.1);
    }
}
