//! Where pieces start in the next 64 bytes, all at once, where they are plain ASCII.
//!
//! In most text a piece starts where the kinds of two or three neighbours say so: a word with the
//! one character before it, a run of symbols with the space before it, a number, a run of white
//! space but for its last. Each kind is a mask of 64 bits, each rule a few operations on masks. What
//! a rule of that form can't tell is a hard place: the state machines of `scan` take over there.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8,
    _mm256_setr_epi8, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;

/// Starts of pieces in a block that starts with a piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starts {
    /// A bit for each, but for the first.
    pub(crate) bits: u64,
    /// The first hard place, `BLOCK` if there is none.
    pub(crate) hard: usize,
}

/// The kinds of 64 characters, a bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    letters: u64,
    lower: u64,
    digits: u64,
    blanks: u64,
    newlines: u64,
    /// White space that is neither.
    others: u64,
    quotes: u64,
    slashes: u64,
    wide: u64,
}

/// A bit for each kind; a byte is of a kind where both tables have the bit, for its low and its high
/// four bits.
#[cfg(target_arch = "x86_64")]
const LOW: [u8; 16] = {
    let mut table = [0; 16];
    let mut low = 0;
    while low < 16 {
        table[low] = (low >= 1) as u8
            | ((low <= 10) as u8) << 1
            | ((low <= 9) as u8) << 2
            | ((low == 0) as u8) << 3
            | (matches!(low, 9 | 11 | 12) as u8) << 4
            | (matches!(low, 10 | 13) as u8) << 5
            | ((low == 7) as u8) << 6
            | ((low == 15) as u8) << 7;
        low += 1;
    }
    table
};
#[cfg(target_arch = "x86_64")]
const HIGH: [u8; 16] = [0x30, 0, 0xC8, 4, 1, 2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn table(values: [u8; 16]) -> __m256i {
    let v = values.map(|value| value as i8);
    _mm256_setr_epi8(
        v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13],
        v[14], v[15], v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11],
        v[12], v[13], v[14], v[15],
    )
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn kinds(block: &[u8; BLOCK]) -> Kinds {
    let mut kinds = Kinds::default();
    for (at, half) in [(0, &block[..32]), (32, &block[32..])] {
        // SAFETY: the slice has the 32 bytes that are read.
        let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15));
        let kind = _mm256_and_si256(
            _mm256_shuffle_epi8(table(LOW), bytes),
            _mm256_shuffle_epi8(table(HIGH), high),
        );
        let mask = |bits: __m256i| u64::from(_mm256_movemask_epi8(bits) as u32) << at;
        kinds.wide |= mask(bytes);
        kinds.lower |= mask(_mm256_slli_epi16::<2>(bytes));
        kinds.letters |= mask(_mm256_slli_epi16::<7>(kind)) | mask(_mm256_slli_epi16::<6>(kind));
        kinds.digits |= mask(_mm256_slli_epi16::<5>(kind));
        kinds.blanks |= mask(_mm256_slli_epi16::<4>(kind));
        kinds.others |= mask(_mm256_slli_epi16::<3>(kind));
        kinds.newlines |= mask(_mm256_slli_epi16::<2>(kind));
        kinds.quotes |= mask(_mm256_slli_epi16::<1>(kind));
        kinds.slashes |= mask(kind);
    }
    kinds.lower &= kinds.letters;
    kinds
}

/// Whether a contraction may start with this letter, or with this part of one (ſ).
#[inline(always)]
fn contracts(letter: u8) -> bool {
    letter >= 0x80 || matches!(letter | 0x20, b's' | b't' | b'm' | b'd' | b'r' | b'v' | b'l')
}

