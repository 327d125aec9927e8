//! Unicode scripts of characters.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// The scripts of Unicode 16 (Scripts.txt), without Common and Inherited, which go with any.
/// Hiragana and Katakana stand at the end: they count as Han, as in SentencePiece, for Japanese
/// words mix the three.
const NAMES: [&str; 168] = [
    "Adlam",
    "Ahom",
    "Anatolian_Hieroglyphs",
    "Arabic",
    "Armenian",
    "Avestan",
    "Balinese",
    "Bamum",
    "Bassa_Vah",
    "Batak",
    "Bengali",
    "Bhaiksuki",
    "Bopomofo",
    "Brahmi",
    "Braille",
    "Buginese",
    "Buhid",
    "Canadian_Aboriginal",
    "Carian",
    "Caucasian_Albanian",
    "Chakma",
    "Cham",
    "Cherokee",
    "Chorasmian",
    "Coptic",
    "Cuneiform",
    "Cypriot",
    "Cypro_Minoan",
    "Cyrillic",
    "Deseret",
    "Devanagari",
    "Dives_Akuru",
    "Dogra",
    "Duployan",
    "Egyptian_Hieroglyphs",
    "Elbasan",
    "Elymaic",
    "Ethiopic",
    "Garay",
    "Georgian",
    "Glagolitic",
    "Gothic",
    "Grantha",
    "Greek",
    "Gujarati",
    "Gunjala_Gondi",
    "Gurmukhi",
    "Gurung_Khema",
    "Han",
    "Hangul",
    "Hanifi_Rohingya",
    "Hanunoo",
    "Hatran",
    "Hebrew",
    "Imperial_Aramaic",
    "Inscriptional_Pahlavi",
    "Inscriptional_Parthian",
    "Javanese",
    "Kaithi",
    "Kannada",
    "Kawi",
    "Kayah_Li",
    "Kharoshthi",
    "Khitan_Small_Script",
    "Khmer",
    "Khojki",
    "Khudawadi",
    "Kirat_Rai",
    "Lao",
    "Latin",
    "Lepcha",
    "Limbu",
    "Linear_A",
    "Linear_B",
    "Lisu",
    "Lycian",
    "Lydian",
    "Mahajani",
    "Makasar",
    "Malayalam",
    "Mandaic",
    "Manichaean",
    "Marchen",
    "Masaram_Gondi",
    "Medefaidrin",
    "Meetei_Mayek",
    "Mende_Kikakui",
    "Meroitic_Cursive",
    "Meroitic_Hieroglyphs",
    "Miao",
    "Modi",
    "Mongolian",
    "Mro",
    "Multani",
    "Myanmar",
    "Nabataean",
    "Nag_Mundari",
    "Nandinagari",
    "New_Tai_Lue",
    "Newa",
    "Nko",
    "Nushu",
    "Nyiakeng_Puachue_Hmong",
    "Ogham",
    "Ol_Chiki",
    "Ol_Onal",
    "Old_Hungarian",
    "Old_Italic",
    "Old_North_Arabian",
    "Old_Permic",
    "Old_Persian",
    "Old_Sogdian",
    "Old_South_Arabian",
    "Old_Turkic",
    "Old_Uyghur",
    "Oriya",
    "Osage",
    "Osmanya",
    "Pahawh_Hmong",
    "Palmyrene",
    "Pau_Cin_Hau",
    "Phags_Pa",
    "Phoenician",
    "Psalter_Pahlavi",
    "Rejang",
    "Runic",
    "Samaritan",
    "Saurashtra",
    "Sharada",
    "Shavian",
    "Siddham",
    "SignWriting",
    "Sinhala",
    "Sogdian",
    "Sora_Sompeng",
    "Soyombo",
    "Sundanese",
    "Sunuwar",
    "Syloti_Nagri",
    "Syriac",
    "Tagalog",
    "Tagbanwa",
    "Tai_Le",
    "Tai_Tham",
    "Tai_Viet",
    "Takri",
    "Tamil",
    "Tangsa",
    "Tangut",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Tifinagh",
    "Tirhuta",
    "Todhri",
    "Toto",
    "Tulu_Tigalari",
    "Ugaritic",
    "Vai",
    "Vithkuqi",
    "Wancho",
    "Warang_Citi",
    "Yezidi",
    "Yi",
    "Zanabazar_Square",
    "Hiragana",
    "Katakana",
];
const FOLDED: usize = 2;

