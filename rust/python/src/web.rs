//! Bindings of the parts of `internlm-text` that read what comes from the web.

use pyo3::prelude::*;

use crate::error::detached;

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

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decode_bytes, module)?)
}
