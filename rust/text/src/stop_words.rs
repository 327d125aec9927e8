//! Short lists of the commonest function words, by language.

use std::sync::LazyLock;

use crate::vocabulary::key;

/// Gopher's eight English words (Rae et al. 2021, table A1), and for other languages words of the
/// same kind: articles, "and", "of", "that", "in", "is", "with". At most eight bytes each.
pub const LISTS: &[(&str, &str)] = &[
    ("en", "the be to of and that have with"),
    ("zh", "的 了 是 在 不 我 有 和 就 人 之 也 而 以 其 这 這 为 為"),
    ("ja", "の に は を た が で て と し"),
    ("ko", "이 은 는 을 를 에 의 가 다 고"),
    ("es", "de la que el en y a los con por para una"),
    ("fr", "de la le et les des en un une que est dans"),
    ("de", "der die und in den von zu das mit ist nicht auf"),
    ("it", "di e che la il un a per in una con non"),
    ("pt", "de a que o e do da em um para com uma"),
    ("nl", "de het een van en in is dat op te met voor"),
    ("sv", "och i att det som en av för den med på är"),
    ("da", "og i at det en den til er som på de med"),
    ("nb", "og i det som en er på til av for at med"),
    ("fi", "ja on ei että se hän oli mutta kun myös ovat tai"),
    ("pl", "i w na z się do nie to że jest od po"),
    ("cs", "a v se na je že s z do o to i"),
    ("ro", "de și în la a cu pe care o din un nu"),
    ("hu", "a az és hogy nem is egy ez van volt meg csak"),
    ("ru", "и в не на что с по это как из к он"),
    ("uk", "і в не на що з та до як це за є"),
    ("tr", "ve bir bu da de için ile çok daha olarak ne gibi"),
    ("vi", "và của là có được cho không các một trong với này"),
    ("id", "yang dan di dari untuk dengan ini pada itu dalam tidak ke"),
    ("ar", "في من على أن إلى هذا عن التي ما مع لا هو"),
    ("fa", "و در به از که این را با است برای آن"),
    ("hi", "के की है को से का और ने पर"),
    ("el", "και το να του η της με που την από για"),
    ("he", "של את על לא כי הוא זה עם גם היא או"),
];

type List = (&'static str, Vec<u64>);

static KEYS: LazyLock<Vec<List>> = LazyLock::new(|| {
    let keys = |words: &str| words.split(' ').map(|word| key(word.as_bytes())).collect();
    LISTS.iter().map(|&(lang, words)| (lang, keys(words))).collect()
});

/// The list of a language (ISO 639-1) in the vocabulary's short form and its number, from 1.
pub fn list(lang: &str) -> Option<(u64, &'static [u64])> {
    let place = KEYS.iter().position(|(known, _)| *known == lang)?;
    Some((place as u64 + 1, KEYS[place].1.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::LISTS;

    #[test]
    fn words_fit_the_short_form() {
        for (lang, words) in LISTS {
            let words: Vec<&str> = words.split(' ').collect();
            assert!(words.iter().all(|word| word.len() <= 8), "{lang}");
            assert!(words.len() <= 64, "{lang}");
        }
    }
}
