//! Which languages a text is in: the script decides where it can, models decide between the rest.

use std::borrow::Cow;

use crate::chinese;
use crate::models;

/// Bytes looked at in a long text: slices from all over it, since a page may open with menus.
const SAMPLE: usize = 4_096;
const SLICES: usize = 16;
/// Letters below which there is no answer.
const FEWEST_LETTERS: usize = 10;
/// Bytes of lines that are taken together as a part of a short text.
const PART: usize = 160;
/// Letters of a part from which on it may be in another language than the rest.
const PART_LETTERS: usize = 50;
/// Least share of a language that is told apart from the rest.
const LEAST_SHARE: f32 = 0.05;
/// The same for languages of one script, which models tell apart less surely.
const LEAST_ALIKE: f32 = 0.15;
/// Share of kana among Han and kana from which on a text, or a part of one, is Japanese.
const KANA_SHARE: f64 = 0.01;
const PART_KANA_SHARE: f64 = 0.05;
/// Han characters of a part without any kana from which on it is Chinese beside Japanese.
const PART_HAN: usize = 30;

/// The language of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Language {
    /// ISO 639-1 of the language that most of it is in (by bytes of letters), or `und`.
    pub code: &'static str,
    /// How likely that is right, from 0 to 1.
    pub score: f32,
    /// ISO 15924 of Chinese: `Hans`, `Hant`, or nothing where the text has no telling character.
    pub script: Option<&'static str>,
    /// Share of that script among the telling characters; 0 without any.
    pub script_share: f32,
    /// The languages and their shares of bytes, the largest first; those above 5 % only.
    pub languages: Vec<(&'static str, f32)>,
}

