//! tiktoken rank files: a line a token, its bytes in base64 and its rank.

use rustc_hash::FxHashMap;

use crate::special::AddedToken;
use crate::tokenizer::{Alphabet, Splitter, Tokenizer};
use crate::{BpeError, Merges, Pattern, Rule};

fn base64_value(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

fn from_base64(text: &[u8]) -> Option<Box<[u8]>> {
    let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    if !text.len().is_multiple_of(4) || digits.is_empty() {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len()), 0, 0u32);
    for &digit in digits {
        held = held << 6 | base64_value(digit)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes.into())
}

fn to_base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let value = group.iter().fold(0u32, |value, &byte| value << 8 | u32::from(byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(value >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
}

impl Tokenizer {
    /// Reads a rank file.
    ///
    /// # Errors
    /// A line that is no `base64 rank`, a rank or a token twice, ranks with more holes than tokens, a
    /// byte without a token.
    pub fn from_tiktoken(
        file: &[u8],
        pattern: Pattern,
        specials: &[(String, u32)],
    ) -> Result<Self, BpeError> {
        let mut ranks: FxHashMap<Box<[u8]>, u32> = FxHashMap::default();
        let mut most = 0;
        for (number, line) in file.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let bad =
                || BpeError::malformed(format!("line {}", number + 1), "expected 'base64 rank'");
            let space = line.iter().position(|&byte| byte == b' ').ok_or_else(bad)?;
            let bytes = from_base64(&line[..space]).ok_or_else(bad)?;
            let rank =
                std::str::from_utf8(&line[space + 1..]).ok().and_then(|r| r.trim().parse().ok());
            let rank: u32 = rank.ok_or_else(bad)?;
            most = most.max(rank);
            if ranks.insert(bytes, rank).is_some() {
                return Err(BpeError::malformed(
                    format!("line {}", number + 1),
                    "token listed twice",
                ));
            }
        }
        if ranks.is_empty() {
            return Err(BpeError::malformed("file", "no line with a token"));
        }
        if most as usize > 2 * ranks.len() + 1024 {
            return Err(BpeError::malformed("file", format!("ranks up to {most} leave holes")));
        }
        let size = specials.iter().map(|&(_, id)| id).chain([most]).max().unwrap_or(0) as usize + 1;
        Merges::check_sizes(size, size)?;
        let mut pieces = vec![Box::<[u8]>::default(); size];
        for (bytes, &rank) in &ranks {
            if !pieces[rank as usize].is_empty() {
                return Err(BpeError::malformed(format!("rank {rank}"), "given to two tokens"));
            }
            pieces[rank as usize] = bytes.clone();
        }
        let mut byte_ids = [0; 256];
        for byte in 0..=255u8 {
            byte_ids[usize::from(byte)] = *ranks.get(&[byte][..]).ok_or_else(|| {
                BpeError::malformed("file", format!("no token for byte 0x{byte:02X}"))
            })?;
        }
        let mut merges = Merges::with_capacity(size * 2);
        for (bytes, &rank) in &ranks {
            for cut in 1..bytes.len() {
                let (left, right) = (ranks.get(&bytes[..cut]), ranks.get(&bytes[cut..]));
                if let (Some(&left), Some(&right)) = (left, right) {
                    merges.insert(Rule { rank, left, right, result: rank });
                }
            }
        }
        let added: Vec<_> =
            specials.iter().map(|(name, id)| AddedToken::control(name, *id)).collect();
        for token in &added {
            pieces[token.id as usize] = token.content.as_bytes().into();
        }
        let alphabet = Alphabet::bytes(Splitter::Known(pattern), byte_ids);
        Ok(Self::bare(pieces.into_iter().collect(), merges, alphabet, added))
    }

    /// Writes a rank file: the order of ids must be the order of merging, as tiktoken assumes.
    ///
    /// # Errors
    /// The tokenizer is over characters, or its ids do not follow its merges.
    pub fn to_tiktoken(&self) -> Result<String, BpeError> {
        let unsupported = |what: &str| BpeError::Unsupported {
            field: "tiktoken".into(),
            what: what.into(),
            supported: "byte vocabularies whose ids rise with their merges",
        };
        if !matches!(self.alphabet, Alphabet::Bytes(..)) {
            return Err(unsupported("a vocabulary over characters"));
        }
        if !self.merges.sorted().windows(2).all(|pair| pair[0].result <= pair[1].result) {
            return Err(unsupported("an id order that differs from the merge order"));
        }
        let is_added = |id: usize| self.added.iter().any(|token| token.id as usize == id);
        let mut text = String::new();
        let ordinary = self.pieces.iter().enumerate().filter(|&(id, _)| !is_added(id));
        for (rank, (_, piece)) in ordinary.enumerate() {
            to_base64(piece, &mut text);
            text.push_str(&format!(" {rank}\n"));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_round_trip() {
        for bytes in [&b"a"[..], b"ab", b"abc", b"\x00\xff\x10\x80", "世界".as_bytes()] {
            let mut text = String::new();
            to_base64(bytes, &mut text);
            assert_eq!(from_base64(text.as_bytes()).as_deref(), Some(bytes));
        }
        assert_eq!(from_base64(b"YQ"), None);
        assert_eq!(from_base64(b"Y*=="), None);
    }
}
