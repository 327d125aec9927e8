//! What a character is to spaCy's English rules: one flag word a code point, built once.

use std::sync::LazyLock;

use super::ranges::{self, Ranges};

/// A letter.
pub const LETTER: u16 = 1;
/// A letter that may end a sentence's last word: lower case or without case.
pub const LOWER: u16 = 1 << 1;
/// A letter that may begin a sentence: upper case or without case.
pub const UPPER: u16 = 1 << 2;
/// A quotation mark or bracket that joins two words around a full stop.
pub const QUOTE: u16 = 1 << 3;
/// A token of its own at a chunk's start.
pub const PREFIX: u16 = 1 << 4;
/// A token of its own at a chunk's end.
pub const SUFFIX: u16 = 1 << 5;
/// A token of its own inside a chunk.
pub const SYMBOL: u16 = 1 << 6;
/// A full stop at a chunk's end that follows it is a token.
pub const BEFORE_STOP: u16 = 1 << 7;
/// ASCII digit.
pub const DIGIT: u16 = 1 << 8;
/// A unit or currency may end with it.
pub const ENDS_UNIT: u16 = 1 << 9;
/// An infix may begin with it.
pub const INFIX: u16 = 1 << 10;
/// General category P.
pub const PUNCTUATION: u16 = 1 << 11;
/// Ends a sentence when it is a token.
pub const TERMINAL: u16 = 1 << 12;

const QUOTES: &str = "\"',`«´»‘’‚“”„⟦⟧\u{2329}\u{232a}\u{3008}\u{3009}《》「」『』【】〔〕（）";
/// Punctuation that is a token at either end.
const AT_ENDS: &str = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪—–";
const AT_START: &str = "§%=+";
const BEFORE_STOPS: &str = "0123456789%²-+…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪|";
const CURRENCIES: &str = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿";
const INFIXES: &str = ".…+-*^,–—~:<>=/";
/// The sentencizer's list (`spacy/pipeline/sentencizer.pyx`).
#[rustfmt::skip]
const TERMINALS: Ranges = &[
    (0x21, 0x21, 1), (0x2e, 0x2e, 1), (0x3f, 0x3f, 1), (0x589, 0x589, 1), (0x61f, 0x61f, 1),
    (0x6d4, 0x6d4, 1), (0x700, 0x702, 1), (0x7f9, 0x7f9, 1), (0x964, 0x965, 1),
    (0x104a, 0x104b, 1), (0x1362, 0x1362, 1), (0x1367, 0x1368, 1), (0x166e, 0x166e, 1),
    (0x1735, 0x1736, 1), (0x1803, 0x1803, 1), (0x1809, 0x1809, 1), (0x1944, 0x1945, 1),
    (0x1aa8, 0x1aab, 1), (0x1b5a, 0x1b5b, 1), (0x1b5e, 0x1b5f, 1), (0x1c3b, 0x1c3c, 1),
    (0x1c7e, 0x1c7f, 1), (0x203c, 0x203d, 1), (0x2047, 0x2049, 1), (0x2e2e, 0x2e2e, 1),
    (0x2e3c, 0x2e3c, 1), (0x3002, 0x3002, 1), (0xa4ff, 0xa4ff, 1), (0xa60e, 0xa60f, 1),
    (0xa6f3, 0xa6f3, 1), (0xa6f7, 0xa6f7, 1), (0xa876, 0xa877, 1), (0xa8ce, 0xa8cf, 1),
    (0xa92f, 0xa92f, 1), (0xa9c8, 0xa9c9, 1), (0xaa5d, 0xaa5f, 1), (0xaaf0, 0xaaf1, 1),
    (0xabeb, 0xabeb, 1), (0xfe52, 0xfe52, 1), (0xfe56, 0xfe57, 1), (0xff01, 0xff01, 1),
    (0xff0e, 0xff0e, 1), (0xff1f, 0xff1f, 1), (0xff61, 0xff61, 1), (0x10a56, 0x10a57, 1),
    (0x11047, 0x11048, 1), (0x110be, 0x110c1, 1), (0x11141, 0x11143, 1), (0x111c5, 0x111c6, 1),
    (0x111cd, 0x111cd, 1), (0x111de, 0x111df, 1), (0x11238, 0x11239, 1), (0x1123b, 0x1123c, 1),
    (0x112a9, 0x112a9, 1), (0x1144b, 0x1144c, 1), (0x115c2, 0x115c3, 1), (0x115c9, 0x115d7, 1),
    (0x11641, 0x11642, 1), (0x1173c, 0x1173e, 1), (0x11a42, 0x11a43, 1), (0x11a9b, 0x11a9c, 1),
    (0x11c41, 0x11c42, 1), (0x16a6e, 0x16a6f, 1), (0x16af5, 0x16af5, 1), (0x16b37, 0x16b38, 1),
    (0x16b44, 0x16b44, 1), (0x1bc9f, 0x1bc9f, 1), (0x1da88, 0x1da88, 1),
];

/// Units that are parted from the digit before them.
pub const UNITS: &str = "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb \
    oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см \
    см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² كم³ م \
    م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب US$ C$ A$";

static TABLE: LazyLock<Box<[u16]>> = LazyLock::new(build);

/// Flags of every code point below U+110000.
pub fn table() -> &'static [u16] {
    &TABLE
}

fn build() -> Box<[u16]> {
    let mut table = vec![0u16; 0x11_0000].into_boxed_slice();
    let mut mark = |ranges: Ranges, flags: u16| {
        for &(first, last, step) in ranges {
            (first..=last).step_by(step as usize).for_each(|code| table[code as usize] |= flags);
        }
    };
    mark(ranges::UNCASED, LETTER | LOWER | UPPER | BEFORE_STOP);
    mark(ranges::LOWER, LETTER | LOWER | BEFORE_STOP);
    mark(ranges::UPPER, LETTER | UPPER);
    mark(ranges::TITLE, LETTER);
    mark(ranges::SYMBOLS, SYMBOL | PREFIX | SUFFIX | INFIX);
    mark(ranges::PUNCTUATION, PUNCTUATION);
    mark(TERMINALS, TERMINAL);
    let mut mark = |characters: &str, flags: u16| {
        characters.chars().for_each(|c| table[c as usize] |= flags);
    };
    mark(QUOTES, QUOTE | PREFIX | SUFFIX | BEFORE_STOP);
    mark(AT_ENDS, PREFIX | SUFFIX);
    mark(AT_START, PREFIX);
    mark(BEFORE_STOPS, BEFORE_STOP);
    mark(CURRENCIES, PREFIX | ENDS_UNIT);
    mark(INFIXES, INFIX);
    mark("0123456789", DIGIT);
    for unit in UNITS.split(' ') {
        let last = unit.char_indices().next_back().map_or(0, |(at, _)| at);
        mark(&unit[last..], ENDS_UNIT);
    }
    table
}
