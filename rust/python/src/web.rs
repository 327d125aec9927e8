//! Bindings of the parts of `internlm-text` that read what comes from the web.

use pyo3::prelude::*;

use crate::arrow::{ArrowColumn, StrColumn};
use crate::error::{DataError, detached, detached_result};

#[pyfunction]
#[pyo3(signature = (data, http_charset=None, html=true))]
fn decode_bytes(
    py: Python<'_>,
    data: &[u8],
    http_charset: Option<&str>,
    html: bool,
) -> PyResult<(String, String, usize, &'static str)> {
    let read = detached(py, || internlm_text::decode(data, http_charset, html))?;
    Ok((read.text, read.encoding, read.replaced, read.evidence.name()))
}

#[pyfunction]
fn normalise_urls(py: Python<'_>, urls: StrColumn) -> PyResult<ArrowColumn> {
    let rows = urls.rows();
    let normal: Vec<Option<String>> = detached(py, || {
        rows.into_iter().map(|url| url.and_then(internlm_text::normalise_url)).collect()
    })?;
    Ok(ArrowColumn::from_strings(normal))
}

#[pyfunction]
fn normalise_url(py: Python<'_>, url: &str) -> PyResult<Option<String>> {
    detached(py, || internlm_text::normalise_url(url))
}

#[pyfunction]
#[pyo3(signature = (url, private=true))]
fn registered_domain(py: Python<'_>, url: &str, private: bool) -> PyResult<Option<String>> {
    detached(py, || internlm_text::registered_domain(url, private))
}

/// `None` where more than `limit` bytes come out; damaged data is an error.
#[pyfunction]
fn decode_brotli(py: Python<'_>, data: &[u8], limit: usize) -> PyResult<Option<Vec<u8>>> {
    detached_result(py, DataError::new_err, || internlm_text::decode_brotli(data, limit))
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decode_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(decode_brotli, module)?)?;
    module.add_function(wrap_pyfunction!(normalise_url, module)?)?;
    module.add_function(wrap_pyfunction!(normalise_urls, module)?)?;
    module.add_function(wrap_pyfunction!(registered_domain, module)?)
}
