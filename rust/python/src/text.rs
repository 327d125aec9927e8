//! Bindings of the `internlm-text` crate.

use pyo3::prelude::*;
use rayon::prelude::*;

use crate::arrow::{ArrowColumn, StrColumn};
use crate::error::{DataError, in_pool};

#[pyfunction]
#[pyo3(signature = (sources, urls, texts, threads=0))]
fn record_ids(
    py: Python<'_>,
    sources: StrColumn,
    urls: StrColumn,
    texts: StrColumn,
    threads: usize,
) -> PyResult<ArrowColumn> {
    let (sources, urls, texts) = (sources.rows(), urls.rows(), texts.rows());
    if sources.len() != texts.len() || urls.len() != texts.len() {
        return Err(DataError::new_err(format!(
            "columns differ in length: {} sources, {} urls, {} texts",
            sources.len(),
            urls.len(),
            texts.len()
        )));
    }
    let ids: Vec<String> = in_pool(py, threads, || {
        (0..texts.len())
            .into_par_iter()
            .map(|row| {
                internlm_text::record_id(
                    sources[row].unwrap_or(""),
                    urls[row].unwrap_or(""),
                    texts[row].unwrap_or(""),
                )
            })
            .collect()
    })?;
    Ok(ArrowColumn::from_strings(ids.into_iter().map(Some)))
}

/// Adds this room's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(record_ids, module)?)
}
