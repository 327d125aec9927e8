//! Keep order as bytes: of two documents the one whose key is smaller stays.
//!
//! A key is, one after another: snapshot (newest first), score (highest first), length in bytes of
//! the text (longest first), id (smallest first), and the 128-bit xxh3 of the text, which tells
//! documents apart that share an id. Missing values come last. Bytes compare as the values do, so
//! keys can be sorted in memory or merged from disk with the same outcome.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use crate::DedupError;

/// A column of values to order documents by.
#[derive(Debug, Clone)]
pub enum Key<'a> {
    /// Compared byte by byte.
    Strings(Vec<Option<&'a str>>),
    /// Whole numbers; a value counts where its flag is true.
    Integers(&'a [i64], &'a [bool]),
    /// NaN stands for a missing value.
    Floats(&'a [f64]),
}

impl Key<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Strings(values) => values.len(),
            Self::Integers(values, present) => values.len().min(present.len()),
            Self::Floats(values) => values.len(),
        }
    }

    /// Appends the value of a row, so that bytes compare as values do, missing ones last.
    fn write(&self, row: usize, descending: bool, key: &mut Vec<u8>) {
        let start = key.len() + 1;
        match self {
            Self::Strings(values) => match values[row] {
                None => return key.push(1),
                Some(value) => {
                    key.push(0);
                    // Zero bytes are marked, for two of them end the value.
                    for (number, piece) in value.split('\0').enumerate() {
                        if number > 0 {
                            key.extend([0, 0xff]);
                        }
                        key.extend_from_slice(piece.as_bytes());
                    }
                    key.extend([0, 0]);
                }
            },
            Self::Integers(values, present) => {
                if !present[row] {
                    return key.push(1);
                }
                key.push(0);
                key.extend((values[row] as u64 ^ 1 << 63).to_be_bytes());
            }
            Self::Floats(values) => {
                if values[row].is_nan() {
                    return key.push(1);
                }
                key.push(0);
                // Both zeros are one value.
                let bits = (values[row] + 0.0).to_bits();
                let negative = bits >> 63 == 1;
                key.extend((if negative { !bits } else { bits ^ 1 << 63 }).to_be_bytes());
            }
        }
        if descending {
            key[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
}

/// What decides, beside the texts, which of similar documents stays.
#[derive(Debug, Clone, Default)]
pub struct KeepKeys<'a> {
    /// The largest is the newest.
    pub snapshot: Option<Key<'a>>,
    /// The highest is the best.
    pub score: Option<Key<'a>>,
    /// The smallest wins; without ids the place in the input does.
    pub id: Option<Key<'a>>,
}

impl KeepKeys<'_> {
    /// Checks that there is one value of each kind a document.
    ///
    /// # Errors
    /// Values for another number of documents.
    pub fn check(&self, documents: usize) -> Result<(), DedupError> {
        let columns = [("snapshot", &self.snapshot), ("score", &self.score), ("id", &self.id)];
        for (name, column) in columns {
            if let Some(values) = column.as_ref().map(Key::len).filter(|&len| len != documents) {
                return Err(DedupError::Lengths { name, documents, values });
            }
        }
        Ok(())
    }

    /// The key of a row.
    pub(crate) fn key(&self, row: usize, text: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        self.write(row, text, &mut key);
        key
    }

    fn write(&self, row: usize, text: &str, key: &mut Vec<u8>) {
        self.write_columns(row, text, key);
        key.extend(xxh3_128(text.as_bytes()).to_be_bytes());
    }

    /// The key but for the hash of the text.
    fn write_columns(&self, row: usize, text: &str, key: &mut Vec<u8>) {
        for column in [&self.snapshot, &self.score].into_iter().flatten() {
            column.write(row, true, key);
        }
        key.extend((!(text.len() as u64)).to_be_bytes());
        if let Some(id) = &self.id {
            id.write(row, false, key);
        }
    }

    /// The first bytes of the key that no text is hashed for, as a number that compares as they do.
    fn head(&self, row: usize, text: &str, buffer: &mut Vec<u8>) -> u128 {
        buffer.clear();
        self.write_columns(row, text, buffer);
        let mut head = [0; 16];
        let length = buffer.len().min(head.len());
        head[..length].copy_from_slice(&buffer[..length]);
        u128::from_be_bytes(head)
    }
}

/// Place of each document in keep order.
///
/// # Errors
/// Values for another number of documents, or more documents than can be numbered.
pub fn keep_order(texts: &[Option<&str>], keys: &KeepKeys<'_>) -> Result<Vec<u32>, DedupError> {
    keys.check(texts.len())?;
    if u32::try_from(texts.len()).is_err() {
        return Err(DedupError::TooManyDocuments(texts.len()));
    }
    let text = |row: u32| texts[row as usize].unwrap_or("");
    let mut order: Vec<(u128, u32)> = (0..texts.len() as u32)
        .into_par_iter()
        .map_init(Vec::new, |buffer, row| (keys.head(row as usize, text(row), buffer), row))
        .collect();
    order.par_sort_unstable();
    // Where heads are equal, whole keys decide. They are made in the order of the texts in memory.
    let mut is_tied = vec![false; texts.len()];
    for pair in order.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        pair.iter().for_each(|&(_, row)| is_tied[row as usize] = true);
    }
    let whole = Whole::new(&is_tied, |row, key| keys.write(row as usize, text(row), key));
    let runs = order.par_chunk_by_mut(|one, two| one.0 == two.0).filter(|run| run.len() > 1);
    runs.for_each(|run| run.par_sort_unstable_by_key(|&(_, row)| (whole.key(row), row)));
    let mut rank = vec![0; texts.len()];
    for (place, &(_, row)) in order.iter().enumerate() {
        rank[row as usize] = place as u32;
    }
    Ok(rank)
}