/// Tells the languages of a text.
///
/// The script decides where it can, by shares of bytes: Han without kana is Chinese, kana is
/// Japanese, Hangul is Korean. Models decide between the rest, over words without digits and
/// addresses. Lines, or slices of a long text, may be in different languages.
#[must_use]
pub fn detect_language(text: &str) -> Language {
    let sample = sample(text);
    let parts = parts(&sample, text.len() > SAMPLE);
    let scripts: Vec<Scripts> = parts.iter().map(|part| Scripts::of(part)).collect();
    let mut found: Vec<(&'static str, usize, f32)> = Vec::new();
    chinese_and_japanese(&scripts, &mut found);
    let hangul: usize = scripts.iter().map(|part| part.hangul).sum();
    // Three bytes a character.
    found.push(("ko", 3 * hangul, evidence(4 * hangul)));
    others(&parts, &scripts, &mut found);
    found.retain(|language| language.1 > 0);
    found.sort_by_key(|language| std::cmp::Reverse(language.1));
    let all: usize = found.iter().map(|language| language.1).sum();
    let share = |bytes: usize| bytes as f32 / all as f32;
    let Some(&(code, bytes, certainty)) = found.first() else {
        return Language {
            code: "und",
            score: 0.0,
            script: None,
            script_share: 0.0,
            languages: Vec::new(),
        };
    };
    let runner_up = found.get(1).map_or(0, |language| language.1);
    let (script, script_share) =
        match found.iter().any(|l| l.0 == "zh" && share(l.1) >= LEAST_SHARE) {
            true => chinese::script(&sample),
            false => (None, 0.0),
        };
    let is_told =
        |language: &&(&str, usize, f32)| share(language.1) >= LEAST_SHARE && language.0 != "und";
    let languages = found.iter().filter(is_told).map(|l| (l.0, share(l.1))).collect();
    // Where another language is nearly as large, the larger one is less sure.
    let score =
        if code == "und" { 0.0 } else { certainty * bytes as f32 / (bytes + runner_up) as f32 };
    Language { code, score, script, script_share, languages }
}

/// Bytes of Chinese and Japanese, part by part.
fn chinese_and_japanese(scripts: &[Scripts], found: &mut Vec<(&'static str, usize, f32)>) {
    let sum = |of: fn(&Scripts) -> usize| -> usize { scripts.iter().map(of).sum() };
    let (han, kana) = (sum(|part| part.han), sum(|part| part.kana));
    let cjk = han + kana;
    let is_japanese = kana > 0 && kana as f64 >= KANA_SHARE * cjk as f64;
    if !is_japanese {
        found.push(("zh", 3 * cjk, evidence(cjk + sum(|part| part.telling))));
        return;
    }
    // Thirty characters without kana are no Japanese; with few, the rest of the text decides.
    let is_zh = |part: &Scripts| part.kana == 0 && part.han >= PART_HAN;
    let is_ja = |part: &Scripts| {
        part.kana > 0 && part.kana as f64 >= PART_KANA_SHARE * (part.han + part.kana) as f64
    };
    let chars = |of: &dyn Fn(&Scripts) -> bool| -> usize {
        scripts.iter().filter(|part| of(part)).map(|part| part.han + part.kana).sum()
    };
    let (mut zh, mut ja) = (chars(&is_zh), chars(&is_ja));
    let rest = cjk - zh - ja;
    if zh > ja {
        zh += rest
    } else {
        ja += rest
    }
    found.push(("zh", 3 * zh, evidence(zh)));
    found.push(("ja", 3 * ja, evidence(ja + 3 * kana)));
}

/// Bytes of the languages that models tell apart.
fn others(parts: &[&str], scripts: &[Scripts], found: &mut Vec<(&'static str, usize, f32)>) {
    let own =
        |part: &Scripts| part.bytes - 3 * (part.han + part.kana + part.hangul).min(part.bytes / 3);
    let bytes: usize = scripts.iter().map(own).sum();
    let all: usize = scripts.iter().map(|part| part.bytes).sum();
    if bytes == 0 || (bytes as f32) < LEAST_SHARE * all as f32 {
        return;
    }
    let texts: Vec<String> = parts.iter().map(|part| words(part)).collect();
    let letters: Vec<usize> = texts.iter().map(|t| characters_but_blanks(t)).collect();
    let total: usize = letters.iter().sum();
    if total < FEWEST_LETTERS {
        // Beside Chinese a few letters are no language.
        if bytes == all {
            found.push(("und", bytes, 0.0));
        }
        return;
    }
    let quick: Vec<Option<&'static str>> = texts
        .iter()
        .zip(&letters)
        .map(|(text, &letters)| (letters >= PART_LETTERS).then(|| models::quick(text.trim())))
        .collect();
    let first = quick.iter().flatten().next().copied();
    let joined = texts.concat();
    let joined = joined.trim();
    let is_one = first.is_some() && quick.iter().flatten().all(|code| Some(*code) == first);
    let narrow = match first {
        Some(code) if is_one => code,
        _ => models::quick(joined),
    };
    let (main, certainty) = models::decide(joined, total, narrow);
    let mut rest = bytes;
    if !is_one {
        let mut codes: Vec<&str> = quick.iter().flatten().copied().collect();
        codes.sort_unstable();
        codes.dedup();
        for code in codes.into_iter().filter(|code| *code != narrow && *code != main) {
            let rows: Vec<usize> =
                (0..parts.len()).filter(|&row| quick[row] == Some(code)).collect();
            let size: usize = rows.iter().map(|&row| own(&scripts[row])).sum();
            if (size as f32) < LEAST_ALIKE * bytes as f32 {
                continue;
            }
            let text: String = rows.iter().map(|&row| texts[row].as_str()).collect();
            let count = rows.iter().map(|&row| letters[row]).sum();
            let (decided, score) = models::decide(text.trim(), count, code);
            if decided != main && decided != "und" && score > 0.9 {
                found.push((decided, size, score * word_evidence(count)));
                rest -= size;
            }
        }
    }
    found.push((main, rest, certainty * word_evidence(total)));
}

/// How much a number of letters says: one half at five, towards 1.
fn evidence(letters: usize) -> f32 {
    letters as f32 / (letters as f32 + 5.0)
}

/// The same for letters of words, on which the odds were measured from 40 letters on.
fn word_evidence(letters: usize) -> f32 {
    letters as f32 / (letters as f32 + 2.0)
}

/// The text, or slices from all over a long one.
fn sample(text: &str) -> Cow<'_, str> {
    if text.len() <= SAMPLE {
        return Cow::Borrowed(text);
    }
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at += 1;
        }
        at
    };
    let step = (text.len() - SAMPLE / SLICES) / (SLICES - 1);
    let mut sample = String::with_capacity(SAMPLE + 4 * SLICES);
    for slice in 0..SLICES {
        let from = boundary(slice * step);
        let to = boundary((slice * step + SAMPLE / SLICES).min(text.len()));
        // A line feed stands between slices and nowhere else.
        sample.extend(text[from..to].chars().map(|c| if c == '\n' { ' ' } else { c }));
        sample.push('\n');
    }
    Cow::Owned(sample)
}

