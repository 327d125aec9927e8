//! Chunks that spaCy's English tokenizer cuts in a way of its own: contractions, abbreviations,
//! emoticons.
//!
//! The facts are those of spaCy 3.8 (`spacy/lang/tokenizer_exceptions.py` and
//! `spacy/lang/en/tokenizer_exceptions.py`, MIT licence, copyright ExplosionAI GmbH), written as
//! stems and endings. A test holds them against spaCy's own table.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use xxhash_rust::xxh3::xxh3_64;

/// Stems, in lower case and with a capital, and what may follow them: `+` parts the tokens.
const CONTRACTIONS: &[(&str, &str)] = &[
    ("i", "'m m 'm+a m+a"),
    ("i you he she it we they", MODALS),
    ("i you we they", "'ve ve"),
    ("you we they", "'re re"),
    ("he she it", "'s s"),
    ("who what when where why how there that this", "'s s"),
    ("who what when where why how there that this these those", MODALS),
    ("who what when where why how there these those", "'re re 've ve"),
    (
        "ca could do does did had may might must need ought sha should wo would",
        "n't nt n't+'ve nt+ve",
    ),
    ("could might must should would not", "'ve ve"),
    ("ai are is was were have has dare", "n't nt"),
    ("can", "not"),
    ("gon", "na"),
    ("got", "ta"),
    ("let", "'s"),
    ("c'm", "on"),
    ("how", "'d+'y"),
];
const MODALS: &str = "'ll ll 'll+'ve ll+ve 'd d 'd+'ve d+ve";
/// Contractions that are written as other words are: no exceptions.
const OTHER_WORDS: &str = "ill its hell shell shed were well whore";
/// Words that lost their end, with and without the apostrophe, in lower case and with a capital.
const CLIPPED: &str = "doin goin havin lovin nothin nuthin ol somethin";
/// Words that lost their start, with and without the apostrophe.
const BEHEADED: &str = "em ll nuff";
/// Times of day follow the hours 1 to 12.
const PERIODS: &str = "a.m. am p.m. pm";
/// Scales of temperature, which leave the full stop after them alone.
const DEGREES: &str = "c f k C F K";
const PARTED: &str = "y'+all y+all";
/// What stays in one piece.
const WHOLE: &str = "'d 's 'S 're 'cause 'Cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout \u{2018}s \u{2018}S \
    ma'am Ma'am o'clock O'clock and/or w/o C++ <space> \\t \\n \\\") ' '' \u{2014} \
    a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü. \
    a.m. p.m. e.g. E.g. E.G. i.e. I.e. I.E. v.s. vs. co. Co. D.C. Ph.D. \
    Adm. Bros. Corp. Dr. Gen. Gov. Inc. Jr. Ltd. Messrs. Mr. Mrs. Ms. Mt. Prof. Rep. Rev. Sen. St. \
    Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. \
    Ak. Ala. Ariz. Ark. Calif. Colo. Conn. Del. Fla. Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. Mass. \
    Md. Mich. Minn. Miss. Mo. Mont. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Okla. Ore. Pa. \
    S.C. Tenn. Va. Wash. Wis.";
/// Eyes, noses and mouths: every eye with every nose and mouth of its line.
const FACES: &[(&str, &str, &str)] = &[
    (": :-", "", ") )) ))) ( (( ((( ] } / | P p O o 0 3 * > X x D"),
    (":", "", "1 o) () ') '-) '( '-("),
    ("; ;-", "", ") D"),
    ("=", "", ") ( / | 3 D [ ]"),
    ("8 8-", "", ") D"),
    ("x X", "", "D DD"),
    (">", "", ":( :o .< .>"),
    ("( [", "", ": -: ="),
    ("(", "", "; -; -8 o:"),
    (")", "", ": -:"),
    ("]", "", "="),
    ("^", "_ __ ___", "^"),
    ("-", "_ __", "-"),
    ("< </", "", "3"),
    ("<3", "", "3 33"),
    ("<.", "", "<"),
    ("o O 0", "_ .", "o O 0"),
    ("v V", "_ .", "v V"),
];
const MORE_FACES: &str = "._. ;_; @_@ (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) \
    ¯\\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>";
/// Of the faces above, those that spaCy does not list.
const NO_FACES: &str = "v.V V.v v_V V_v 0_O O_0 0.O O.0";

static EXCEPTIONS: LazyLock<Exceptions> = LazyLock::new(Exceptions::build);

/// The table, built once.
pub fn exceptions() -> &'static Exceptions {
    &EXCEPTIONS
}

