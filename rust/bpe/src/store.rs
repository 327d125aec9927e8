//! Byte strings by id, in one piece of memory.

use std::ops::{Index, Range};

/// What ids stand for.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    bytes: Vec<u8>,
    spans: Vec<Range<u32>>,
}

impl Pieces {
    pub(crate) fn with_capacity(pieces: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), spans: Vec::with_capacity(pieces) }
    }

    /// Number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The bytes of an id.
    #[inline]
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&[u8]> {
        let span = self.spans.get(id as usize)?;
        Some(&self.bytes[span.start as usize..span.end as usize])
    }

    /// All of them in order of id.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.spans.iter().map(|span| &self.bytes[span.start as usize..span.end as usize])
    }

    /// Adds the next id's bytes: those that `write` appends.
    pub(crate) fn push_with<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len() as u32;
        write(&mut self.bytes)?;
        self.spans.push(start..self.bytes.len() as u32);
        Ok(())
    }

    /// Gives an id other bytes; ids up to it come to be, with none.
    pub(crate) fn set(&mut self, id: u32, piece: &[u8]) {
        if self.len() <= id as usize {
            self.spans.resize(id as usize + 1, 0..0);
        }
        if self.get(id) != Some(piece) {
            let start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(piece);
            self.spans[id as usize] = start..self.bytes.len() as u32;
        }
    }
}

impl Index<u32> for Pieces {
    type Output = [u8];

    #[inline]
    fn index(&self, id: u32) -> &[u8] {
        let span = &self.spans[id as usize];
        &self.bytes[span.start as usize..span.end as usize]
    }
}

impl<P: AsRef<[u8]>> FromIterator<P> for Pieces {
    fn from_iter<I: IntoIterator<Item = P>>(pieces: I) -> Self {
        let mut this = Self::default();
        for (piece, id) in pieces.into_iter().zip(0..) {
            this.set(id, piece.as_ref());
        }
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_and_change() {
        let mut pieces: Pieces = ["a", "", "ccc"].into_iter().collect();
        assert_eq!(pieces.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"ccc"]);
        pieces.set(1, b"new");
        pieces.set(4, b"e");
        assert_eq!((&pieces[1], &pieces[2], &pieces[3]), (&b"new"[..], &b"ccc"[..], &b""[..]));
        assert_eq!((pieces.get(4), pieces.get(5), pieces.len()), (Some(&b"e"[..]), None, 5));
    }
}