/// Starts by GPT-4's pattern with this number of digits, or by GPT-4o's.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
pub(crate) fn starts<const DIGITS: u32, const GPT4O: bool>(block: &[u8; BLOCK]) -> Starts {
    let Kinds { letters, lower, digits, blanks, newlines, others, quotes, slashes, wide } =
        kinds(block);
    let gaps = blanks | others;
    let spaces = gaps | newlines;
    let symbols = !(letters | digits | spaces | wide);
    // A run of symbols takes in the blank before it.
    let symbol_starts = symbols & !((symbols | blanks) << 1);
    // A word takes in the character before it: white space, or a symbol that stands alone.
    let mut word_starts = letters & !((letters | gaps | symbol_starts) << 1);
    if GPT4O {
        word_starts |= letters & !lower & lower << 1;
    }
    let mut digit_starts = digits;
    let mut hard = wide;
    if DIGITS == 3 {
        let fourth = digits & digits << 1 & digits << 2 & digits << 3;
        digit_starts &= !(digits << 1);
        let next = digit_starts << 3 & fourth;
        let last = next << 3 & fourth;
        digit_starts |= next | last;
        hard |= last << 3 & fourth;
    }
    // Newlines go with the symbols before them. A run of white space without them leaves its last
    // to what follows.
    let newline_starts = newlines & !((spaces | symbols) << 1);
    let gap_starts = gaps & (!(gaps << 1) | !(spaces >> 1));
    // White space up to a newline is one piece, wherever the newline is.
    hard |= newlines & gaps << 1;
    let mut candidates = if GPT4O {
        hard |= slashes & newlines << 1;
        quotes & letters << 1
    } else {
        // Before a single letter a contraction is the piece that a quote and a word make.
        quotes & symbol_starts & letters >> 1 & letters >> 2
    };
    while candidates != 0 {
        let at = candidates.trailing_zeros() as usize;
        if block.get(at + 1).is_none_or(|&letter| contracts(letter)) {
            hard |= 1 << at;
        }
        candidates &= candidates - 1;
    }
    let starts = symbol_starts | word_starts | digit_starts | newline_starts | gap_starts;
    up_to_the_hard(starts, hard, spaces)
}

/// Starts by GPT-2's pattern.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
#[inline]
pub(crate) fn starts_gpt2(block: &[u8; BLOCK]) -> Starts {
    let Kinds { letters, digits, blanks, newlines, others, quotes, wide, .. } = kinds(block);
    let spaces = blanks | others | newlines;
    let symbols = !(letters | digits | spaces | wide);
    // A run of a kind takes in the blank before it; one of white space leaves its last alone.
    let runs = [letters, digits, symbols].map(|kind| kind & !(kind << 1));
    let bare = (runs[0] | runs[1] | runs[2]) & !(blanks << 1);
    let starts = bare | spaces & (!(spaces << 1) | !(spaces >> 1));
    let mut hard = wide;
    let mut candidates = quotes & bare & letters >> 1;
    while candidates != 0 {
        let at = candidates.trailing_zeros() as usize;
        if block.get(at + 1).is_some_and(|&letter| letter >= b'a' && contracts(letter)) {
            hard |= 1 << at;
        }
        candidates &= candidates - 1;
    }
    up_to_the_hard(starts, hard, spaces)
}

/// What of the starts is certain.
#[inline(always)]
fn up_to_the_hard(starts: u64, hard: u64, spaces: u64) -> Starts {
    let hard = hard.trailing_zeros() as usize;
    // A run of white space that the block or a hard place ends may go on to a newline.
    let known = !spaces & if hard == BLOCK { u64::MAX } else { (1 << hard) - 1 };
    let bits = match known.checked_ilog2() {
        Some(last) => starts & (u64::MAX >> (63 - last)) & !1,
        None => 0,
    };
    Starts { bits, hard }
}

#[cfg(test)]
mod tests {
    use crate::Pattern;
    use crate::scan::Scan;

    /// The same pieces, one after the other by the state machine.
    fn alone(pattern: Pattern, text: &str) -> Vec<&str> {
        let (scan, mut at, mut pieces) = (Scan::new(text), 0, Vec::new());
        while at < text.len() {
            let end = match pattern {
                Pattern::Gpt2 => scan.gpt2(at),
                Pattern::Cl100k => scan.gpt4(at, 3),
                Pattern::Qwen => scan.gpt4(at, 1),
                Pattern::O200k => scan.gpt4o(at),
            };
            pieces.push(&text[at..end]);
            at = end;
        }
        pieces
    }

    #[test]
    fn blocks_and_machines_agree() {
        let mut state = 11u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        // More of what rules turn on than of the rest.
        let parts = [
            "a", "b", "Z", "word", "Word", "HTML", "s", "t", "re", "LL", "v", "1", "23", "4567",
            " ", " ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\u{b}", "'", "''", "'s", "'re",
            "don't", "(", "((", "/", "//", ".", "\"", "_", "=", "\u{7f}", "\0", "é", "世界", "。",
            "\u{a0}", "\u{3000}", "ſ", "🙂",
        ];
        for round in 0..20_000 {
            let some = [1, 3, 8, parts.len()][round % 4];
            let from = random(parts.len());
            let text: String =
                (0..random(120)).map(|_| parts[(from + random(some) * 7) % parts.len()]).collect();
            for pattern in [Pattern::Gpt2, Pattern::Cl100k, Pattern::Qwen, Pattern::O200k] {
                let mut pieces = Vec::new();
                pattern.each(&text, |piece| pieces.push(piece));
                assert_eq!(pieces, alone(pattern, &text), "{pattern:?} {text:?}");
            }
        }
    }
}