/// Lines, short ones together; or slices.
fn parts(sample: &str, is_sliced: bool) -> Vec<&str> {
    if is_sliced {
        return sample.lines().collect();
    }
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in sample.match_indices('\n') {
        if at - start >= PART {
            parts.push(&sample[start..=at]);
            start = at + 1;
        }
    }
    parts.push(&sample[start..]);
    parts
}

#[derive(Default)]
struct Scripts {
    bytes: usize,
    han: usize,
    kana: usize,
    hangul: usize,
    /// Han characters that only one way of writing Chinese has.
    telling: usize,
}

impl Scripts {
    fn of(text: &str) -> Self {
        let mut this = Self::default();
        if text.is_ascii() {
            this.bytes = text.bytes().filter(u8::is_ascii_alphabetic).count();
            return this;
        }
        for c in text.chars().filter(|c| c.is_alphabetic()) {
            this.bytes += c.len_utf8();
            match c {
                '\u{3400}'..='\u{4DBF}'
                | '\u{4E00}'..='\u{9FFF}'
                | '\u{F900}'..='\u{FAFF}'
                | '\u{20000}'..='\u{323AF}' => this.han += 1,
                '\u{3041}'..='\u{30FF}' | '\u{31F0}'..='\u{31FF}' | '\u{FF66}'..='\u{FF9F}' => {
                    this.kana += 1;
                }
                '\u{1100}'..='\u{11FF}' | '\u{3131}'..='\u{318E}' | '\u{AC00}'..='\u{D7AF}' => {
                    this.hangul += 1;
                }
                _ => {}
            }
        }
        if this.han > 0 {
            this.telling = chinese::telling(text);
        }
        this
    }
}

/// The words in lower case, without those that hold digits or belong to addresses or code, and
/// without the scripts that decide by themselves.
fn words(sample: &str) -> String {
    let mut words = String::with_capacity(sample.len());
    for token in sample.split_whitespace() {
        if token.is_ascii() {
            ascii_words(token, &mut words);
            continue;
        }
        let is_odd = |c: char| c.is_numeric() || matches!(c, '/' | '@' | '_' | '=' | '{' | '\\');
        // Numbers, addresses, options, names of variables and functions.
        let is_option = token.starts_with("-") && token.len() > 1 || token.starts_with("<");
        if is_option || token.contains(is_odd) || token.contains("()") {
            continue;
        }
        let is_own_script = |c: char| matches!(c, '\u{1100}'..='\u{11FF}' | '\u{3041}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}');
        for c in token.chars().filter(|&c| !is_own_script(c)) {
            if c.is_alphabetic() || unicode_normalization::char::is_combining_mark(c) || c == '\'' {
                words.extend(c.to_lowercase());
            } else if !words.ends_with(' ') {
                words.push(' ');
            }
        }
        if !words.ends_with(' ') {
            words.push(' ');
        }
    }
    words
}

