//! Units to shingles: every run of n units as one 64-bit hash.
//!
//! Hash of units u₁…uₙ: `mix(((u₁·K + u₂)·K + …)·K + uₙ)` modulo 2⁶⁴ with the constant K below and
//! the finaliser of MurmurHash3 (Appleby, public domain) as `mix`.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::Settings;
use crate::units::units;

const K: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
pub(crate) const fn mix(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

/// Cuts texts into shingles; keeps its buffers between texts.
#[derive(Debug, Clone)]
pub struct Shingler {
    settings: Settings,
    units: Vec<u64>,
}

impl Shingler {
    /// For these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), units: Vec::new() }
    }

    /// Fills `shingles` with the hashes of the text's shingles, in order, with repetitions.
    ///
    /// A text of fewer than n units is one shingle; one without units has none. Composed and
    /// decomposed characters are the same.
    pub fn shingles(&mut self, text: &str, shingles: &mut Vec<u64>) {
        let Settings { ngram, unit, fold, seed, .. } = self.settings;
        self.units.clear();
        shingles.clear();
        units(&composed(text), unit, fold, seed, &mut self.units);
        if self.units.is_empty() {
            return;
        }
        let join = |run: &[u64]| {
            mix(run.iter().fold(run.len() as u64, |sum, &u| sum.wrapping_mul(K).wrapping_add(u)))
        };
        if self.units.len() < ngram {
            shingles.push(join(&self.units));
        } else {
            shingles.extend(self.units.windows(ngram).map(join));
        }
    }

    /// The set of a text's shingles, sorted.
    #[must_use]
    pub fn set(&mut self, text: &str) -> Vec<u64> {
        let mut shingles = Vec::new();
        self.shingles(text, &mut shingles);
        shingles.sort_unstable();
        shingles.dedup();
        shingles
    }
}

fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}
