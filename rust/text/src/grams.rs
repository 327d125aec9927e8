//! Repeated n-grams of tokens: the most frequent ones (n = 2–4) and the duplicated ones (n = 5–10).
//!
//! An n-gram can only repeat where both of its (n−1)-grams do, so each length looks only at the
//! places that survived the one before: natural text is done after a few lengths. Each repeated
//! gram gets a number, and the next length's key is that number with one more token, so grams are
//! compared exactly, at 64 bits, without hashing their text (Karp, Miller and Rosenberg's naming).

use crate::table::Table;
use crate::vocabulary::Word;

/// Characters, by n-gram length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grams {
    /// Characters of the most frequent 2-, 3- and 4-gram, times its occurrences.
    pub top: [u64; 3],
    /// Characters inside repetitions of earlier 5- to 10-grams.
    pub duplicate: [u64; 6],
}

/// Whose definition of "how many characters" to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Each character once; a gram that occurs once is no repetition.
    Covered,
    /// datatrove 0.10: top grams with blanks between words, overlaps counted again, a gram that
    /// occurs once is the top of a text without repetition; duplicates found left to right,
    /// skipping a whole gram at each.
    Datatrove,
}

#[derive(Clone, Copy, Default)]
struct Place {
    at: u32,
    gram: u32,
}

/// Buffers for [`Counter::count`], kept between texts.
#[derive(Default)]
pub struct Counter {
    table: Table,
    places: Vec<Place>,
    counts: Vec<u32>,
    seen: Vec<bool>,
    sieve: Sieve,
}

impl Counter {
    /// Counts over `tokens` (indices into `words`); `reach` holds 0 and the characters of all
    /// tokens up to each.
    pub fn count(&mut self, tokens: &[u32], reach: &[u32], words: &[Word], rule: Rule) -> Grams {
        let mut grams = Grams::default();
        self.pairs(tokens, words);
        for n in 2..=10 {
            if n > 2 {
                self.lengthen(tokens, n);
            }
            if n <= 4 {
                grams.top[n - 2] = self.top(n, tokens.len(), reach, rule);
            }
            self.drop_singles();
            if self.places.is_empty() && n >= 4 {
                break;
            }
            if n >= 5 {
                grams.duplicate[n - 5] = match rule {
                    Rule::Covered => self.covered(n, reach),
                    Rule::Datatrove => self.skipping(n, reach),
                };
            }
        }
        grams
    }

    /// Names the pairs of tokens that both occur twice or more.
    fn pairs(&mut self, tokens: &[u32], words: &[Word]) {
        let (mut kept, mut before, mut last) = (0, false, 0);
        self.places.resize(tokens.len(), Place::default());
        // Whether a token repeats is a coin toss, so nothing here branches on it: each place is
        // written, and the next one over it where it is not wanted.
        for (at, &token) in tokens.iter().enumerate() {
            let repeats = words[token as usize].count > 1;
            self.places[kept] = Place { at: at.wrapping_sub(1) as u32, gram: last };
            kept += usize::from(before & repeats);
            (before, last) = (repeats, token);
        }
        self.places.truncate(kept);
        self.sieve.keep_likely_repeated(&mut self.places, tokens);
        self.name_all(tokens, 2);
    }

    /// From repeated (n−1)-grams in `places` to n-grams.
    fn lengthen(&mut self, tokens: &[u32], n: usize) {
        let mut kept = 0;
        for at in 1..self.places.len() {
            let (place, next) = (self.places[at - 1], self.places[at]);
            self.places[kept] = place;
            kept += usize::from(place.at + 1 == next.at);
        }
        self.places.truncate(kept);
        self.name_all(tokens, n);
    }

    /// Gives the n-gram at each place, known by its (n−1)-gram and last token, a number.
    fn name_all(&mut self, tokens: &[u32], n: usize) {
        // A gram occurs about twice: half as many different ones as places.
        self.table.reset(self.places.len() / 2);
        self.counts.clear();
        self.counts.resize(self.places.len(), 0);
        let mut fresh = 0;
        for place in &mut self.places {
            let token = tokens[place.at as usize + n - 1];
            let key = u64::from(place.gram) << 32 | u64::from(token);
            let gram = self.table.get_or_insert(key, fresh);
            self.counts[gram as usize] += 1;
            fresh += u32::from(gram == fresh);
            place.gram = gram;
        }
        self.counts.truncate(fresh as usize);
    }

    fn drop_singles(&mut self) {
        let mut kept = 0;
        for at in 0..self.places.len() {
            let place = self.places[at];
            self.places[kept] = place;
            kept += usize::from(self.counts[place.gram as usize] > 1);
        }
        self.places.truncate(kept);
    }