/// A script; `NO_SCRIPT` for characters that go with any.
pub(crate) type Script = u8;

/// Common and inherited characters: digits, spaces, most punctuation, combining marks.
pub(crate) const NO_SCRIPT: Script = 0;

/// The script of a character.
#[inline]
pub(crate) fn script_of(c: char) -> Script {
    static TABLE: LazyLock<Vec<Script>> = LazyLock::new(table);
    if c.is_ascii() {
        return if c.is_ascii_alphabetic() { TABLE['a' as usize] } else { NO_SCRIPT };
    }
    TABLE[c as usize]
}

/// The script of this name (Unicode's, letter case does not count).
pub(crate) fn script_named(name: &str) -> Option<Script> {
    let known = &NAMES[..NAMES.len() - FOLDED];
    let found = known.iter().position(|known| known.eq_ignore_ascii_case(name));
    found.map(|at| at as Script + 1)
}

/// The first script in some bytes: of whole characters only, for a part of one has none.
pub(crate) fn script_in(bytes: &[u8]) -> Script {
    let valid = bytes.utf8_chunks().flat_map(|chunk| chunk.valid().chars());
    valid.map(script_of).find(|&script| script != NO_SCRIPT).unwrap_or(NO_SCRIPT)
}

fn table() -> Vec<Script> {
    let mut table = vec![NO_SCRIPT; 0x11_0000];
    let han = script_named("Han").unwrap_or(NO_SCRIPT);
    for (at, name) in NAMES.iter().enumerate() {
        let script = if at < NAMES.len() - FOLDED { at as Script + 1 } else { han };
        let parsed = regex_syntax::parse(&format!(r"\p{{Script={name}}}"));
        if let Ok(HirKind::Class(Class::Unicode(ranges))) =
            parsed.map(regex_syntax::hir::Hir::into_kind)
        {
            for range in ranges.iter() {
                table[range.start() as usize..=range.end() as usize].fill(script);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_the_script_that_the_data_gives_it() {
        let common = regex::of(r"[\p{sc=Common}\p{sc=Inherited}\p{Cn}\p{Co}]");
        for code in 0..0x11_0000u32 {
            let Some(c) = char::from_u32(code) else { continue };
            let without = common.iter().any(|range| range.contains(&code));
            assert_eq!(script_of(c) == NO_SCRIPT, without, "{c:?} {code:x}");
        }
    }

    #[test]
    fn names_and_folding() {
        assert_eq!(script_of('的'), script_named("han").unwrap());
        assert_eq!(script_of('の'), script_of('的'));
        assert_eq!(script_of('ー'), NO_SCRIPT);
        assert_ne!(script_of('a'), script_of('а'));
        assert_eq!(script_named("Hiragana"), None);
        assert_eq!(script_in("1, 的".as_bytes()), script_of('的'));
        assert_eq!(script_in(&"的".as_bytes()[..2]), NO_SCRIPT);
    }

    mod regex {
        use std::ops::RangeInclusive;

        use super::{Class, HirKind};

        pub fn of(class: &str) -> Vec<RangeInclusive<u32>> {
            let kind = regex_syntax::parse(class).unwrap().into_kind();
            let HirKind::Class(Class::Unicode(ranges)) = kind else { return Vec::new() };
            ranges.iter().map(|r| u32::from(r.start())..=u32::from(r.end())).collect()
        }
    }
}
