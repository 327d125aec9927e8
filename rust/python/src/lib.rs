//! PyO3 bindings, module `internlm_core._core`: types in, GIL released, errors mapped.
//!
//! No algorithm lives here: each room's file converts arguments and calls its crate.
#![allow(missing_docs, reason = "documented in _core.pyi, where Python users read it")]

use pyo3::prelude::*;

mod arrow;
mod bpe;
mod bpe_stream;
mod bpe_train;
mod decoder;
mod dedup;
mod dedup_work;
mod error;
mod json_lines;
mod lend;
mod repeats;
mod text;
mod web;

#[pymodule(gil_used = false)]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::arrow::{ArrowColumn, ArrowTable};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        text::register(module)?;
        web::register(module)?;
        json_lines::register(module)?;
        dedup::register(module)?;
        repeats::register(module)?;
        bpe::register(module)?;
        decoder::register(module)
    }
}
