//! Where in the text each token comes from.

use crate::BpeError;
use crate::cache::Cache;
use crate::characters::MARK;
use crate::encode::Stop;
use crate::normal::Change;
use crate::special::{Allowed, Part};
use crate::tokenizer::{Alphabet, Tokenizer};

impl Tokenizer {
    /// Ids of a text, and for each where in the text it starts and ends, one after the other: in
    /// bytes, or in characters, where a part of a character counts as all of it.
    ///
    /// Without a normalizer the spans tile the text. Where composition (NFC) changed a stretch, each
    /// of its tokens stands for the whole stretch; a space put in front stands for nothing.
    ///
    /// # Errors
    /// A normalizer replaces strings of several characters.
    pub fn encode_with_offsets(
        &self,
        text: &str,
        allowed: &Allowed,
        cache: &mut Cache,
        stop: &Stop,
        characters: bool,
    ) -> Result<(Vec<u32>, Vec<i64>), BpeError> {
        let long = |change: &Change| matches!(change, Change::Replace(from, _) if from.chars().count() != 1);
        if self.normal.changes.iter().any(long) {
            return Err(BpeError::Unsupported {
                field: "normalizer".into(),
                what: "offsets where a string of several characters is replaced".into(),
                supported: "offsets with NFC and replaced characters",
            });
        }
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        allowed.raw.split(text, |part| match part {
            Part::Token(id, range) => {
                ids.push(id);
                spans.push((range.start, range.end));
            }
            Part::Text(outer) => {
                let (raw, first) = (&text[outer.clone()], outer.start == 0);
                let (normal, origin) =
                    (self.normal.apply(raw, first), self.normal.origin(raw, first));
                let place = |start: usize, end: usize| {
                    let (start, end) = origin.as_ref().map_or((start, end), |o| o.of(start, end));
                    (outer.start + start, outer.start + end)
                };
                self.parts(&normal, allowed, |part| match part {
                    Part::Token(id, range) => {
                        ids.push(id);
                        spans.push(place(range.start, range.end));
                    }
                    Part::Text(range) => {
                        let (before, mut at) = (ids.len(), range.start);
                        self.encode_text(&normal[range], cache, &mut ids, stop);
                        for &id in &ids[before..] {
                            let end = self.after(normal.as_bytes(), at, id);
                            spans.push(place(at, end));
                            at = end;
                        }
                    }
                });
            }
        });
        let count = Counter::new(text, characters);
        let flat = spans
            .into_iter()
            .scan(count, |count, (start, end)| Some([count.before(start), count.until(end)]));
        let flat = flat.flatten().collect();
        Ok((ids, flat))
    }

    /// Number of ids of a text; only a block of them is held at a time.
    pub fn count(&self, text: &str, allowed: &Allowed, cache: &mut Cache, stop: &Stop) -> usize {
        let (mut count, mut ids) = (0, Vec::new());
        allowed.raw.split(text, |part| match part {
            Part::Token(..) => count += 1,
            Part::Text(range) => {
                let normal = self.normal.apply(&text[range.clone()], range.start == 0);
                self.parts(&normal, allowed, |part| match part {
                    Part::Token(..) => count += 1,
                    Part::Text(range) => self.blocks(&normal[range], stop, |text, start, ends| {
                        cache.extend(text, start, ends, &mut ids, self);
                        count += ids.len();
                        ids.clear();
                    }),
                });
            }
        });
        cache.flush(&mut ids, self);
        count + ids.len()
    }

    /// Where a token that starts at a place of the text ends.
    pub(crate) fn after(&self, text: &[u8], at: usize, id: u32) -> usize {
        let piece = &self.pieces[id];
        match self.alphabet {
            Alphabet::Bytes(_) => at + piece.len(),
            Alphabet::Characters(_) => piece.iter().fold(at, |at, &byte| {
                let marked = byte == b' ' && text[at..].starts_with(MARK);
                at + if marked { MARK.len() } else { 1 }
            }),
        }
    }
}

/// Turns places in bytes into places in characters; each is asked for in rising order.
struct Counter<'t> {
    text: &'t [u8],
    characters: bool,
    /// Bytes looked at, and characters that begin there, for starts and for ends.
    starts: (usize, i64),
    ends: (usize, i64),
}

impl<'t> Counter<'t> {
    fn new(text: &'t str, characters: bool) -> Self {
        Self { text: text.as_bytes(), characters, starts: (0, 0), ends: (0, 0) }
    }

    fn begun(text: &[u8], (at, count): &mut (usize, i64), to: usize) -> i64 {
        let begins = |byte: &&u8| **byte & 0xC0 != 0x80;
        if to > *at {
            *count += text[*at..to].iter().filter(begins).count() as i64;
        } else {
            *count -= text[to..*at].iter().filter(begins).count() as i64;
        }
        *at = to;
        *count
    }

    /// The character that a byte is in.
    fn before(&mut self, start: usize) -> i64 {
        if !self.characters {
            return start as i64;
        }
        let inside = self.text.get(start).is_some_and(|byte| byte & 0xC0 == 0x80);
        Self::begun(self.text, &mut self.starts, start) - i64::from(inside)
    }

    /// The place after the character that the byte before is in.
    fn until(&mut self, end: usize) -> i64 {
        if !self.characters {
            return end as i64;
        }
        Self::begun(self.text, &mut self.ends, end)
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn parts_of_a_character_count_as_all_of_it() {
        // a, 🙂 (bytes 1 to 5), b.
        let mut count = Counter::new("a🙂b", true);
        let spans = [(0, 1), (1, 3), (3, 5), (5, 6)];
        let got = spans.map(|(start, end)| (count.before(start), count.until(end)));
        assert_eq!(got, [(0, 1), (1, 2), (1, 2), (2, 3)]);
    }
}