    fn top(&self, n: usize, tokens: usize, reach: &[u32], rule: Rule) -> u64 {
        let blanks = n as u64 - 1;
        // Names are given in order of appearance: of equally frequent grams the first is taken.
        let most = self.counts.iter().copied().max().unwrap_or(0);
        if most < 2 {
            let first = rule == Rule::Datatrove && tokens >= n;
            return if first { chars(reach, 0, n) + blanks } else { 0 };
        }
        let gram = self.counts.iter().position(|&count| count == most).unwrap_or(0) as u32;
        let mut occurrences = self.places.iter().filter(|place| place.gram == gram);
        match rule {
            Rule::Datatrove => occurrences
                .next()
                .map_or(0, |place| (chars(reach, place.at as usize, n) + blanks) * u64::from(most)),
            Rule::Covered => {
                let (mut chars, mut end) = (0, 0);
                for place in occurrences {
                    let at = place.at as usize;
                    chars += new_chars(reach, at, n, end);
                    end = at + n;
                }
                chars
            }
        }
    }

    fn covered(&mut self, n: usize, reach: &[u32]) -> u64 {
        let (mut chars, mut end) = (0, 0);
        self.seen.clear();
        self.seen.resize(self.counts.len(), false);
        for place in &self.places {
            let at = place.at as usize;
            if std::mem::replace(&mut self.seen[place.gram as usize], true) {
                chars += new_chars(reach, at, n, end);
                end = at + n;
            }
        }
        chars
    }

    fn skipping(&mut self, n: usize, reach: &[u32]) -> u64 {
        let (mut chars, mut next) = (0, 0);
        self.seen.clear();
        self.seen.resize(self.counts.len(), false);
        for place in &self.places {
            let at = place.at as usize;
            if at < next {
                continue;
            }
            if std::mem::replace(&mut self.seen[place.gram as usize], true) {
                chars += self::chars(reach, at, n);
                next = at + n;
            }
        }
        chars
    }
}

/// Characters of the gram at a place.
fn chars(reach: &[u32], at: usize, n: usize) -> u64 {
    u64::from(reach[at + n] - reach[at])
}

/// Those of them beyond an earlier gram's end.
fn new_chars(reach: &[u32], at: usize, n: usize, end: usize) -> u64 {
    u64::from(reach[at + n] - reach[at.max(end)])
}

/// Throws out most of the pairs that occur once, so that the exact table sees few places.
#[derive(Default)]
struct Sieve {
    counts: Vec<u8>,
}

impl Sieve {
    fn keep_likely_repeated(&mut self, places: &mut Vec<Place>, tokens: &[u32]) {
        // Four counters a place: a quarter of the single pairs stay by chance.
        let size = (places.len() * 4).next_power_of_two().max(64);
        let shift = 64 - size.trailing_zeros();
        let slot = |place: &Place| {
            let key = u64::from(place.gram) << 32 | u64::from(tokens[place.at as usize + 1]);
            (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize
        };
        self.counts.clear();
        self.counts.resize(size, 0);
        for place in places.iter() {
            let count = &mut self.counts[slot(place)];
            *count = count.saturating_add(1);
        }
        let mut kept = 0;
        for at in 0..places.len() {
            let place = places[at];
            places[kept] = place;
            kept += usize::from(self.counts[slot(&place)] > 1);
        }
        places.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str, rule: Rule) -> Grams {
        let mut words: Vec<Word> = Vec::new();
        let mut names = Vec::new();
        let tokens: Vec<u32> = text
            .split_whitespace()
            .map(|token| {
                let at = names.iter().position(|n| *n == token).unwrap_or_else(|| {
                    names.push(token);
                    words.push(Word { count: 0, chars: token.len() as u32, flags: 0 });
                    names.len() - 1
                });
                words[at].count += 1;
                at as u32
            })
            .collect();
        let mut reach = vec![0];
        for &token in &tokens {
            reach.push(reach[reach.len() - 1] + words[token as usize].chars);
        }
        Counter::default().count(&tokens, &reach, &words, rule)
    }

    #[test]
    fn nothing_repeats() {
        assert_eq!(count("aa bb cc dd ee", Rule::Covered), Grams::default());
        // The first gram of each length, with its blanks: 5, 8 and 11 characters.
        assert_eq!(count("aa bb cc dd ee", Rule::Datatrove).top, [5, 8, 11]);
        assert_eq!(count("", Rule::Covered), Grams::default());
        assert_eq!(count("aa", Rule::Datatrove), Grams::default());
    }

    #[test]
    fn overlaps_count_once() {
        // "a a" three times over four characters.
        assert_eq!(count("a a a a", Rule::Covered).top, [4, 4, 0]);
        assert_eq!(count("a a a a", Rule::Datatrove).top, [9, 10, 7]);
    }

    #[test]
    fn duplicates() {
        let text = "a b c d e f x a b c d e f y";
        // The second "a b c d e f" is repeated as a whole: 6 characters of 5- and 6-grams.
        assert_eq!(count(text, Rule::Covered).duplicate, [6, 6, 0, 0, 0, 0]);
        // Left to right, the 5-gram is skipped and "f y" is no 5-gram any more.
        assert_eq!(count(text, Rule::Datatrove).duplicate, [5, 6, 0, 0, 0, 0]);
    }
}
