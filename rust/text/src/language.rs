//! Which language a text is in: the script decides where it can, models decide between the rest.

use whatlang::Lang;

/// Bytes looked at; the language of a text shows in its beginning.
const SAMPLE: usize = 4_096;
/// Letters below which a text in a shared script is too short to tell.
const FEWEST_LETTERS: usize = 20;
/// Share of kana among Han and kana from which on a text is Japanese.
const KANA_SHARE: f64 = 0.01;

/// A language (ISO 639-1, or `und`) and how sure it is, from 0 to 1.
#[must_use]
pub fn detect_language(text: &str) -> (&'static str, f32) {
    let mut end = text.len().min(SAMPLE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let sample = &text[..end];
    let scripts = Scripts::of(sample);
    if scripts.letters == 0 {
        return ("und", 0.0);
    }
    let share = |count: usize| count as f32 / scripts.letters as f32;
    let cjk = scripts.han + scripts.kana;
    if cjk * 2 > scripts.letters {
        let is_japanese = scripts.kana as f64 >= KANA_SHARE * cjk as f64 && scripts.kana > 0;
        return (if is_japanese { "ja" } else { "zh" }, share(cjk));
    }
    if scripts.hangul * 2 > scripts.letters {
        return ("ko", share(scripts.hangul));
    }
    if scripts.letters < FEWEST_LETTERS {
        return ("und", 0.0);
    }
    by_model(sample)
}

#[derive(Default)]
struct Scripts {
    letters: usize,
    han: usize,
    kana: usize,
    hangul: usize,
}

impl Scripts {
    fn of(text: &str) -> Self {
        let mut this = Self::default();
        for c in text.chars().filter(|c| c.is_alphabetic()) {
            this.letters += 1;
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

/// whatlang knows 70 languages and how sure it is; whichlang decides better between its 16.
fn by_model(sample: &str) -> (&'static str, f32) {
    let Some(info) = whatlang::detect(sample) else { return ("und", 0.0) };
    let (wide, confidence) = (iso_639_1(info.lang()), info.confidence() as f32);
    let narrow = which_code(whichlang::detect_language(sample));
    if wide == narrow {
        return (narrow, confidence.max(0.5));
    }
    if info.is_reliable() && !IN_WHICHLANG.contains(&wide) {
        return (wide, confidence);
    }
    if IN_WHICHLANG.contains(&wide) || confidence < 0.3 {
        return (narrow, 0.5);
    }
    (wide, confidence)
}

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
    use super::detect_language;

    #[test]
    fn scripts_decide_first() {
        for (text, lang) in [
            ("北京大观园", "zh"),
            ("陣陣秋風處處地奔走", "zh"),
            ("音楽イベント", "ja"),
            ("加州继续迎来灾难性降雨", "zh"),
            ("裁判の周辺のラオスにUターンした元元兵士", "ja"),
            ("서울시는 오늘 새로운 정책을 발표했다", "ko"),
            ("The tide rises and falls under the pale moon tonight.", "en"),
            ("Le chat dort sur la table et rêve de la mer.", "fr"),
            ("Сегодня идёт дождь, и мы остаёмся дома.", "ru"),
            ("Сьогодні йде дощ, і ми залишаємося вдома.", "uk"),
            ("Python 3.11", "und"),
            ("2024-01-01 12:00", "und"),
            ("！！！", "und"),
            ("", "und"),
        ] {
            assert_eq!(detect_language(text).0, lang, "{text}");
        }
    }

    #[test]
    fn repetition_and_case_do_not_matter() {
        let text = "The committee will publish its report about the river next week. ";
        for variant in [text.repeat(50), text.to_uppercase(), format!("{text} 123 456")] {
            assert_eq!(detect_language(&variant).0, "en");
        }
    }
}
