//! Binding of `internlm_dedup::external`.

use std::path::PathBuf;

use internlm_dedup::external::{Batch, Work};
use internlm_dedup::{DedupError, Settings};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use rayon::ThreadPool;

use crate::arrow::StrColumn;
use crate::dedup::{Found, KeyColumns, Options, failure, found, keep_keys};
use crate::error::{detached, pool};

/// A deduplication on disk, step by step.
#[pyclass(module = "internlm_core._core")]
pub struct DedupWork {
    work: Work,
    /// One for all steps: each new thread would bring an arena of freed memory of its own.
    pool: ThreadPool,
}

impl DedupWork {
    /// A step that changes nothing but files, so that others may look on.
    fn in_pool<T: Send>(
        &self,
        py: Python<'_>,
        step: impl FnOnce(&Work) -> Result<T, DedupError> + Send,
    ) -> PyResult<T> {
        let work = &self.work;
        detached(py, || self.pool.install(|| step(work)))?.map_err(failure)
    }

    fn change<T: Send>(
        &mut self,
        py: Python<'_>,
        step: impl FnOnce(&mut Work) -> Result<T, DedupError> + Send,
    ) -> PyResult<T> {
        let (pool, work) = (&self.pool, &mut self.work);
        detached(py, || pool.install(|| step(work)))?.map_err(failure)
    }
}

#[pymethods]
impl DedupWork {
    #[new]
    #[pyo3(signature = (folder, options, memory, corpus, index=None, threads=0))]
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        options: Options,
        memory: usize,
        corpus: u64,
        index: Option<(PathBuf, Vec<u32>)>,
        threads: usize,
    ) -> PyResult<Self> {
        let settings = Settings::from(options);
        let open = || match index {
            Some((index, segments)) => {
                Work::beside(&folder, &index, &segments, &settings, memory, corpus)
            }
            None => Work::open(&folder, &settings, memory, corpus),
        };
        let pool = pool(threads)?;
        let work = detached(py, || pool.install(open))?.map_err(failure)?;
        Ok(Self { work, pool })
    }

    #[getter]
    fn fixed(&self) -> u32 {
        self.work.fixed()
    }

    fn signed(&self) -> Vec<(u32, u32)> {
        self.work.signed()
    }

    fn firsts(&self) -> Vec<u32> {
        self.work.firsts()
    }

    fn sign(
        &mut self,
        py: Python<'_>,
        first: u32,
        texts: StrColumn,
        code: Option<PyReadonlyArray1<'_, bool>>,
        keys: KeyColumns<'_>,
    ) -> PyResult<()> {
        let (rows, keys) = (texts.rows(), keep_keys(&keys)?);
        let code = code.as_ref().map_or(Ok(&[] as &[bool]), |code| code.as_slice())?;
        let batch = Batch { texts: &rows, code, keys: &keys };
        self.change(py, |work| work.sign(first, &batch))
    }

    fn sign_signatures(
        &mut self,
        py: Python<'_>,
        first: u32,
        signatures: PyReadonlyArray2<'_, u32>,
    ) -> PyResult<()> {
        let shape = signatures.as_array().raw_dim();
        let slots = signatures.as_slice()?;
        self.change(py, |work| work.sign_signatures(first, slots, shape[1]))
    }

    fn group(&mut self, py: Python<'_>) -> PyResult<usize> {
        self.change(py, Work::group)
    }

    fn compared<'py>(
        &self,
        py: Python<'py>,
        first: u32,
        rows: u32,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        Ok(self.work.compared(first, rows).map_err(failure)?.into_pyarray(py))
    }

    fn is_collected(&self, py: Python<'_>, first: u32) -> PyResult<bool> {
        self.in_pool(py, |work| work.is_collected(first))
    }

    fn collect(
        &self,
        py: Python<'_>,
        first: u32,
        texts: StrColumn,
        code: Option<PyReadonlyArray1<'_, bool>>,
    ) -> PyResult<()> {
        let rows = texts.rows();
        let code = code.as_ref().map_or(Ok(&[] as &[bool]), |code| code.as_slice())?;
        // It has nothing to share among threads; callers call it from several.
        let work = &self.work;
        detached(py, || work.collect(first, &rows, code))?.map_err(failure)
    }

    fn decide(&self, py: Python<'_>, part: usize, firsts: Vec<u32>) -> PyResult<()> {
        self.in_pool(py, |work| work.decide(part, &firsts))
    }

    fn add_to(
        &self,
        py: Python<'_>,
        index: PathBuf,
        keep: PyReadonlyArray1<'_, bool>,
    ) -> PyResult<u32> {
        let keep = keep.as_slice()?;
        self.in_pool(py, |work| work.add_to(&index, keep))
    }

    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<Found<'py>> {
        let outcome = self.in_pool(py, |work| work.outcome())?;
        Ok(found(py, outcome))
    }
}
