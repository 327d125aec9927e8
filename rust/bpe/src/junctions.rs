//! Where no merge of a byte vocabulary can cross between two characters of three bytes.
//!
//! Patterns leave whole sentences of Chinese in one piece. But a merge over the border between two
//! characters makes a token whose bytes left of the border end as the left character does, and
//! whose bytes right of it begin as the right one. Where the vocabulary has no such token, cutting
//! gives the same ids in pieces that can be cached.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::characters::character;
use crate::pieces::Ends;

/// Codes of characters of three bytes, U+0800 to U+FFFF, index these tables.
const CODES: usize = 1 << 16;

/// Which neighbours can be joined, by classes of characters that behave alike.
#[derive(Debug, Clone)]
pub struct Junctions {
    left: Vec<u16>,
    right: Vec<u16>,
    joins: Vec<u64>,
    row: usize,
}

/// Up to three bytes and their number, as one integer.
type Part = u32;

fn part(bytes: &[u8]) -> Part {
    bytes.iter().fold(bytes.len() as u32, |part, &byte| part << 8 | u32::from(byte))
}

/// The last bytes before a border, if they can end a character of three bytes.
fn end_of_character(token: &[u8]) -> Option<Part> {
    let tail = &token[token.len().saturating_sub(3)..];
    let whole = tail.len() < 3 || tail[0] & 0xF0 == 0xE0;
    let rest = &tail[tail.len().saturating_sub(2)..];
    (whole && rest.iter().all(|byte| byte & 0xC0 == 0x80)).then(|| part(tail))
}

/// The first bytes after a border, if they can begin one.
fn start_of_character(token: &[u8]) -> Option<Part> {
    let head = &token[..token.len().min(3)];
    let whole = head[0] & 0xF0 == 0xE0 && head[1..].iter().all(|byte| byte & 0xC0 == 0x80);
    whole.then(|| part(head))
}

/// Characters by the parts of tokens that fit them: class 0 fits none.
struct Classes {
    of: Vec<u16>,
    parts: Vec<[Part; 3]>,
}

impl Classes {
    fn new(known: &FxHashSet<Part>, cut: impl Fn(&[u8; 3], usize) -> Part) -> Self {
        let mut this = Self { of: vec![0; CODES], parts: vec![[0; 3]] };
        let mut numbers = FxHashMap::from_iter([([0; 3], 0u16)]);
        for code in 0x800..CODES as u32 {
            let Some(c) = char::from_u32(code) else { continue };
            let mut bytes = [0; 3];
            c.encode_utf8(&mut bytes);
            let fits = [1, 2, 3].map(|length| {
                let part = cut(&bytes, length);
                if known.contains(&part) { part } else { 0 }
            });
            this.of[code as usize] = *numbers.entry(fits).or_insert_with(|| {
                this.parts.push(fits);
                (this.parts.len() - 1) as u16
            });
        }
        this
    }
}

impl Junctions {
    /// From the byte strings of all tokens that merging can make.
    pub(crate) fn new<'v>(tokens: impl IntoIterator<Item = &'v [u8]>) -> Self {
        let mut pairs: FxHashMap<Part, FxHashSet<Part>> = FxHashMap::default();
        for token in tokens {
            for border in 1..token.len() {
                let (left, right) = token.split_at(border);
                if let (Some(left), Some(right)) =
                    (end_of_character(left), start_of_character(right))
                {
                    pairs.entry(left).or_default().insert(right);
                }
            }
        }
        let ends: FxHashSet<Part> = pairs.keys().copied().collect();
        let starts: FxHashSet<Part> = pairs.values().flatten().copied().collect();
        let left = Classes::new(&ends, |bytes, length| part(&bytes[3 - length..]));
        let right = Classes::new(&starts, |bytes, length| part(&bytes[..length]));
        let mut fitting: FxHashMap<Part, Vec<usize>> = FxHashMap::default();
        for (class, parts) in right.parts.iter().enumerate() {
            for &part in parts.iter().filter(|&&part| part != 0) {
                fitting.entry(part).or_default().push(class);
            }
        }
        let row = right.parts.len().div_ceil(64);
        let mut joins = vec![0; left.parts.len() * row];
        for (class, parts) in left.parts.iter().enumerate() {
            let starts = parts.iter().filter_map(|part| pairs.get(part)).flatten();
            for &other in starts.filter_map(|part| fitting.get(part)).flatten() {
                joins[class * row + other / 64] |= 1u64 << (other % 64);
            }
        }
        Self { left: left.of, right: right.of, joins, row }
    }

    /// Adds the ends of stretches of a piece, and the piece's own, until `ends` is full; returns
    /// the last end.
    pub(crate) fn split(&self, text: &[u8], start: usize, end: usize, ends: &mut Ends) -> usize {
        let (mut at, mut last) = (start, start);
        // Class 0 joins nothing, so what is no character of three bytes must not be asked about.
        let mut left = None;
        while at < end {
            let (code, after) = character(text, at);
            if after - at != 3 {
                (at, left) = (after, None);
                continue;
            }
            if let Some(left) = left {
                let right = usize::from(self.right[code as usize]);
                let joins =
                    self.joins[usize::from(left) * self.row + right / 64] >> (right % 64) & 1;
                ends.push_if(at, joins == 0);
                last = if joins == 0 { at } else { last };
                if ends.is_full() {
                    return last;
                }
            }
            (at, left) = (after, Some(self.left[code as usize]));
        }
        ends.push(end);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(junctions: &Junctions, text: &str) -> Vec<String> {
        let (mut start, mut pieces) = (0, Vec::new());
        while start < text.len() {
            let (mut ends, mut from) = (Ends::default(), start);
            start = junctions.split(text.as_bytes(), start, text.len(), &mut ends);
            for &end in ends.take() {
                pieces.push(text[from..end].to_owned());
                from = end;
            }
            assert_eq!(from, start);
        }
        pieces
    }

    #[test]
    fn cuts_only_where_no_token_fits() {
        let tokens = ["国家", "的人民"].map(str::as_bytes);
        let junctions = Junctions::new(tokens);
        assert_eq!(cut(&junctions, "国家的人民国国a民é家"), ["国家", "的人民", "国", "国a民é家"]);
        assert_eq!(cut(&junctions, &"家".repeat(999)).len(), 999);
    }

    #[test]
    fn tokens_of_broken_characters_count() {
        // The last byte of 国 and the first two of 家.
        let broken = [&"国".as_bytes()[2..], &"家".as_bytes()[..2]].concat();
        let junctions = Junctions::new([broken.as_slice()]);
        assert_eq!(cut(&junctions, "国家国"), ["国家", "国"]);
        let longer = ["x国".as_bytes(), &"家".as_bytes()[..1]].concat();
        assert_eq!(cut(&Junctions::new([longer.as_slice()]), "国家家"), ["国家", "家"]);
    }
}
