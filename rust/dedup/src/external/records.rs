//! What run files hold, and how it lies there: little-endian numbers, one after another.

use super::sort::sort_spread;

/// Something that run files hold.
pub(crate) trait Record: Ord + Sized + Send {
    /// Appends its bytes.
    fn put(&self, bytes: &mut Vec<u8>);

    /// Reads one from the front of `bytes`, and how many bytes it took; `None` if that is not all.
    fn take(bytes: &[u8]) -> Option<(Self, usize)>;

    /// Its document's number becomes `number(it)`; records without one stay as they are.
    fn renumber(self, _number: impl FnOnce(u32) -> u32) -> Self {
        self
    }

    /// Sorts records, of which the upper `known` bits of the first number are the same in all.
    fn sort(records: &mut Vec<Self>, _known: u32) {
        records.sort_unstable();
    }

    /// Its document's number.
    fn document(&self) -> Option<u32> {
        None
    }
}

/// A sequence of bytes from which numbers are read.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(array)
    }

    #[inline(always)]
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline(always)]
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let slice = self.bytes.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(slice)
    }
}

/// A document's key in one band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BandKey {
    pub(crate) key: u64,
    pub(crate) document: u32,
}

impl Record for BandKey {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.key.to_le_bytes());
        bytes.extend_from_slice(&self.document.to_le_bytes());
    }

    #[inline(always)]
    fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut cursor = Cursor::new(bytes);
        Some((Self { key: cursor.u64()?, document: cursor.u32()? }, 12))
    }

    fn sort(records: &mut Vec<Self>, known: u32) {
        sort_spread(records, known, |record| record.key);
    }

    fn renumber(self, number: impl FnOnce(u32) -> u32) -> Self {
        Self { document: number(self.document), ..self }
    }

    fn document(&self) -> Option<u32> {
        Some(self.document)
    }
}

/// A document's multiset of shingles, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Same {
    pub(crate) identity: [u64; 3],
    pub(crate) document: u32,
}

impl Record for Same {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.identity.iter().for_each(|part| bytes.extend_from_slice(&part.to_le_bytes()));
        bytes.extend_from_slice(&self.document.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut cursor = Cursor::new(bytes);
        let identity = [cursor.u64()?, cursor.u64()?, cursor.u64()?];
        Some((Self { identity, document: cursor.u32()? }, 28))
    }

    fn renumber(self, number: impl FnOnce(u32) -> u32) -> Self {
        Self { document: number(self.document), ..self }
    }

    fn document(&self) -> Option<u32> {
        Some(self.document)
    }
}

/// A document's key in keep order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeepKey {
    pub(crate) key: Vec<u8>,
    pub(crate) document: u32,
}

impl Record for KeepKey {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.document.to_le_bytes());
        bytes.extend_from_slice(&(self.key.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.key);
    }

    fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut cursor = Cursor::new(bytes);
        let document = cursor.u32()?;
        let length = cursor.u64()? as usize;
        let key = cursor.slice(length)?.to_vec();
        Some((Self { key, document }, cursor.at))
    }

    fn renumber(self, number: impl FnOnce(u32) -> u32) -> Self {
        Self { document: number(self.document), ..self }
    }

    fn document(&self) -> Option<u32> {
        Some(self.document)
    }
}

/// A member of a bucket with others: its place in keep order and the number of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) place: u32,
    pub(crate) bucket: u64,
}

impl Record for Member {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.place.to_le_bytes());
        bytes.extend_from_slice(&self.bucket.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut cursor = Cursor::new(bytes);
        Some((Self { place: cursor.u32()?, bucket: cursor.u64()? }, 12))
    }
}

/// What a document is compared by: its text, or its signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    pub(crate) place: u32,
    pub(crate) code: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    /// Bytes of a record before the content itself.
    pub(crate) const HEAD: usize = 13;

    /// Place, whether it is code, and length, from the front of a record.
    pub(crate) fn take_head(bytes: &[u8]) -> Option<(u32, bool, usize)> {
        let mut cursor = Cursor::new(bytes);
        let place = cursor.u32()?;
        let [code] = cursor.array()?;
        Some((place, code != 0, cursor.u64()? as usize))
    }

    /// Appends what comes before the content.
    pub(crate) fn put_head(place: u32, code: bool, length: usize, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&place.to_le_bytes());
        bytes.push(u8::from(code));
        bytes.extend_from_slice(&(length as u64).to_le_bytes());
    }
}

impl Record for Content {
    fn put(&self, bytes: &mut Vec<u8>) {
        Self::put_head(self.place, self.code, self.bytes.len(), bytes);
        bytes.extend_from_slice(&self.bytes);
    }

    fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let (place, code, length) = Self::take_head(bytes)?;
        let content = bytes[Self::HEAD..].get(..length)?.to_vec();
        Some((Self { place, code, bytes: content }, Self::HEAD + length))
    }
}

/// A removed document, the kept one that it is like, and the bits of their similarity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Removed {
    pub(crate) document: u32,
    pub(crate) target: u32,
    pub(crate) similarity: u64,
}

impl Record for Removed {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.document.to_le_bytes());
        bytes.extend_from_slice(&self.target.to_le_bytes());
        bytes.extend_from_slice(&self.similarity.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut cursor = Cursor::new(bytes);
        let (document, target) = (cursor.u32()?, cursor.u32()?);
        Some((Self { document, target, similarity: cursor.u64()? }, 16))
    }
}

impl Record for u32 {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn take(bytes: &[u8]) -> Option<(Self, usize)> {
        Some((Cursor::new(bytes).u32()?, 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<R: Record + Clone + std::fmt::Debug>(record: &R) {
        let mut bytes = Vec::new();
        record.put(&mut bytes);
        for short in 0..bytes.len() {
            assert!(R::take(&bytes[..short]).is_none());
        }
        let length = bytes.len();
        bytes.extend([7; 9]);
        let (back, taken) = R::take(&bytes).unwrap();
        assert_eq!((&back, taken), (record, length));
    }

    #[test]
    fn all_records() {
        there_and_back(&BandKey { key: u64::MAX - 5, document: 9 });
        there_and_back(&Same { identity: [1, 2, u64::MAX], document: 3 });
        there_and_back(&KeepKey { key: vec![0, 255, 3], document: 1 << 31 });
        there_and_back(&Member { place: 5, bucket: 1 << 40 });
        there_and_back(&Content { place: 5, code: true, bytes: b"text".to_vec() });
        there_and_back(&Removed { document: 1, target: 2, similarity: 0.7_f64.to_bits() });
        there_and_back(&77_u32);
        assert_eq!(BandKey { key: 1, document: 2 }.renumber(|it| it + 40).document, 42);
        assert_eq!(77_u32.renumber(|it| it + 1), 77);
    }
}