/// Whole keys of some rows, many in one piece of memory.
struct Whole(Vec<(Vec<usize>, Vec<u8>)>);

impl Whole {
    /// Rows a piece.
    const ROWS: usize = 256;

    fn new(wanted: &[bool], write: impl Fn(u32, &mut Vec<u8>) + Sync) -> Self {
        let piece = |(number, wanted): (usize, &[bool])| {
            let (mut ends, mut keys) = (Vec::with_capacity(wanted.len()), Vec::new());
            for (row, &is_wanted) in (number * Self::ROWS..).zip(wanted) {
                if is_wanted {
                    write(row as u32, &mut keys);
                }
                ends.push(keys.len());
            }
            (ends, keys)
        };
        Self(wanted.par_chunks(Self::ROWS).enumerate().map(piece).collect())
    }

    /// Key of a row; empty where it was not wanted.
    fn key(&self, row: u32) -> &[u8] {
        let (piece, at) = (row as usize / Self::ROWS, row as usize % Self::ROWS);
        let (ends, keys) = &self.0[piece];
        let start = if at == 0 { 0 } else { ends[at - 1] };
        &keys[start..ends[at]]
    }
}

/// A key in keep order, and the hash of it.
pub type OrderKey = (Vec<u8>, [u8; 16]);

/// Key of each document in keep order, whose bytes compare as documents do, and its xxh3 (128 bits, big
/// end first), which names the row wherever it lies. What `keep_order` sorts, for sorts of others.
///
/// # Errors
/// Values for another number of documents.
pub fn order_keys(
    texts: &[Option<&str>],
    keys: &KeepKeys<'_>,
) -> Result<Vec<OrderKey>, DedupError> {
    keys.check(texts.len())?;
    let key = |(row, text): (usize, &Option<&str>)| {
        let key = keys.key(row, text.unwrap_or(""));
        let name = xxh3_128(&key).to_be_bytes();
        (key, name)
    };
    Ok(texts.par_iter().enumerate().map(key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_ranks() {
        let texts = [Some("b"), Some("a long one"), None, Some("b"), Some("\0")];
        let ids = [2, 1, 7, 2, -9];
        let all = [true; 5];
        let keys = KeepKeys { id: Some(Key::Integers(&ids, &all)), ..Default::default() };
        let rank = keep_order(&texts, &keys).unwrap();
        let found = order_keys(&texts, &keys).unwrap();
        let mut order: Vec<usize> = (0..5).collect();
        order.sort_by_key(|&row| (found[row].0.clone(), row));
        let mut expected: Vec<usize> = (0..5).collect();
        expected.sort_by_key(|&row| rank[row]);
        assert_eq!(order, expected);
        assert_eq!(found[0], found[3]);
        // Equal heads, with and without ids: the rest of the key decides. Keys of several pieces.
        const COUNT: usize = 3 * Whole::ROWS;
        let texts: Vec<Option<&str>> =
            ["b", "a", "d", "a", "c"].into_iter().cycle().take(COUNT).map(Some).collect();
        let ids: Vec<String> = (0..COUNT).map(|row| format!("long head {}", row * 7 % 4)).collect();
        let ids = Key::Strings(ids.iter().map(|id| Some(id.as_str())).collect());
        for id in [None, Some(ids)] {
            let keys = KeepKeys { id, ..Default::default() };
            let rank = keep_order(&texts, &keys).unwrap();
            let mut order: Vec<usize> = (0..COUNT).collect();
            order.sort_by_key(|&row| (keys.key(row, texts[row].unwrap()), row));
            assert!(order.iter().enumerate().all(|(place, &row)| rank[row] as usize == place));
        }
        assert_ne!(found[0].1, found[4].1);
    }

    #[test]
    fn bytes_compare_as_values() {
        let strings = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "aa", "b", "é"];
        let ascending = Key::Strings(strings.iter().map(|&value| Some(value)).collect());
        let integers = [i64::MIN, -2, -1, 0, 1, i64::MAX];
        let floats = [f64::NEG_INFINITY, -1.5, -0.0, 1e-300, 0.5, f64::INFINITY];
        let all = [true; 6];
        for column in [ascending, Key::Integers(&integers, &all), Key::Floats(&floats)] {
            for (one, two) in (1..column.len()).map(|row| (row - 1, row)) {
                let written = |row, descending| {
                    let mut key = Vec::new();
                    column.write(row, descending, &mut key);
                    key
                };
                assert!(written(one, false) < written(two, false), "{column:?} {one}");
                assert!(written(one, true) > written(two, true), "{column:?} {one}");
            }
        }
        let zeros = Key::Floats(&[0.0, -0.0]);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        zeros.write(0, true, &mut one);
        zeros.write(1, true, &mut two);
        assert_eq!(one, two);
    }

    #[test]
    fn missing_values_come_last() {
        let texts = [Some("a"); 4];
        let score = [f64::NAN, 2.0, 1.0, f64::NAN];
        let ids = Key::Strings(vec![Some("x"), None, Some("y"), Some("a")]);
        let keys =
            KeepKeys { score: Some(Key::Floats(&score)), id: Some(ids), ..Default::default() };
        assert_eq!(keep_order(&texts, &keys).unwrap(), [3, 0, 1, 2]);
        let keys = KeepKeys { score: Some(Key::Floats(&score[..3])), ..KeepKeys::default() };
        assert!(keep_order(&texts, &keys).unwrap_err().to_string().contains("score"));
        assert_eq!(
            keep_order(&[Some("b"), Some("bb"), None], &KeepKeys::default()).unwrap(),
            [1, 0, 2]
        );
    }
}
