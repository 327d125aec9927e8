//! Very long pieces, a stretch at a time: what repeats inside of them is merged once.
//!
//! A megabyte of one character, or of an indented newline, is the same stretch over and over. Each
//! stretch starts at a token of the one before and must make that token again; then the two agree
//! there, which is enough (see `merges`). The last few stretches are remembered.

use crate::cache::Merge;
use crate::keys::hash_of_long;

/// Bytes of a stretch, as a rule.
const STRETCH: usize = 2048;
const REMEMBERED: usize = 8;

/// The stretches that were merged last.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    known: [Stretch; REMEMBERED],
}

#[derive(Debug, Default)]
struct Stretch {
    text: Vec<u8>,
    ids: Vec<u32>,
    ends: Vec<usize>,
}

/// A place at or before `at` where no character is cut.
fn border(text: &[u8], mut at: usize) -> usize {
    while at > 0 && text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80) {
        at -= 1;
    }
    at
}

impl Runs {
    /// Appends the ids of a piece.
    pub(crate) fn extend(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u32>,
        symbols: &mut Vec<u32>,
        merge: &impl Merge,
    ) {
        let (begin, mut start, mut agreed) = (out.len(), 0, None);
        while piece.len() - start > 2 * STRETCH {
            let Some((kept, token)) = self.step(&piece[start..], out, symbols, merge) else {
                break;
            };
            (start, agreed) = (start + kept, Some(token));
        }
        let rest = out.len();
        merge.one(&piece[start..], symbols, out);
        if agreed.is_some_and(|token| out.get(rest) != Some(&token)) {
            out.truncate(begin);
            merge.one(piece, symbols, out);
        }
    }

    /// Appends the ids of a stretch up to a token that the next agrees on; returns where that starts,
    /// and the token.
    fn step(
        &mut self,
        rest: &[u8],
        out: &mut Vec<u32>,
        symbols: &mut Vec<u32>,
        merge: &impl Merge,
    ) -> Option<(usize, u32)> {
        let length = border(rest, STRETCH);
        let here = self.find(&rest[..length], symbols, merge)?;
        let ends = &self.known[here].ends;
        let first = ends.partition_point(|&end| end < length - length / 4);
        let whole = |&index: &usize| border(rest, ends[index]) == ends[index];
        // Not the last token: more text might change it.
        let kept = (first..ends.len().saturating_sub(2)).find(whole)?;
        let (at, token) = (ends[kept], self.known[here].ids[kept + 1]);
        let size = ends[kept + 1] - at;
        let next = at + border(&rest[at..], STRETCH.min(rest.len() - at));
        let next = if next > at { next } else { rest.len() };
        // It may take the place of this one.
        out.extend_from_slice(&self.known[here].ids[..=kept]);
        let there = self.find(&rest[at..next], symbols, merge);
        let agrees = there.is_some_and(|there| {
            let stretch = &self.known[there];
            stretch.ids.first() == Some(&token) && stretch.ends.first() == Some(&size)
        });
        if !agrees {
            out.truncate(out.len() - (kept + 1));
            return None;
        }
        Some((at, token))
    }

    fn find(&mut self, text: &[u8], symbols: &mut Vec<u32>, merge: &impl Merge) -> Option<usize> {
        let place = hash_of_long(text) as usize % REMEMBERED;
        let stretch = &mut self.known[place];
        if stretch.text != text {
            stretch.text.clear();
            stretch.ids.clear();
            stretch.ends.clear();
            merge.one(text, symbols, &mut stretch.ids);
            merge.ends(text, &stretch.ids, &mut stretch.ends)?;
            stretch.text.extend_from_slice(text);
        }
        Some(place)
    }
}
