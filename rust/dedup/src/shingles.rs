//! Units to shingles: every run of n units as one 64-bit hash (see `hash`).

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::Settings;
use crate::hash::{K, Keys};
use crate::units::{Cursor, Cutter, Progress};

/// What takes shingles, batch by batch.
pub(crate) trait Sink {
    /// Shingles of the text, in order, with repetitions.
    fn batch(&mut self, shingles: &[u64]);
    /// Forget all batches: the text starts again.
    fn restart(&mut self);
}

impl Sink for Vec<u64> {
    fn batch(&mut self, shingles: &[u64]) {
        self.extend_from_slice(shingles);
    }

    fn restart(&mut self) {
        self.clear();
    }
}

/// Cuts texts into shingles; keeps its buffers between texts.
#[derive(Debug, Clone)]
pub struct Shingler {
    ngram: usize,
    keys: Keys,
    cutter: Cutter,
    units: Vec<u64>,
    shingles: Vec<u64>,
    /// K to the power of n.
    power: u64,
}

impl Shingler {
    /// For these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let keys = Keys::new(&mut settings.seed.clone());
        Self {
            ngram: settings.ngram,
            keys,
            cutter: Cutter::new(keys, settings.fold),
            units: Vec::new(),
            shingles: Vec::new(),
            power: (0..settings.ngram).fold(1, |power, _| power.wrapping_mul(K)),
        }
    }

    /// Hands the shingles of a text to `sink` in batches of bounded size.
    ///
    /// A text of fewer than n units is one shingle; one without units has none.
    pub(crate) fn feed(&mut self, text: &str, code: bool, sink: &mut impl Sink) {
        let (mut text, mut cursor) = (Cow::Borrowed(text), Cursor::default());
        let mut any = false;
        self.units.clear();
        loop {
            let progress = self.cutter.cut(&text, code, &mut cursor, &mut self.units);
            match progress {
                Progress::Decomposed => {
                    if is_nfc_quick(text.chars()) != IsNormalized::Yes {
                        text = Cow::Owned(text.nfc().collect());
                        (cursor, any) = (Cursor::default(), false);
                        self.units.clear();
                        sink.restart();
                    }
                    cursor.composed = true;
                }
                Progress::More => any |= self.pass_on(sink),
                Progress::End => {
                    if !self.pass_on(sink) && !any && !self.units.is_empty() {
                        sink.batch(&[self.keys.shingle(polynomial(&self.units))]);
                    }
                    return;
                }
            }
        }
    }

    /// Turns the units at hand into shingles, but for the n − 1 that the next one needs.
    fn pass_on(&mut self, sink: &mut impl Sink) -> bool {
        let before = self.ngram - 1;
        if self.units.len() <= before {
            return false;
        }
        self.shingles.clear();
        let (units, count) = (self.units.as_slice(), self.units.len() - before);
        // Two polynomials a step, both from the one before them: half as many steps to wait for.
        let mut sum = polynomial(&units[..self.ngram]);
        let step =
            |at: usize| units[at + self.ngram].wrapping_sub(units[at].wrapping_mul(self.power));
        for at in (0..count - 1).step_by(2) {
            let one = step(at);
            self.shingles.push(self.keys.shingle(sum));
            self.shingles.push(self.keys.shingle(sum.wrapping_mul(K).wrapping_add(one)));
            if at + 2 < count {
                let two = one.wrapping_mul(K).wrapping_add(step(at + 1));
                sum = sum.wrapping_mul(K.wrapping_mul(K)).wrapping_add(two);
            }
        }
        if count % 2 == 1 {
            self.shingles.push(self.keys.shingle(sum));
        }
        sink.batch(&self.shingles);
        self.units.drain(..self.units.len() - before);
        true
    }

    /// The shingles of a text, in order, with repetitions.
    #[must_use]
    pub fn shingles(&mut self, text: &str, code: bool) -> Vec<u64> {
        let mut all = Vec::new();
        self.feed(text, code, &mut all);
        all
    }

    /// The set of a text's shingles, sorted.
    #[must_use]
    pub fn set(&mut self, text: &str, code: bool) -> Vec<u64> {
        let mut set = self.shingles(text, code);
        set.sort_unstable();
        set.dedup();
        set
    }
}

fn polynomial(units: &[u64]) -> u64 {
    units.iter().fold(0, |sum, &unit| sum.wrapping_mul(K).wrapping_add(unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ENOUGH;

    fn shingler(ngram: usize) -> Shingler {
        Shingler::new(&Settings { ngram, ..Settings::default() })
    }

    #[test]
    fn every_run_of_n_units_over_batches() {
        let words: Vec<String> = (0..3 * ENOUGH + 7).map(|i| format!("w{}", i * i % 997)).collect();
        for ngram in [1, 2, 5, 13] {
            let mut shingler = shingler(ngram);
            let got = shingler.shingles(&words.join(" "), false);
            let want: Vec<u64> = words
                .windows(ngram)
                .map(|run| shingler.shingles(&run.join("\n"), false)[0])
                .collect();
            assert_eq!(got, want, "{ngram}");
        }
    }

    #[test]
    fn short_texts_are_one_shingle() {
        let mut shingler = shingler(5);
        assert!(shingler.shingles("", false).is_empty());
        assert!(shingler.shingles(" ... ", false).is_empty());
        let one = shingler.shingles("red kite", false);
        assert_eq!(one.len(), 1);
        assert_eq!(one, shingler.shingles("Red kite!", false));
        assert_ne!(one, shingler.shingles("blue heron", false));
        assert_ne!(one, shingler.shingles("kite red", false));
    }

    #[test]
    fn composed_or_not_is_the_same_wherever_it_begins() {
        let mut shingler = shingler(5);
        for before in [0, 3, 2 * ENOUGH] {
            let text = "tide ".repeat(before) + "Zoë drank tea at Noël with か\u{3099} and 가";
            let apart: String = text.nfd().collect();
            assert_ne!(text, apart);
            assert_eq!(shingler.shingles(&text, false), shingler.shingles(&apart, false));
        }
        let mut exact = Shingler::new(&Settings { fold: false, ..Settings::default() });
        assert_ne!(exact.shingles("Zoë", false), exact.shingles("Zoe\u{308}", false));
    }
}
