//! Frequent function words by language: Gopher's eight for English (Rae et al. 2021, §A.1.1), the
//! eight most frequent ones for others.

use std::sync::LazyLock;

use crate::vocabulary::key;

/// Language, and words of at most eight bytes.
const LISTS: [(&str, [&str; 8]); 10] = [
    ("en", ["the", "be", "to", "of", "and", "that", "have", "with"]),
    ("es", ["de", "la", "que", "el", "en", "y", "los", "se"]),
    ("fr", ["de", "la", "le", "et", "les", "des", "en", "un"]),
    ("de", ["der", "die", "und", "in", "den", "von", "zu", "das"]),
    ("it", ["di", "e", "il", "la", "che", "in", "un", "per"]),
    ("pt", ["de", "a", "o", "que", "e", "do", "da", "em"]),
    ("nl", ["de", "en", "het", "van", "een", "in", "is", "dat"]),
    ("sv", ["och", "i", "att", "det", "som", "en", "på", "är"]),
    ("pl", ["w", "i", "na", "z", "się", "nie", "do", "to"]),
    ("ru", ["и", "в", "не", "на", "что", "с", "он", "как"]),
];

static KEYS: LazyLock<Vec<(&str, [u64; 8])>> = LazyLock::new(|| {
    LISTS.iter().map(|(lang, words)| (*lang, words.map(|word| key(word.as_bytes())))).collect()
});

/// The list of a language (ISO 639-1), if there is one.
pub fn list(lang: &str) -> Option<&'static [u64]> {
    KEYS.iter().find(|(known, _)| *known == lang).map(|(_, keys)| keys.as_slice())
}
