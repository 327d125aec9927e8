//! Bindings of the `internlm-dedup` crate.

use std::io::ErrorKind;

use internlm_dedup::{
    Clusters, Corpus, DedupError, KeepKeys, Key, OrderKey, Outcome, Settings, Verify, band_keys,
    deduplicate, keep_order, order_keys, pair_similarities, signatures,
};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrow::StrColumn;
use crate::error::{ConfigError, DataError, in_pool};

/// Settings as Python passes them, by keyword.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options {
    ngram: usize,
    permutations: usize,
    bands: usize,
    rows: usize,
    threshold: f64,
    seed: u64,
    fold: bool,
    exact: bool,
    greedy: bool,
    max_candidates: usize,
}

impl From<Options> for Settings {
    fn from(options: Options) -> Self {
        let Options { ngram, permutations, bands, rows, threshold, seed, fold, .. } = options;
        Self {
            ngram,
            permutations,
            bands,
            rows,
            threshold,
            seed,
            fold,
            verify: if options.exact { Verify::Exact } else { Verify::Signature },
            clusters: if options.greedy { Clusters::Greedy } else { Clusters::Components },
            max_candidates: options.max_candidates,
        }
    }
}

/// Failures of files are faults of the data, all others of what was asked for.
pub(crate) fn failure(error: DedupError) -> PyErr {
    match error {
        DedupError::File { ref source, .. } if source.kind() == ErrorKind::StorageFull => {
            DataError::new_err(format!(
                "{error}; make room, then run the same again: what is finished is kept"
            ))
        }
        DedupError::File { .. } | DedupError::Damaged { .. } => {
            DataError::new_err(error.to_string())
        }
        _ => ConfigError::new_err(error.to_string()),
    }
}

/// A column that documents are ordered by: strings; or whole numbers and which of them are present;
/// or floating-point numbers, NaN where there is none.
#[derive(FromPyObject)]
pub(crate) enum KeyColumn<'py> {
    Integers(PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, bool>),
    Floats(PyReadonlyArray1<'py, f64>),
    Strings(StrColumn),
}

impl KeyColumn<'_> {
    fn key(&self) -> PyResult<Key<'_>> {
        Ok(match self {
            Self::Integers(values, present) => {
                Key::Integers(values.as_slice()?, present.as_slice()?)
            }
            Self::Floats(values) => Key::Floats(values.as_slice()?),
            Self::Strings(column) => Key::Strings(column.rows()),
        })
    }
}

/// Columns `snapshot`, `score`, `id`.
pub(crate) type KeyColumns<'py> =
    (Option<KeyColumn<'py>>, Option<KeyColumn<'py>>, Option<KeyColumn<'py>>);

pub(crate) fn keep_keys<'a>(columns: &'a KeyColumns<'_>) -> PyResult<KeepKeys<'a>> {
    let key = |column: &'a Option<KeyColumn<'_>>| column.as_ref().map(KeyColumn::key).transpose();
    Ok(KeepKeys { snapshot: key(&columns.0)?, score: key(&columns.1)?, id: key(&columns.2)? })
}

#[pyfunction]
#[pyo3(signature = (texts, keys, threads=0))]
fn dedup_keep_order<'py>(
    py: Python<'py>,
    texts: StrColumn,
    keys: KeyColumns<'py>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let (rows, keys) = (texts.rows(), keep_keys(&keys)?);
    let rank = in_pool(py, threads, || keep_order(&rows, &keys))?.map_err(failure)?;
    Ok(rank.into_pyarray(py))
}

/// Key in keep order and name of each row.
type OrderKeys<'py> = (Vec<Bound<'py, PyBytes>>, Vec<Bound<'py, PyBytes>>);

#[pyfunction]
#[pyo3(signature = (texts, keys, threads=0))]
fn dedup_order_keys<'py>(
    py: Python<'py>,
    texts: StrColumn,
    keys: KeyColumns<'py>,
    threads: usize,
) -> PyResult<OrderKeys<'py>> {
    let (rows, keys) = (texts.rows(), keep_keys(&keys)?);
    let found = in_pool(py, threads, || order_keys(&rows, &keys))?.map_err(failure)?;
    let bytes = |(key, name): OrderKey| (PyBytes::new(py, &key), PyBytes::new(py, &name));
    Ok(found.into_iter().map(bytes).unzip())
}

/// keep, duplicate_of, jaccard by row; copies, candidates, comparisons, cut short.
pub(crate) type Found<'py> = (
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<f64>>,
    (u64, u64, u64, u64),
);