/// Chunks by hash, with the lengths of their tokens.
pub struct Exceptions {
    /// Open addressing over a power of two: hash and number, 0 where free.
    slots: Box<[(u64, u32)]>,
    texts: Vec<Box<str>>,
    /// Lengths in bytes of the tokens of each; unused ones are 0.
    pieces: Vec<[u8; 3]>,
    /// By first byte, then by last: a bit for each length at which a chunk may be in the table.
    first: [u32; 256],
    last: [u32; 256],
}

const SLOTS: usize = 4096;

impl Exceptions {
    fn build() -> Self {
        let mut table = Self {
            slots: vec![(0, 0); SLOTS].into_boxed_slice(),
            texts: Vec::new(),
            pieces: Vec::new(),
            first: [0; 256],
            last: [0; 256],
        };
        for (text, pieces) in list() {
            let number = table.texts.len() as u32 + 1;
            let bytes = text.as_bytes();
            let bit = 1u32 << bytes.len();
            table.first[usize::from(bytes[0])] |= bit;
            table.last[usize::from(bytes[bytes.len() - 1])] |= bit;
            let hash = xxh3_64(bytes);
            let mut slot = hash as usize % SLOTS;
            while table.slots[slot].1 != 0 {
                slot = (slot + 1) % SLOTS;
            }
            table.slots[slot] = (hash, number);
            table.texts.push(text.into_boxed_str());
            table.pieces.push(pieces);
        }
        table
    }

    /// The number of a chunk in the table.
    #[inline]
    pub fn find(&self, chunk: &str) -> Option<u32> {
        let bytes = chunk.as_bytes();
        let (&first, &last) = (bytes.first()?, bytes.last()?);
        let bit = 1u32.checked_shl(bytes.len() as u32).unwrap_or(0);
        if self.first[usize::from(first)] & self.last[usize::from(last)] & bit == 0 {
            return None;
        }
        let hash = xxh3_64(bytes);
        let mut slot = hash as usize % SLOTS;
        loop {
            let (known, number) = self.slots[slot];
            if number == 0 {
                return None;
            }
            if known == hash && *self.texts[number as usize - 1] == *chunk {
                return Some(number - 1);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Lengths in bytes of the tokens of the numbered chunk.
    pub fn pieces(&self, number: u32) -> impl Iterator<Item = usize> + '_ {
        self.pieces[number as usize].iter().map(|&bytes| usize::from(bytes)).filter(|&n| n > 0)
    }

    /// Every chunk, in the order of its number.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }
}

/// Every exception with the lengths of its tokens, sorted.
fn list() -> BTreeMap<String, [u8; 3]> {
    let mut out = BTreeMap::new();
    // `text`, with `+` where tokens are parted if `parted`, and the same with the other apostrophe.
    let mut add = |text: &str, parted: bool| {
        for text in [text.to_owned(), text.replace('\'', "\u{2019}")] {
            let mut pieces = [0u8; 3];
            if parted {
                text.split('+').zip(&mut pieces).for_each(|(part, n)| *n = part.len() as u8);
                out.insert(text.replace('+', ""), pieces);
            } else {
                pieces[0] = text.len() as u8;
                out.insert(text, pieces);
            }
        }
    };
    let words = |list: &'static str| list.split(' ').filter(|word| !word.is_empty());
    for (stems, endings) in CONTRACTIONS {
        for stem in words(stems).flat_map(both_cases) {
            for ending in words(endings) {
                add(&format!("{stem}+{ending}"), true);
            }
        }
    }
    words(PARTED).for_each(|word| add(word, true));
    for hour in 1..=12 {
        words(PERIODS).for_each(|period| add(&format!("{hour}+{period}"), true));
    }
    words(DEGREES).for_each(|scale| add(&format!("°+{scale}+."), true));
    for word in words(CLIPPED).flat_map(both_cases) {
        add(&word, false);
        add(&format!("{word}'"), false);
    }
    for word in words(BEHEADED) {
        add(word, false);
        add(&format!("'{word}"), false);
    }
    words(WHOLE).chain(words(MORE_FACES)).for_each(|word| add(word, false));
    for (eyes, noses, mouths) in FACES {
        for eye in words(eyes) {
            for nose in noses.split(' ') {
                words(mouths).for_each(|mouth| add(&format!("{eye}{nose}{mouth}"), false));
            }
        }
    }
    out.retain(|text, _| {
        !words(NO_FACES).any(|word| word == text)
            && !words(OTHER_WORDS).flat_map(both_cases).any(|word| word == *text)
    });
    out
}

fn both_cases(word: &str) -> [String; 2] {
    let (first, rest) = word.split_at(1);
    [word.to_owned(), first.to_uppercase() + rest]
}
