//! Which language the words of a text are in, where the script leaves several: two models and the
//! commonest words, of which two must agree.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

use whatlang::Lang;

use crate::stop_words;

/// Bytes that the slower of the two models looks at.
const SLOW_SAMPLE: usize = 512;
/// Letters below which an answer the models do not share is a guess.
const FEW_LETTERS: usize = 20;
/// Confidence of the slow model below which the quick one's guess is as good.
const LEAST_CONFIDENCE: f32 = 0.1;
/// Weight of a language's common words, by word, from which on they and the quick model are enough.
const SURE_SHARE: f32 = 0.06;

/// How often an answer is right, by what supports it: measured on every other paragraph of manual pages in
/// 23 languages. `benches/language.py` measures on those between, which are of the same pages and so not
/// independent; of other kinds of text nothing was measured.
mod odds {
    /// The quick model and the commonest words.
    pub const QUICK_AND_WORDS: f32 = 0.98;
    /// Both models.
    pub const BOTH_MODELS: f32 = 0.96;
    /// The slow model and the commonest words.
    pub const SLOW_AND_WORDS: f32 = 0.96;
    /// The commonest words alone, of a language that the quick model does not know.
    pub const WORDS: f32 = 0.9;
    /// The slow model alone, sure of itself.
    pub const SLOW: f32 = 0.88;
    /// The quick model alone.
    pub const QUICK: f32 = 0.45;
    /// Nothing but a guess.
    pub const GUESS: f32 = 0.3;
}

/// Common words that tell a language from its neighbours, besides `stop_words`; at most 32 lists.
const TELLING: &[(&str, &str)] = &[
    (
        "nb",
        "av seg noen etter ut ble bare hvordan nå også ikke eller kan fra hvis når disse mer bruk blir",
    ),
    (
        "da",
        "af sig nogle efter ud blev kun hvordan nu også ikke eller kan fra hvis når disse mere bruges bliver nogen",
    ),
    ("sv", "från eller inte om så kan hur när också dessa efter vid finns till ska alla utan vara"),
    (
        "id",
        "atau adalah akan dapat oleh jika lebih bisa juga sebagai sebuah tersebut saya kita seperti saat",
    ),
    ("ro", "sau este sunt pentru dacă mai prin fi poate sa după ca fost care din ai unei unui"),
    ("fi", "tai ei ole jos voi joka kuin sen tämä jotka sekä vain kanssa jälkeen ovat kun niin"),
    ("hu", "vagy ha mint azt ezt lesz nincs kell minden után lehet pedig majd való által"),
    ("cs", "nebo pro které který ale jako podle tak být jsou není může při pouze tento po od"),
    ("pl", "lub jest nie jako dla który które tylko przez może są oraz przy tego jeśli ten"),
    ("es", "se si no su lo como más este sin o puede del al es son"),
    ("pt", "se não os as ou por mais ser como são ao pode você dos das foi uso"),
    ("it", "se o non più sono come questo essere dal della del dei gli è nel può i"),
    ("fr", "ou si pas par ne sur sont plus être avec ce cette au aux se peut du il"),
    ("de", "oder wenn ein eine werden wird sich von für dem kann als auch sind im bei nach"),
    ("nl", "of als niet wordt worden door zijn deze naar bij ook kan dit dan om maar"),
    ("en", "is or if it this for are not can by you was as from which will on at"),
    ("tr", "veya bu olan ise değil kadar sonra eğer her ya tarafından olarak"),
    ("vi", "nếu hoặc khi từ trong bạn sẽ thể được đã như này"),
    ("uk", "або якщо для від його цей ця його буде було які який також та щоб"),
    ("ru", "или если для от его этот эта быть было которые который также же чтобы бы"),
    ("sr", "или ако за од овај није су које који као да се само бити може"),
    ("mk", "или ако за од овој не се кои кој како да само може ќе што"),
    ("bg", "или ако за от този не са които който като да се само може ще"),
    ("hr", "ili ako za od ovaj nije su koje koji kao da se samo može biti što"),
    ("ca", "o si no per amb els les són aquest com més pot aquesta dels"),
    ("sk", "alebo ak pre ktoré ktorý ale ako podľa tak byť sú nie môže pri iba tento"),
    ("sl", "ali če za ki ni je so kot tudi pri lahko samo biti ta"),
];

type Weights = HashMap<u64, Vec<(usize, f32)>, BuildHasherDefault<Hashed>>;

