//! A cheap suspicion that UTF-8 was read as an old one-byte encoding and written again.

use std::sync::LazyLock;

/// Bytes 0x80 to 0xFF of the encodings that such texts went through, as the Unicode Consortium's
/// mapping files have them; bytes that mean nothing stand for themselves, as browsers take them.
#[rustfmt::skip]
const ENCODINGS: [&str; 5] = [
    // windows-1252
    "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\
     \u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
     ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞß\
     àáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    // windows-1251
    "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\
     \u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕї\
     АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ\
     абвгдежзийклмнопрстуфхцчшщъыьэюя",
    // windows-1250
    "€\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\
     \u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľż\
     ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢß\
     ŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    // macintosh
    "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü\
     †°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
     ¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ\
     ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
    // IBM code page 437
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ\
     áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
     └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
     αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
];

/// Code points that the tables reach.
const REACH: usize = 0x2600;
/// Damaged characters below which a text is only suspected if little else is not ASCII.
const MANY: usize = 3;

/// Byte of each character below `REACH` in each encoding; 0 where there is none.
static BYTES: LazyLock<Vec<[u8; REACH]>> = LazyLock::new(|| {
    let of = |encoding: &str| {
        let mut bytes = [0; REACH];
        // What Latin-1 has for the byte comes first, the encoding's own meaning over it.
        (0x80..=0xbf).for_each(|byte: u8| bytes[usize::from(byte)] = byte);
        for (byte, c) in (0x80..=0xff).zip(encoding.chars()) {
            if (c as usize) < REACH {
                bytes[c as usize] = byte;
            }
        }
        bytes
    };
    ENCODINGS.iter().map(|encoding| of(encoding)).collect()
});

/// Of each character whether it begins a UTF-8 sequence of several bytes in one of the encodings, and
/// whether it goes on with one.
static ROLES: LazyLock<Vec<(bool, bool)>> = LazyLock::new(|| {
    let has = |c: usize, range: std::ops::RangeInclusive<u8>| {
        BYTES.iter().any(|bytes| range.contains(&bytes[c]))
    };
    (0..REACH).map(|c| (has(c, 0xc2..=0xf4), has(c, 0x80..=0xbf))).collect()
});

/// Whether a text may hold UTF-8 that was decoded as another encoding, or C1 control characters,
/// which stand for punctuation of windows-1252.
///
/// Only a suspicion, for a library that repairs to look closer: it should miss nothing, and sound
/// text of any language should seldom raise it. It is raised where characters in a row are the
/// bytes of a UTF-8 sequence in one of the encodings, and such rows are not lost among other
/// letters that are not ASCII (Russian and Polish words hold a row by chance).
#[must_use]
pub fn suspects_mojibake(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let roles = &*ROLES;
    let mut found = [0usize; ENCODINGS.len()];
    let mut others = 0usize;
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte >= 0x80) {
        rest = &rest[at..];
        let run = &rest[..rest.bytes().position(|byte| byte < 0x80).unwrap_or(rest.len())];
        rest = &rest[run.len()..];
        // A character is its bytes but those that go on with one.
        others += run.bytes().filter(|byte| byte & 0xC0 != 0x80).count();
        // Lead bytes of characters from U+3000 on, of which no table has any: most of Chinese.
        if !run.bytes().any(|byte| (0xC2..=0xE2).contains(&byte)) {
            continue;
        }
        if run.chars().any(|c| matches!(c, '\u{80}'..='\u{84}' | '\u{86}'..='\u{9f}')) {
            return true;
        }
        let role = |c: char| roles.get(c as usize).copied().unwrap_or_default();
        let mut is_begun = false;
        let has_pair = run.chars().any(|c| {
            let (begins, goes_on) = role(c);
            std::mem::replace(&mut is_begun, begins) && goes_on
        });
        if !has_pair {
            continue;
        }
        for (bytes, found) in BYTES.iter().zip(&mut found) {
            *found += sequences(run, bytes);
        }
    }
    // A sequence is two to four characters.
    found
        .iter()
        .any(|&count| count > 0 && (count * 8 >= others || count >= MANY && count * 20 >= others))
        || found[0] > 0 && found[0] * 40 >= others
}

/// How many whole UTF-8 sequences of several bytes the characters are, in one encoding.
fn sequences(run: &str, bytes: &[u8; REACH]) -> usize {
    let encoded: Vec<u8> =
        run.chars().map(|c| bytes.get(c as usize).copied().unwrap_or(0)).collect();
    let (mut at, mut found) = (0, 0);
    while at < encoded.len() {
        let length = match encoded[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        let sequence = encoded.get(at..at + length).unwrap_or(&[]);
        if length > 0 && std::str::from_utf8(sequence).is_ok_and(|s| !s.is_empty()) {
            found += 1;
            at += length;
        } else {
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_texts_are_suspected() {
        for text in [
            "cafÃ©",
            "It\u{e2}\u{80}\u{99}s",
            "Itâ€™s a test",
            "РџСЂРёРІРµС‚",
            "caf├⌐ ol├⌐",
            "caf√© ol√©",
            "ä¸\u{ad}æ–‡",
            "a \u{93}quoted\u{94} word",
        ] {
            assert!(suspects_mojibake(text), "{text}");
        }
    }

    #[test]
    fn sound_texts_are_not() {
        for text in [
            "Plain ASCII.",
            "Un café près de l’hôtel « à côté », déjà vu à 20 €",
            "Größe und Übermaß – „so“",
            "Привет, мир. Різне і рідне.",
            "中文文本，没有问题。",
            "日本語のテキスト",
            "Žluťoučký kůň",
            "العربية",
            "",
        ] {
            assert!(!suspects_mojibake(text), "{text}");
        }
    }
}