#[pyfunction]
#[pyo3(signature = (texts, code, rank, options, threads=0))]
fn find_duplicates<'py>(
    py: Python<'py>,
    texts: StrColumn,
    code: Option<PyReadonlyArray1<'py, bool>>,
    rank: PyReadonlyArray1<'py, u32>,
    options: Options,
    threads: usize,
) -> PyResult<Found<'py>> {
    let (rows, settings) = (texts.rows(), Settings::from(options));
    let code = code.as_ref().map_or(Ok(&[] as &[bool]), |code| code.as_slice())?;
    let corpus = Corpus { texts: &rows, code, rank: rank.as_slice()? };
    let outcome = in_pool(py, threads, || deduplicate(&corpus, &settings))?.map_err(failure)?;
    Ok(found(py, outcome))
}

/// An outcome as Python takes it.
pub(crate) fn found(py: Python<'_>, outcome: Outcome) -> Found<'_> {
    let effort = outcome.effort;
    (
        outcome.keep.into_pyarray(py),
        outcome.duplicate_of.into_pyarray(py),
        outcome.jaccard.into_pyarray(py),
        (effort.copies, effort.candidates, effort.comparisons, effort.cut_short),
    )
}

#[pyfunction]
#[pyo3(signature = (texts, code, options, threads=0))]
fn minhash_signatures<'py>(
    py: Python<'py>,
    texts: StrColumn,
    code: Option<PyReadonlyArray1<'py, bool>>,
    options: Options,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<u32>>> {
    let (rows, settings) = (texts.rows(), Settings::from(options));
    let code = code.as_ref().map_or(Ok(&[] as &[bool]), |code| code.as_slice())?;
    let slots = in_pool(py, threads, || signatures(&rows, code, &settings))?.map_err(failure)?;
    slots.into_pyarray(py).reshape([rows.len(), settings.permutations])
}

/// Shingles and halves of their hash by text `[texts, 3]`, band keys `[texts, bands]`.
type Keys<'py> = (Bound<'py, PyArray2<u64>>, Bound<'py, PyArray2<u64>>);

#[pyfunction]
#[pyo3(signature = (texts, code, options, threads=0))]
fn minhash_band_keys<'py>(
    py: Python<'py>,
    texts: StrColumn,
    code: Option<PyReadonlyArray1<'py, bool>>,
    options: Options,
    threads: usize,
) -> PyResult<Keys<'py>> {
    let (rows, settings) = (texts.rows(), Settings::from(options));
    let code = code.as_ref().map_or(Ok(&[] as &[bool]), |code| code.as_slice())?;
    let (identities, keys) =
        in_pool(py, threads, || band_keys(&rows, code, &settings))?.map_err(failure)?;
    let identities: Vec<u64> = identities.into_flattened();
    Ok((
        identities.into_pyarray(py).reshape([rows.len(), 3])?,
        keys.into_pyarray(py).reshape([rows.len(), settings.bands])?,
    ))
}

#[pyfunction]
#[pyo3(signature = (left, right, code_left, code_right, options, threads=0))]
fn jaccard_of_pairs<'py>(
    py: Python<'py>,
    left: StrColumn,
    right: StrColumn,
    code_left: Option<PyReadonlyArray1<'py, bool>>,
    code_right: Option<PyReadonlyArray1<'py, bool>>,
    options: Options,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (left, right, settings) = (left.rows(), right.rows(), Settings::from(options));
    let code_left = code_left.as_ref().map_or(Ok(&[] as &[bool]), |code| code.as_slice())?;
    let code_right = code_right.as_ref().map_or(Ok(&[] as &[bool]), |code| code.as_slice())?;
    let similarities = in_pool(py, threads, || {
        pair_similarities([&left, &right], [code_left, code_right], &settings)
    })?;
    Ok(similarities.map_err(failure)?.into_pyarray(py))
}

#[pyfunction]
fn candidate_probability(similarity: f64, bands: usize, rows: usize) -> f64 {
    internlm_dedup::candidate_probability(similarity, bands, rows)
}

/// Adds this room's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(find_duplicates, module)?)?;
    module.add_function(wrap_pyfunction!(minhash_signatures, module)?)?;
    module.add_function(wrap_pyfunction!(minhash_band_keys, module)?)?;
    module.add_function(wrap_pyfunction!(jaccard_of_pairs, module)?)?;
    module.add_function(wrap_pyfunction!(dedup_keep_order, module)?)?;
    module.add_function(wrap_pyfunction!(dedup_order_keys, module)?)?;
    module.add_class::<crate::dedup_work::DedupWork>()?;
    module.add_function(wrap_pyfunction!(candidate_probability, module)?)
}
