//! Which language a text is in: the script decides where it can, models decide between the rest.

use whatlang::Lang;

use crate::chinese;
use crate::stop_words;
use crate::vocabulary::key;

/// Bytes looked at in a long text: slices from all over it, since a page may open with menus.
const SAMPLE: usize = 4_096;
const SLICES: usize = 16;
/// Bytes that the slower of the two models looks at.
const SLOW_SAMPLE: usize = 1_024;
/// Letters below which an answer the models do not share is a guess, and below which there is none.
const FEW_LETTERS: usize = 20;
const FEWEST_LETTERS: usize = 10;
const GUESS: f32 = 0.3;
/// Share of kana among Han and kana from which on a text is Japanese.
const KANA_SHARE: f64 = 0.01;
/// Share of stop words from which on a quick answer needs no second opinion, for languages whose
/// commonest words no neighbour shares.
const SURE_SHARE: f64 = 0.08;
const SURE: [&str; 3] = ["en", "fr", "de"];

/// The language of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Language {
    /// ISO 639-1, or `und`.
    pub code: &'static str,
    /// How sure that is, from 0 to 1.
    pub score: f32,
    /// ISO 15924 of Chinese: `Hans`, `Hant`, or nothing where the text has no telling character.
    pub script: Option<&'static str>,
}

const UNKNOWN: Language = Language { code: "und", score: 0.0, script: None };

/// Tells the language of a text.
///
/// The script decides where it can, by shares of bytes: Han without kana is Chinese, kana is
/// Japanese, Hangul is Korean. The models of the crates whichlang and whatlang decide between the
/// rest, over words without digits and addresses.
#[must_use]
pub fn detect_language(text: &str) -> Language {
    let sample = sample(text);
    let scripts = Scripts::of(&sample);
    let bytes = scripts.bytes as f32;
    let cjk = scripts.han + scripts.kana;
    // Three bytes a character.
    if cjk * 6 > scripts.bytes {
        let is_japanese = scripts.kana > 0 && scripts.kana as f64 >= KANA_SHARE * cjk as f64;
        let share = (cjk * 3) as f32 / bytes;
        let (script, telling) = chinese::script(&sample);
        return if is_japanese {
            Language { code: "ja", score: share * evidence(cjk + 3 * scripts.kana), script: None }
        } else {
            Language { code: "zh", score: share * evidence(cjk + telling), script }
        };
    }
    if scripts.hangul * 6 > scripts.bytes {
        let share = (scripts.hangul * 3) as f32 / bytes;
        return Language { code: "ko", score: share * evidence(4 * scripts.hangul), script: None };
    }
    let words = words(&sample);
    let letters = words.chars().filter(|c| *c != ' ').count();
    if letters < FEWEST_LETTERS {
        return UNKNOWN;
    }
    let (code, score) = by_model(words.trim(), letters);
    Language { code, score: score * evidence(letters), script: None }
}

/// How much a number of letters says: one half at five, towards 1.
fn evidence(letters: usize) -> f32 {
    letters as f32 / (letters as f32 + 5.0)
}

/// The text, or slices from all over a long one.
fn sample(text: &str) -> String {
    if text.len() <= SAMPLE {
        return text.to_owned();
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
        sample.push_str(&text[from..to]);
        sample.push(' ');
    }
    sample
}

#[derive(Default)]
struct Scripts {
    bytes: usize,
    han: usize,
    kana: usize,
    hangul: usize,
}

impl Scripts {
    fn of(text: &str) -> Self {
        let mut this = Self::default();
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
        this
    }
}