/// FNV-1a: words are short, and a general hash would cost more than all else here.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Takes what is a hash already as it is.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0 << 8 | u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Languages with lists, and of each word the languages that use it with the weight 1/n.
static WORDS: LazyLock<(Vec<&'static str>, Weights)> = LazyLock::new(|| {
    let mut languages: Vec<&'static str> = Vec::new();
    let mut users: HashMap<Box<str>, Vec<usize>> = HashMap::new();
    let spaced = stop_words::LISTS.iter().filter(|(lang, _)| !["zh", "ja", "ko"].contains(lang));
    for &(lang, list) in spaced.chain(TELLING) {
        let number = languages.iter().position(|known| *known == lang).unwrap_or_else(|| {
            languages.push(lang);
            languages.len() - 1
        });
        for word in list.split(' ') {
            let own = users.entry(word.into()).or_default();
            if !own.contains(&number) {
                own.push(number);
            }
        }
    }
    let weigh = |users: Vec<usize>| {
        let weight = 1.0 / users.len() as f32;
        users.into_iter().map(|user| (user, weight)).collect()
    };
    let weights = users.into_iter().map(|(word, users)| (hash(&word), weigh(users))).collect();
    (languages, weights)
});

/// The language whose common words weigh most, that weight by word, and how far the next is behind
/// (1: alone). Single ASCII letters are no words here: they name variables and options.
fn by_common_words(words: &str) -> (&'static str, f32, f32) {
    let (languages, weights) = &*WORDS;
    let mut sums = [0f32; 64];
    let mut hits = [0u32; 64];
    let mut all = 0f32;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        all += 1.0;
        // The longest has twelve letters.
        if (2..=24).contains(&word.len())
            && let Some(users) = weights.get(&hash(word))
        {
            users.iter().for_each(|&(user, weight)| {
                sums[user] += weight;
                hits[user] += 1;
            });
        }
    }
    let (mut first, mut best, mut next) = (0, sums[0], 0f32);
    for (number, &sum) in sums.iter().enumerate().take(languages.len()).skip(1) {
        if sum > best {
            (first, next, best) = (number, best, sum);
        } else {
            next = next.max(sum);
        }
    }
    // One word may be a name.
    let lead = if hits[first] > 1 { 1.0 - next / best } else { 0.0 };
    (languages[first], best / all.max(1.0), lead)
}

/// The quick model's language of some words; it knows 16.
pub fn quick(words: &str) -> &'static str {
    which_code(whichlang::detect_language(words))
}

/// Language and how likely it is right.
///
/// `narrow` is what the quick model (whichlang, 16 languages) says; whatlang (70) is asked where the
/// commonest words do not confirm it.
pub fn decide(words: &str, letters: usize, narrow: &'static str) -> (&'static str, f32) {
    let (common, share, lead) = by_common_words(words);
    let has_words = share >= SURE_SHARE && lead >= 0.2 && letters >= FEW_LETTERS;
    if has_words && common == narrow && foreign_share(words, narrow) <= FOREIGN_SHARE {
        return (narrow, odds::QUICK_AND_WORDS);
    }
    if has_words && share >= 2.0 * SURE_SHARE && lead >= 0.4 && !IN_WHICHLANG.contains(&common) {
        return (common, odds::WORDS);
    }
    let mut end = words.len().min(SLOW_SAMPLE);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    let Some(info) = whatlang::detect(&words[..end]) else { return ("und", 0.0) };
    let (wide, confidence) = (iso_639_1(info.lang()), info.confidence() as f32);
    if wide == narrow {
        return (narrow, odds::BOTH_MODELS);
    }
    if letters < FEW_LETTERS {
        // Trigrams say nothing of two or three words; the answer is a guess, and scored as one.
        return (narrow, odds::GUESS);
    }
    let has_any = share >= SURE_SHARE / 2.0 && lead > 0.0;
    if has_any && wide == common {
        return (wide, odds::SLOW_AND_WORDS);
    }
    if has_words && !IN_WHICHLANG.contains(&common) {
        return (common, odds::SLOW);
    }
    if foreign_share(words, narrow) > FOREIGN_SHARE
        || info.is_reliable() && !IN_WHICHLANG.contains(&wide)
    {
        return (wide, odds::SLOW);
    }
    if has_any && common == narrow || IN_WHICHLANG.contains(&wide) || confidence < LEAST_CONFIDENCE
    {
        return (narrow, if has_any && common == narrow { odds::SLOW } else { odds::QUICK });
    }
    (wide, odds::QUICK)
}

/// Share of letters of which a language's own spelling has none.
fn foreign_share(words: &str, lang: &str) -> f64 {
    if lang != "ru" && words.is_ascii() {
        return 0.0;
    }
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
