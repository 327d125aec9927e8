//! One place where Rust failures become Python exceptions of the `InternlmError` family.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(internlm_core.errors, ConfigError);
import_exception!(internlm_core.errors, DataError);
import_exception!(internlm_core.errors, InternalError);
import_exception!(internlm_core.errors, TokenizerError);

/// Runs `work` with the GIL released; a panic becomes `InternalError` instead of crossing over.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| catch_unwind(AssertUnwindSafe(work))).map_err(panicked)
}

/// The error that a caught panic becomes.
pub fn panicked(panic: Box<dyn Any + Send>) -> PyErr {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    InternalError::new_err(format!("internal error, please report it: {message}"))
}

/// As [`detached`] for work that can fail; `error` picks the exception for its failures.
pub fn detached_result<T: Send, E: Display + Send>(
    py: Python<'_>,
    error: fn(String) -> PyErr,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T> {
    detached(py, work)?.map_err(|failure| error(failure.to_string()))
}

/// Runs `work` inside a pool of `threads` threads (0: all cores).
pub fn in_pool<T: Send>(
    py: Python<'_>,
    threads: usize,
    work: impl FnOnce() -> T + Send,
) -> PyResult<T> {
    let pool = pool(threads)?;
    detached(py, || pool.install(work))
}

/// A pool of `threads` threads (0: all cores).
pub fn pool(threads: usize) -> PyResult<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|failure| InternalError::new_err(format!("no thread pool: {failure}")))
}

/// A pool of `threads` threads (0: all cores).
pub fn thread_pool(threads: usize) -> PyResult<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|failure| InternalError::new_err(format!("no thread pool: {failure}")))
}
