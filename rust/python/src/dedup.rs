//! Bindings of the `internlm-dedup` crate.

use internlm_dedup::{Clusters, MinHasher, Settings, Unit, Verify, deduplicate};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;
use rayon::prelude::*;

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
    code: bool,
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
            unit: if options.code { Unit::Code } else { Unit::Text },
            verify: if options.exact { Verify::Exact } else { Verify::Signature },
            clusters: if options.greedy { Clusters::Greedy } else { Clusters::Components },
            max_candidates: options.max_candidates,
        }
    }
}

/// keep, duplicate_of, cluster, jaccard by row; number of pairs compared.
type Found<'py> = (
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<f64>>,
    u64,
);

#[pyfunction]
#[pyo3(signature = (texts, rank, options, threads=0))]
fn find_duplicates<'py>(
    py: Python<'py>,
    texts: StrColumn,
    rank: PyReadonlyArray1<'py, u32>,
    options: Options,
    threads: usize,
) -> PyResult<Found<'py>> {
    let (rows, rank, settings) = (texts.rows(), rank.as_slice()?, Settings::from(options));
    let outcome = in_pool(py, threads, || deduplicate(&rows, rank, &settings))?
        .map_err(|error| ConfigError::new_err(error.to_string()))?;
    Ok((
        outcome.keep.into_pyarray(py),
        outcome.duplicate_of.into_pyarray(py),
        outcome.cluster.into_pyarray(py),
        outcome.jaccard.into_pyarray(py),
        outcome.comparisons,
    ))
}

#[pyfunction]
#[pyo3(signature = (texts, options, threads=0))]
fn minhash_signatures<'py>(
    py: Python<'py>,
    texts: StrColumn,
    options: Options,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<u32>>> {
    let (rows, settings) = (texts.rows(), Settings::from(options));
    settings.check().map_err(|error| ConfigError::new_err(error.to_string()))?;
    let signatures: Vec<Vec<u32>> = in_pool(py, threads, || {
        rows.par_iter()
            .map_init(
                || MinHasher::new(&settings),
                |hasher, text| {
                    let mut signature = Vec::with_capacity(settings.permutations);
                    hasher.sign(text.unwrap_or(""), &mut signature);
                    signature
                },
            )
            .collect()
    })?;
    if signatures.is_empty() {
        return Ok(PyArray2::zeros(py, [0, settings.permutations], false));
    }
    Ok(PyArray2::from_vec2(py, &signatures)?)
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
