//! What happens to a stretch of text before it is cut into pieces, and where its bytes were before.

use std::borrow::Cow;

use crate::unicode::nfc;

/// The space and the mark that stands for it: both end a text for SentencePiece.
const BLANKS: [char; 2] = [' ', '\u{2581}'];

/// Whether a space is put before a stretch of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lead {
    /// Never.
    #[default]
    Never,
    /// Always.
    Always,
    /// Unless it starts with a space.
    Blank,
    /// Unless it starts with a space or the mark that stands for it.
    Missing,
    /// As `Missing`, and only at the start of the whole text.
    First,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Canonical composition.
    Nfc,
    /// A literal string by another.
    Replace(String, String),
    /// Runs of spaces become one, those at the ends none.
    Squeeze,
}

/// The changes, in order; the space in front comes last.
#[derive(Debug, Clone, Default)]
pub struct Normal {
    /// What to do.
    pub changes: Vec<Change>,
    /// The space in front.
    pub lead: Lead,
}

/// For each byte of a changed text, the stretch of the original that it came from.
#[derive(Debug, Default)]
pub struct Origin {
    spans: Vec<(usize, usize)>,
}

impl Origin {
    /// The stretch of the original that bytes `start..end` of the changed text came from.
    pub fn of(&self, start: usize, end: usize) -> (usize, usize) {
        let at = |index: usize| self.spans.get(index).or(self.spans.last()).copied();
        match (at(start), at(end.saturating_sub(1).max(start))) {
            (Some((from, _)), Some((_, to))) => (from, to),
            _ => (0, 0),
        }
    }
}

impl Normal {
    /// The changed text; `first` says that it is the start of the whole text.
    pub fn apply<'t>(&self, text: &'t str, first: bool) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for change in &self.changes {
            match change {
                Change::Nfc => {
                    if let Cow::Owned(changed) = nfc(&text) {
                        text = Cow::Owned(changed);
                    }
                }
                Change::Replace(from, to) if text.contains(from.as_str()) => {
                    text = Cow::Owned(text.replace(from.as_str(), to));
                }
                Change::Squeeze
                    if text.starts_with(' ') || text.ends_with(BLANKS) || text.contains("  ") =>
                {
                    let words = text.split(' ').filter(|word| !word.is_empty());
                    let mut joined = words.collect::<Vec<_>>().join(" ");
                    joined.truncate(joined.trim_end_matches(BLANKS).len());
                    text = Cow::Owned(joined);
                }
                Change::Replace(..) | Change::Squeeze => {}
            }
        }
        if self.leads(&text, first) {
            text = Cow::Owned(format!(" {text}"));
        }
        text
    }

    fn leads(&self, text: &str, first: bool) -> bool {
        let missing = !text.starts_with(' ') && !text.starts_with('\u{2581}');
        !text.is_empty()
            && match self.lead {
                Lead::Never => false,
                Lead::Always => true,
                Lead::Blank => !text.starts_with(' '),
                Lead::Missing => missing,
                Lead::First => missing && first,
            }
    }

    /// Where the bytes of the changed text were; `None` if it is the text itself.
    ///
    /// A part that was changed is cut at characters that composition leaves alone; all bytes of such
    /// a stretch count as from all of it.
    pub fn origin(&self, text: &str, first: bool) -> Option<Origin> {
        if let Cow::Borrowed(_) = self.apply(text, first) {
            return None;
        }
        // Each (changed text, original stretch); every change maps the list before it.
        let mut parts: Vec<(Cow<'_, str>, usize, usize)> = Vec::new();
        let mut start = 0;
        for (at, c) in text.char_indices() {
            if at > 0 && crate::unicode::starts_anew(c) {
                parts.push((Cow::Borrowed(&text[start..at]), start, at));
                start = at;
            }
        }
        parts.push((Cow::Borrowed(&text[start..]), start, text.len()));
        for change in &self.changes {
            match change {
                Change::Nfc => {
                    for part in &mut parts {
                        if let Cow::Owned(changed) = nfc(&part.0) {
                            part.0 = Cow::Owned(changed);
                        }
                    }
                }
                Change::Replace(from, to) => {
                    for part in parts.iter_mut().filter(|part| part.0.contains(from.as_str())) {
                        part.0 = Cow::Owned(part.0.replace(from.as_str(), to));
                    }
                }
                Change::Squeeze => {
                    let mut kept = Vec::with_capacity(parts.len());
                    for part in parts {
                        let blank = |(last, ..): &(Cow<'_, str>, usize, usize)| *last == " ";
                        if part.0 != " " || !kept.last().is_none_or(blank) {
                            kept.push(part);
                        }
                    }
                    while kept.last().is_some_and(|(last, ..)| *last == " " || *last == "\u{2581}")
                    {
                        kept.pop();
                    }
                    parts = kept;
                }
            }
        }
        let mut origin = Origin::default();
        let whole: String = parts.iter().map(|(changed, ..)| changed.as_ref()).collect();
        if self.leads(&whole, first) {
            let at = parts.first().map_or(0, |part| part.1);
            origin.spans.push((at, at));
        }
        for (changed, from, to) in parts {
            let same = changed.len() == to - from && *changed == text[from..to];
            origin.spans.extend((0..changed.len()).map(|byte| match same {
                true => (from + byte, from + byte + 1),
                false => (from, to),
            }));
        }
        Some(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(changes: &[Change], lead: Lead) -> Normal {
        Normal { changes: changes.to_vec(), lead }
    }

    #[test]
    fn changes() {
        let squeeze = normal(&[Change::Squeeze], Lead::Always);
        assert_eq!(squeeze.apply("  a   b ", true), " a b");
        assert_eq!(squeeze.apply("", true), "");
        assert_eq!(normal(&[Change::Nfc], Lead::Never).apply("e\u{301}x", true), "éx");
        assert_eq!(normal(&[], Lead::First).apply("a", false), "a");
        assert_eq!(normal(&[], Lead::Missing).apply(" a", false), " a");
    }

    #[test]
    fn bytes_are_traced_back() {
        let nfc = normal(&[Change::Nfc], Lead::Never);
        assert!(nfc.origin("abc", true).is_none());
        // "ae\u{301}x" becomes "aéx".
        let origin = nfc.origin("ae\u{301}x", true).unwrap();
        assert_eq!([origin.of(0, 1), origin.of(1, 3), origin.of(3, 4)], [(0, 1), (1, 4), (4, 5)]);
        let squeeze = normal(&[Change::Squeeze], Lead::Always);
        // " a b" from "  a   b ".
        let origin = squeeze.origin("  a   b ", true).unwrap();
        assert_eq!([origin.of(0, 2), origin.of(2, 4)], [(2, 3), (3, 7)]);
    }
}