/// The words in lower case, without those that hold digits or belong to addresses or code, and
/// without the scripts that decide by themselves.
fn words(sample: &str) -> String {
    let mut words = String::with_capacity(sample.len());
    for token in sample.split_whitespace() {
        let is_odd = |c: char| c.is_numeric() || matches!(c, '/' | '@' | '_' | '=' | '{' | '\\');
        if token.contains(is_odd) || token.contains("()") {
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

/// whichlang decides well and fast between its 16 languages; whatlang knows 70 and how sure it is.
fn by_model(words: &str, letters: usize) -> (&'static str, f32) {
    let narrow = which_code(whichlang::detect_language(words));
    if SURE.contains(&narrow) && letters >= FEW_LETTERS {
        let share = stop_word_share(words, narrow);
        if share >= SURE_SHARE {
            return (narrow, 0.9 + share.min(0.1) as f32);
        }
    }
    let mut end = words.len().min(SLOW_SAMPLE);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    let Some(info) = whatlang::detect(&words[..end]) else { return ("und", 0.0) };
    let (wide, confidence) = (iso_639_1(info.lang()), info.confidence() as f32);
    if wide == narrow {
        return (narrow, confidence.max(0.5));
    }
    if letters < FEW_LETTERS {
        // Trigrams say nothing of two or three words; the answer is a guess, and scored as one.
        return (narrow, GUESS);
    }
    if foreign_share(words, narrow) > FOREIGN_SHARE {
        return (wide, confidence);
    }
    if info.is_reliable() && !IN_WHICHLANG.contains(&wide) {
        return (wide, confidence);
    }
    if IN_WHICHLANG.contains(&wide) || confidence < 0.3 {
        return (narrow, 0.5);
    }
    (wide, confidence)
}

/// Share of letters of which a language's own spelling has none.
fn foreign_share(words: &str, lang: &str) -> f64 {
    let Some((_, own)) = LETTERS.iter().find(|(known, _)| *known == lang) else { return 0.0 };
    let (mut all, mut foreign) = (0u32, 0u32);
    for c in words.chars().filter(|c| c.is_alphabetic()) {
        all += 1;
        let is_plain = match lang {
            "ru" => matches!(c, 'а'..='я' | 'ё'),
            _ => c.is_ascii(),
        };
        foreign += u32::from(!is_plain && !own.contains(c));
    }
    f64::from(foreign) / f64::from(all.max(1))
}

fn stop_word_share(words: &str, lang: &str) -> f64 {
    let Some((_, list)) = stop_words::list(lang) else { return 0.0 };
    let (mut all, mut stops) = (0u32, 0u32);
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        all += 1;
        stops += u32::from(word.len() <= 8 && list.contains(&key(word.as_bytes())));
    }
    f64::from(stops) / f64::from(all.max(1))
}

/// Foreign letters from which on the fast model's answer can't be right.
const FOREIGN_SHARE: f64 = 0.015;
/// Letters beyond a to z (beyond а to я) of the languages that the fast model takes others for.
const LETTERS: [(&str, &str); 9] = [
    ("de", "äöüßé"),
    ("es", "áéíñóúü"),
    ("fr", "àâæçéèêëîïôœùûüÿ"),
    ("it", "àèéìíîòóùú"),
    ("nl", "áèéëïóöü"),
    ("pt", "àáâãçéêíóôõúü"),
    ("ru", ""),
    ("sv", "åäöé"),
    ("tr", "âçğıîöşüû\u{307}"),
];

const IN_WHICHLANG: [&str; 16] = [
    "ar", "zh", "nl", "en", "fr", "de", "hi", "it", "ja", "ko", "pt", "ru", "es", "sv", "tr", "vi",
];

const fn which_code(lang: whichlang::Lang) -> &'static str {
    use whichlang::Lang as L;
    match lang {
        L::Ara => "ar",
        L::Cmn => "zh",
        L::Nld => "nl",
        L::Eng => "en",
        L::Fra => "fr",
        L::Deu => "de",
        L::Hin => "hi",
        L::Ita => "it",
        L::Jpn => "ja",
        L::Kor => "ko",
        L::Por => "pt",
        L::Rus => "ru",
        L::Spa => "es",
        L::Swe => "sv",
        L::Tur => "tr",
        L::Vie => "vi",
    }
}

/// ISO 639-1 of whatlang's languages; `und` for the few that have none there.
fn iso_639_1(lang: Lang) -> &'static str {
    const CODES: &[(&str, &str)] = &[
        ("epo", "eo"),
        ("eng", "en"),
        ("rus", "ru"),
        ("cmn", "zh"),
        ("spa", "es"),
        ("por", "pt"),
        ("ita", "it"),
        ("ben", "bn"),
        ("fra", "fr"),
        ("deu", "de"),
        ("ukr", "uk"),
        ("kat", "ka"),
        ("ara", "ar"),
        ("hin", "hi"),
        ("jpn", "ja"),
        ("heb", "he"),
        ("yid", "yi"),
        ("pol", "pl"),
        ("amh", "am"),
        ("jav", "jv"),
        ("kor", "ko"),
        ("nob", "nb"),
        ("dan", "da"),
        ("swe", "sv"),
        ("fin", "fi"),
        ("tur", "tr"),
        ("nld", "nl"),
        ("hun", "hu"),
        ("ces", "cs"),
        ("ell", "el"),
        ("bul", "bg"),
        ("bel", "be"),
        ("mar", "mr"),
        ("kan", "kn"),
        ("ron", "ro"),
        ("slv", "sl"),
        ("hrv", "hr"),
        ("srp", "sr"),
        ("mkd", "mk"),
        ("lit", "lt"),
        ("lav", "lv"),
        ("est", "et"),
        ("tam", "ta"),
        ("vie", "vi"),
        ("urd", "ur"),
        ("tha", "th"),
        ("guj", "gu"),
        ("uzb", "uz"),
        ("pan", "pa"),
        ("aze", "az"),
        ("ind", "id"),
        ("tel", "te"),
        ("pes", "fa"),
        ("mal", "ml"),
        ("ori", "or"),
        ("mya", "my"),
        ("nep", "ne"),
        ("sin", "si"),
        ("khm", "km"),
        ("tuk", "tk"),
        ("aka", "ak"),
        ("zul", "zu"),
        ("sna", "sn"),
        ("afr", "af"),
        ("lat", "la"),
        ("slk", "sk"),
        ("cat", "ca"),
        ("tgl", "tl"),
        ("hye", "hy"),
        ("cym", "cy"),
    ];
    CODES.iter().find(|(three, _)| *three == lang.code()).map_or("und", |&(_, two)| two)
}

#[cfg(test)]
mod tests {
    use super::*;

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