/// `words` for a token of ASCII, most tokens of most texts.
fn ascii_words(token: &str, words: &mut String) {
    let bytes = token.as_bytes();
    let is_odd = |b: &u8| matches!(b, b'0'..=b'9' | b'/' | b'@' | b'_' | b'=' | b'{' | b'\\');
    let is_option = bytes[0] == b'-' && bytes.len() > 1 || bytes[0] == b'<';
    if is_option || bytes.iter().any(is_odd) || bytes.windows(2).any(|pair| pair == b"()") {
        return;
    }
    let mut is_blank = words.ends_with(' ');
    for &byte in bytes {
        let is_letter = byte.is_ascii_alphabetic() || byte == b'\'';
        if is_letter {
            words.push(char::from(byte.to_ascii_lowercase()));
        } else if !is_blank {
            words.push(' ');
        }
        is_blank = !is_letter;
    }
    if !is_blank {
        words.push(' ');
    }
}

fn characters_but_blanks(text: &str) -> usize {
    // A character is its bytes but those that go on with one.
    text.bytes().filter(|&byte| byte != b' ' && byte & 0xC0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_ascii_are_no_special_case() {
        // A letter that is nowhere else keeps the same token off the quick path.
        let slow = |token: &str| words(&format!("{token}é")).replace('é', "");
        for token in [
            "Don't", "(well)", "a.b", "...", "x1", "http://a", "--all", "-", "<b>", "f()", "f(x)",
            "{", "a\\b", "E=m", "end.", "'", "A_B",
        ] {
            let quick = words(token);
            let both = (quick.trim_end(), slow(token));
            assert_eq!(both.0, both.1.trim_end(), "{token}");
        }
        assert_eq!(words("One, two (THREE) 4"), "one two three ");
        assert_eq!(characters_but_blanks("a é 中 b"), 4);
    }

    #[test]
    fn scripts_decide_first() {
        for (text, lang) in [
            ("北京大观园", "zh"),
            ("陣陣秋風處處地奔走", "zh"),
            ("音楽イベント", "ja"),
            ("消色トナー", "ja"),
            ("加州继续迎来灾难性降雨", "zh"),
            ("裁判の周辺のラオスにUターンした元元兵士", "ja"),
            ("서울시는 오늘 새로운 정책을 발표했다", "ko"),
            ("The tide rises and falls under the pale moon tonight.", "en"),
            ("hello China", "en"),
            ("Le chat dort sur la table et rêve de la mer.", "fr"),
            ("Сегодня идёт дождь, и мы остаёмся дома.", "ru"),
            ("Сьогодні йде дощ, і ми залишаємося вдома.", "uk"),
            ("Al furjan", "und"),
            ("Python 3.11", "und"),
            ("2024-01-01 12:00", "und"),
            ("def main(): return 0", "und"),
            ("！！！", "und"),
            ("", "und"),
        ] {
            assert_eq!(detect_language(text).code, lang, "{text}");
        }
    }

    #[test]
    fn few_characters_are_not_sure() {
        assert!(detect_language("東京都庁前").score < 0.6);
        assert!(detect_language("今天我们在公园里散步，天气非常好。").score > 0.7);
    }

    #[test]
    fn chinese_scripts() {
        assert_eq!(detect_language("陣陣秋風處處地奔走").script, Some("Hant"));
        assert_eq!(detect_language("加州继续迎来灾难性降雨").script, Some("Hans"));
        assert_eq!(detect_language("山水田").script, None);
    }

    #[test]
    fn the_larger_part_decides() {
        let english = "The committee will publish its report about the river next week. ";
        let chinese = "委员会将在下周公布关于这条河的报告。";
        let en = english.len();
        let mixed = |en_times: usize, zh_times: usize| {
            detect_language(&(english.repeat(en_times) + &chinese.repeat(zh_times))).code
        };
        assert!(en > chinese.len());
        assert_eq!(mixed(6, 4), "en");
        assert_eq!(mixed(2, 10), "zh");
    }

    #[test]
    fn repetition_case_and_addresses_do_not_matter() {
        let text = "The committee will publish its report about the river next week. ";
        for variant in [
            text.repeat(50),
            text.repeat(5000),
            text.to_uppercase(),
            format!("{text} 123 456 2024-01-01"),
            format!("{text} https://example.fr/la/page/de/la/une?que=je"),
        ] {
            assert_eq!(detect_language(&variant).code, "en");
        }
    }
}
