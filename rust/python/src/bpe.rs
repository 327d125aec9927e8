//! Bindings of the `internlm-bpe` crate.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_array::{LargeListArray, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};
use internlm_bpe::{Allowed, Caches, HfOptions, Pattern, Stop};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::ThreadPool;

use crate::arrow::{ArrowColumn, StrColumn};
use crate::bpe_stream::{BpeStream, Texts};
use crate::bpe_train::BpeTrainer;
use crate::error::{InternalError, TokenizerError, detached, detached_result, kept_pool, panicked};

pub(crate) fn pattern_named(name: &str) -> PyResult<Pattern> {
    match name {
        "gpt2" => Ok(Pattern::Gpt2),
        "cl100k" => Ok(Pattern::Cl100k),
        "qwen" => Ok(Pattern::Qwen),
        "o200k" => Ok(Pattern::O200k),
        _ => Err(TokenizerError::new_err(format!(
            "unknown pattern {name:?}: expected gpt2, cl100k, qwen or o200k"
        ))),
    }
}

/// All ids in one array, and where each text starts and ends.
type Batch<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<i64>>);

/// Ids, and where each starts and ends in the text.
type Placed<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray2<i64>>);

pub(crate) fn bpe_error(error: internlm_bpe::BpeError) -> PyErr {
    TokenizerError::new_err(error.to_string())
}

/// Less text than this is encoded before anyone can want it to stop.
const SOON: usize = 1 << 20;
/// How long Ctrl-C may have to wait.
const PATIENCE: Duration = Duration::from_millis(50);

/// Runs `work` on `size` bytes of text without the GIL, in `pool` if there is one; Ctrl-C in Python's
/// main thread ends it early.
fn interruptible<T: Send>(
    py: Python<'_>,
    pool: Option<&ThreadPool>,
    size: usize,
    work: impl FnOnce(&Stop) -> T + Send,
) -> PyResult<T> {
    let stop = &Stop::default();
    if size < SOON {
        return detached(py, || match pool {
            Some(pool) => pool.install(|| work(stop)),
            None => work(stop),
        });
    }
    let (ended, mut end) = channel::<()>();
    let mut result = None;
    let job = || {
        // Dropped when the work is done or has panicked, which wakes the loop below.
        let _ended = ended;
        result = Some(catch_unwind(AssertUnwindSafe(|| work(stop))));
    };
    let wait = || {
        let mut interrupted = None;
        let mut timed_out = || {
            let end = &mut end;
            py.detach(move || end.recv_timeout(PATIENCE)) == Err(RecvTimeoutError::Timeout)
        };
        while interrupted.is_none() && timed_out() {
            interrupted = py.check_signals().err();
        }
        if interrupted.is_some() {
            stop.set();
            py.detach(move || end.recv()).unwrap_or_default();
        }
        interrupted
    };
    // A thread between this one and the pool's would only wait, and while it falls asleep the system
    // puts two of the pool's threads on one core, where they may stay for tens of milliseconds.
    let interrupted = match pool {
        Some(pool) => pool.in_place_scope(|scope| {
            scope.spawn(|_| job());
            wait()
        }),
        None => std::thread::scope(|scope| {
            scope.spawn(job);
            wait()
        }),
    };
    match (interrupted, result) {
        (Some(error), _) => Err(error),
        (None, Some(result)) => result.map_err(panicked),
        (None, None) => Err(InternalError::new_err("internal error: a thread left no result")),
    }
}

#[pyclass(frozen, module = "internlm_core._core")]
pub struct BpeTokenizer {
    pub(crate) inner: Arc<internlm_bpe::Tokenizer>,
    /// What calls remember, one a thread.
    caches: Caches,
    /// Python strings of the ids that were streamed.
    pub(crate) texts: OnceLock<Texts>,
}

impl BpeTokenizer {
    pub(crate) fn new(inner: internlm_bpe::Tokenizer) -> Self {
        Self { inner: Arc::new(inner), caches: Caches::default(), texts: OnceLock::new() }
    }

