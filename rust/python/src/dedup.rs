//! Bindings of the `internlm-dedup` crate.

use internlm_dedup::{Clusters, Corpus, Settings, Verify, deduplicate, signatures};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrow::StrColumn;
use crate::error::{ConfigError, in_pool};

/// Settings as Python passes them, by keyword.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Options {
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

/// keep, duplicate_of, jaccard by row; copies, candidates, comparisons, cut short.
type Found<'py> = (
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
    let outcome = in_pool(py, threads, || deduplicate(&corpus, &settings))?
        .map_err(|error| ConfigError::new_err(error.to_string()))?;
    let effort = outcome.effort;
    Ok((
        outcome.keep.into_pyarray(py),
        outcome.duplicate_of.into_pyarray(py),
        outcome.jaccard.into_pyarray(py),
        (effort.copies, effort.candidates, effort.comparisons, effort.cut_short),
    ))
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
    let slots = in_pool(py, threads, || signatures(&rows, code, &settings))?
        .map_err(|error| ConfigError::new_err(error.to_string()))?;
    slots.into_pyarray(py).reshape([rows.len(), settings.permutations])
}

#[pyfunction]
fn candidate_probability(similarity: f64, bands: usize, rows: usize) -> f64 {
    internlm_dedup::candidate_probability(similarity, bands, rows)
}

/// Adds this room's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(find_duplicates, module)?)?;
    module.add_function(wrap_pyfunction!(minhash_signatures, module)?)?;
    module.add_function(wrap_pyfunction!(candidate_probability, module)?)
}
