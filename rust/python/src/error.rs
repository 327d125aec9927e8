//! One place where Rust failures become Python exceptions of the `InternlmError` family.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use pyo3::import_exception;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

import_exception!(internlm_core.errors, ConfigError);
import_exception!(internlm_core.errors, DataError);
import_exception!(internlm_core.errors, InferError);
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
    let pool = kept_pool(threads)?;
    detached(py, || pool.install(work))
}

/// Process, number of threads, pool.
type Pools = Vec<(u32, usize, Arc<ThreadPool>)>;

/// A pool that calls share: new threads for each would leave an arena of freed memory behind.
pub fn kept_pool(threads: usize) -> PyResult<Arc<ThreadPool>> {
    static POOLS: Mutex<Pools> = Mutex::new(Vec::new());
    // A forked process has its parent's pools without their threads, and perhaps their lock.
    let process = std::process::id();
    let Ok(mut pools) = POOLS.try_lock() else { return pool(threads).map(Arc::new) };
    let known = pools.iter().find(|entry| (entry.0, entry.1) == (process, threads));
    if let Some((.., pool)) = known {
        return Ok(pool.clone());
    }
    let made = Arc::new(pool(threads)?);
    pools.push((process, threads, made.clone()));
    Ok(made)
}

/// A pool of `threads` threads (0: all cores).
pub fn pool(threads: usize) -> PyResult<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|failure| InternalError::new_err(format!("no thread pool: {failure}")))
}