    fn allowed(&self, names: Option<Vec<String>>) -> PyResult<Allowed> {
        match names {
            None => self.inner.allow_all(),
            Some(names) => self.inner.allow(&names),
        }
        .map_err(bpe_error)
    }

    fn batch(
        &self,
        py: Python<'_>,
        texts: &StrColumn,
        allowed: Option<Vec<String>>,
        threads: usize,
    ) -> PyResult<(Vec<u32>, Vec<i64>)> {
        let (allowed, rows) = (self.allowed(allowed)?, texts.rows());
        let size = rows.iter().map(|row| row.map_or(0, str::len)).sum();
        let pool = kept_pool(threads)?;
        interruptible(py, Some(&pool), size, |stop| {
            self.inner.encode_batch(&rows, &allowed, &self.caches, stop)
        })
    }
}

#[pymethods]
impl BpeTokenizer {
    #[staticmethod]
    #[pyo3(signature = (json, config=None, parity=false))]
    fn from_hf(py: Python<'_>, json: &[u8], config: Option<&str>, parity: bool) -> PyResult<Self> {
        let options = HfOptions { parity };
        let inner = detached_result(py, TokenizerError::new_err, || {
            let json = simdutf8::basic::from_utf8(json)
                .map_err(|_| internlm_bpe::BpeError::malformed("file", "is not UTF-8 text"))?;
            let mut inner = internlm_bpe::Tokenizer::from_hf(json, options)?;
            if let Some(config) = config {
                inner.overlay_config(config, options)?;
            }
            Ok::<_, internlm_bpe::BpeError>(inner)
        })?;
        Ok(Self::new(inner))
    }

    #[staticmethod]
    fn from_tiktoken(
        py: Python<'_>,
        ranks: &[u8],
        pattern: &str,
        specials: Vec<(String, u32)>,
    ) -> PyResult<Self> {
        let pattern = pattern_named(pattern)?;
        let inner = detached_result(py, TokenizerError::new_err, || {
            internlm_bpe::Tokenizer::from_tiktoken(ranks, pattern, &specials)
        })?;
        Ok(Self::new(inner))
    }

    #[staticmethod]
    #[pyo3(signature = (model, config=None))]
    fn from_sentencepiece(py: Python<'_>, model: &[u8], config: Option<&str>) -> PyResult<Self> {
        let inner = detached_result(py, TokenizerError::new_err, || {
            let mut inner = internlm_bpe::Tokenizer::from_sentencepiece(model)?;
            if let Some(config) = config {
                inner.overlay_config(config, HfOptions::default())?;
            }
            Ok::<_, internlm_bpe::BpeError>(inner)
        })?;
        Ok(Self::new(inner))
    }

    fn to_hf(&self, py: Python<'_>) -> PyResult<String> {
        detached_result(py, TokenizerError::new_err, || self.inner.to_hf())
    }

    fn to_tiktoken(&self, py: Python<'_>) -> PyResult<String> {
        detached_result(py, TokenizerError::new_err, || self.inner.to_tiktoken())
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    #[getter]
    fn n_merges(&self) -> usize {
        self.inner.merges().len()
    }

    /// Ids that the template puts before and after one text.
    #[getter]
    fn around(&self) -> (Vec<u32>, Vec<u32>) {
        self.inner.template().around()
    }

    /// The ids of two texts as the template joins them.
    fn join<'py>(
        &self,
        py: Python<'py>,
        first: PyReadonlyArray1<'_, u32>,
        second: PyReadonlyArray1<'_, u32>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let joined = self.inner.template().join(first.as_slice()?, second.as_slice()?);
        Ok(joined.into_pyarray(py))
    }

    #[getter]
    fn strips_space(&self) -> bool {
        self.inner.strips_space()
    }

    fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || self.inner.fingerprint())
    }

    /// `(name, id, special)` of each added token.
    fn added(&self) -> Vec<(String, u32, bool)> {
        self.inner.added().iter().map(|t| (t.content.clone(), t.id, t.special)).collect()
    }

    fn piece<'py>(&self, py: Python<'py>, token: u32) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.inner.piece(token).map_err(bpe_error)?))
    }

    /// The id of a token's exact bytes.
    fn id_of(&self, token: &[u8]) -> Option<u32> {
        self.inner.id_of(token)
    }

    /// Number of ids of a text.
    fn count(&self, py: Python<'_>, text: &str, allowed: Option<Vec<String>>) -> PyResult<usize> {
        let allowed = self.allowed(allowed)?;
        interruptible(py, None, text.len(), |stop| {
            self.caches.lend(false, |cache| self.inner.count(text, &allowed, cache, stop))
        })
    }

    #[pyo3(signature = (text, allowed))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        text: &str,
        allowed: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let allowed = self.allowed(allowed)?;
        let ids = interruptible(py, None, text.len(), |stop| {
            let mut ids = Vec::with_capacity(text.len() / 3);
            self.caches.lend(false, |cache| {
                self.inner.encode_into(text, &allowed, cache, &mut ids, stop);
            });
            ids
        })?;
        Ok(ids.into_pyarray(py))
    }

    /// Ids, and `[n, 2]` where each starts and ends, in bytes or in characters.
    fn encode_with_offsets<'py>(
        &self,
        py: Python<'py>,
        text: &str,
        allowed: Option<Vec<String>>,
        characters: bool,
    ) -> PyResult<Placed<'py>> {
        let allowed = self.allowed(allowed)?;
        let (ids, spans) = interruptible(py, None, text.len(), |stop| {
            self.caches.lend(false, |cache| {
                self.inner.encode_with_offsets(text, &allowed, cache, stop, characters)
            })
        })?
        .map_err(bpe_error)?;
        let count = ids.len();
        Ok((ids.into_pyarray(py), spans.into_pyarray(py).reshape([count, 2])?))
    }

    /// The first of the named tokens in a text; None: of all added tokens.
    fn find(&self, text: &str, names: Option<Vec<String>>) -> PyResult<Option<u32>> {
        Ok(self.allowed(names)?.find(text))
    }

    #[pyo3(signature = (texts, allowed, threads=0))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: StrColumn,
        allowed: Option<Vec<String>>,
        threads: usize,
    ) -> PyResult<Batch<'py>> {
        let (ids, offsets) = self.batch(py, &texts, allowed, threads)?;
        Ok((ids.into_pyarray(py), offsets.into_pyarray(py)))
    }

    /// A LargeList of uint32, its buffers the very arrays that were filled; null stays null.
    #[pyo3(signature = (texts, allowed, threads=0))]
    fn encode_arrow(
        &self,
        py: Python<'_>,
        texts: StrColumn,
        allowed: Option<Vec<String>>,
        threads: usize,
    ) -> PyResult<ArrowColumn> {
        let (ids, offsets) = self.batch(py, &texts, allowed, threads)?;
        let nulls: NullBuffer = texts.rows().iter().map(Option::is_some).collect();
        let list = LargeListArray::try_new(
            Arc::new(Field::new_list_field(DataType::UInt32, false)),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Arc::new(UInt32Array::new(ScalarBuffer::from(ids), None)),
            (nulls.null_count() > 0).then_some(nulls),
        );
        let list = list.map_err(|error| InternalError::new_err(error.to_string()))?;
        Ok(ArrowColumn::new(Arc::new(list)))
    }

    fn decode(&self, py: Python<'_>, ids: PyReadonlyArray1<'_, u32>) -> PyResult<String> {
        let ids = ids.as_slice()?;
        detached_result(py, TokenizerError::new_err, || self.inner.decode(ids))
    }

    fn decode_bytes<'py>(
        &self,
        py: Python<'py>,
        ids: PyReadonlyArray1<'py, u32>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let ids = ids.as_slice()?;
        let bytes = detached_result(py, TokenizerError::new_err, || self.inner.decode_bytes(ids))?;
        Ok(PyBytes::new(py, &bytes))
    }
}

/// Adds this room's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BpeTokenizer>()?;
    module.add_class::<BpeStream>()?;
    module.add_class::<BpeTrainer>()
}
