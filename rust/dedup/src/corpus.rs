//! Documents, and what is known of them once they are signed.

use rayon::prelude::*;

use crate::{DedupError, Identity, MinHasher, Settings, Shingler, Verify, jaccard};

/// Documents to compare.
#[derive(Debug, Clone, Copy)]
pub struct Corpus<'a> {
    /// Texts; missing ones are as empty ones.
    pub texts: &'a [Option<&'a str>],
    /// Whether each is code; no values at all if none is.
    pub code: &'a [bool],
    /// Place of each in keep order: of duplicates the one with the smaller rank stays. A
    /// permutation, or else row numbers decide between equal ranks.
    pub rank: &'a [u32],
}

impl Corpus<'_> {
    /// Checks that there is one value of each kind a document.
    pub(crate) fn check(&self) -> Result<(), DedupError> {
        let documents = self.texts.len();
        if u32::try_from(documents).is_err() {
            return Err(DedupError::TooManyDocuments(documents));
        }
        let wrong = |name, values| Err(DedupError::Lengths { name, documents, values });
        match (self.rank.len(), self.code.len()) {
            (ranks, _) if ranks != documents => wrong("rank", ranks),
            (_, codes) if codes != 0 && codes != documents => wrong("code", codes),
            _ => Ok(()),
        }
    }

    pub(crate) fn text(&self, row: u32) -> &str {
        self.texts[row as usize].unwrap_or("")
    }

    pub(crate) fn is_code(&self, row: u32) -> bool {
        self.code.get(row as usize).copied().unwrap_or(false)
    }

    /// Rows in keep order.
    pub(crate) fn order(&self) -> Vec<u32> {
        let rows = 0..self.texts.len() as u32;
        let mut order = vec![u32::MAX; rows.len()];
        let is_permutation = rows.clone().zip(self.rank).all(|(row, &rank)| {
            let place = order.get_mut(rank as usize).filter(|place| **place == u32::MAX);
            place.map(|place| *place = row).is_some()
        });
        if !is_permutation {
            order.clear();
            order.extend(rows);
            order.par_sort_unstable_by_key(|&row| (self.rank[row as usize], row));
        }
        order
    }
}

/// Signatures of texts, one after another, `settings.permutations` slots each; see `Corpus` for
/// `code`.
///
/// # Errors
/// Settings that make no sense, or values for another number of texts.
pub fn signatures(
    texts: &[Option<&str>],
    code: &[bool],
    settings: &Settings,
) -> Result<Vec<u32>, DedupError> {
    settings.check()?;
    let rank: Vec<u32> = (0..texts.len() as u32).collect();
    let corpus = Corpus { texts, code, rank: &rank };
    corpus.check()?;
    Ok(Signed::new(&corpus, &Settings { verify: Verify::Signature, ..settings.clone() }).signatures)
}

/// What an engine's own shuffle groups documents by: for each text the number of its shingles and
/// the two halves of their hash (equal ones are copies; none, no duplicate of anything), and the keys
/// of its bands, `settings.bands` a text.
///
/// # Errors
/// As `signatures`.
pub fn band_keys(
    texts: &[Option<&str>],
    code: &[bool],
    settings: &Settings,
) -> Result<(Vec<[u64; 3]>, Vec<u64>), DedupError> {
    settings.check()?;
    let rank: Vec<u32> = (0..texts.len() as u32).collect();
    let corpus = Corpus { texts, code, rank: &rank };
    corpus.check()?;
    let signed = Signed::new(&corpus, &Settings { verify: Verify::Exact, ..settings.clone() });
    let parts = |identity: &Identity| [identity.shingles, identity.sums[0], identity.sums[1]];
    Ok((signed.identities.iter().map(parts).collect(), signed.keys))
}

/// Exact Jaccard similarity of the shingle sets of pairs of texts.
///
/// # Errors
/// Settings that make no sense, or not as many of each.
pub fn pair_similarities(
    pairs: [&[Option<&str>]; 2],
    code: [&[bool]; 2],
    settings: &Settings,
) -> Result<Vec<f64>, DedupError> {
    settings.check()?;
    let [left, right] = pairs;
    let documents = left.len();
    if right.len() != documents {
        return Err(DedupError::Lengths { name: "right", documents, values: right.len() });
    }
    for (name, values) in [("code_left", code[0].len()), ("code_right", code[1].len())] {
        if values != 0 && values != documents {
            return Err(DedupError::Lengths { name, documents, values });
        }
    }
    let is_code = |side: usize, row: usize| code[side].get(row).copied().unwrap_or(false);
    let similarity = |shingler: &mut Shingler, row: usize| {
        let one = shingler.set(left[row].unwrap_or(""), is_code(0, row));
        jaccard(&one, &shingler.set(right[row].unwrap_or(""), is_code(1, row)))
    };
    let rows = (0..documents).into_par_iter();
    Ok(rows.map_init(|| Shingler::new(settings), similarity).collect())
}

/// What is known of the documents before any pair is looked at.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) identities: Vec<Identity>,
    keys: Vec<u64>,
    bands: usize,
    /// Kept only where they are compared.
    signatures: Vec<u32>,
    permutations: usize,
}

/// Documents that a thread signs at a time.
const CHUNK: usize = 32;

impl Signed {
    pub(crate) fn new(corpus: &Corpus<'_>, settings: &Settings) -> Self {
        let count = corpus.texts.len();
        let (bands, whole) = (settings.bands, settings.verify == Verify::Signature);
        let permutations = if whole { settings.permutations } else { 0 };
        let mut identities = vec![Identity::default(); count];
        let mut keys = vec![0; count * bands];
        let mut signatures = vec![0; count * permutations];
        let hasher =
            || if whole { MinHasher::new(settings) } else { MinHasher::for_bands(settings) };
        // Nothing to write is still one chunk for every chunk of documents.
        let mut parts: Vec<&mut [u32]> = if whole {
            signatures.chunks_mut(CHUNK * permutations).collect()
        } else {
            (0..count.div_ceil(CHUNK)).map(|_| Default::default()).collect()
        };
        identities
            .par_chunks_mut(CHUNK)
            .zip(keys.par_chunks_mut(CHUNK * bands))
            .zip(&mut parts)
            .enumerate()
            .for_each_init(hasher, |hasher, (number, ((identities, keys), slots))| {
                for (at, identity) in identities.iter_mut().enumerate() {
                    let row = (number * CHUNK + at) as u32;
                    *identity = hasher.sign(corpus.text(row), corpus.is_code(row));
                    hasher.write_keys(&mut keys[at * bands..][..bands]);
                    hasher.write_signature(&mut slots[at * permutations..][..permutations]);
                }
            });
        Self { identities, keys, bands, signatures, permutations }
    }

    /// Keys of a document's bands.
    pub(crate) fn keys(&self, row: u32) -> &[u64] {
        &self.keys[row as usize * self.bands..][..self.bands]
    }

    pub(crate) fn signature(&self, row: u32) -> &[u32] {
        &self.signatures[row as usize * self.permutations..][..self.permutations]
    }
}
