//! Bindings of the `internlm-bpe` crate.

use std::sync::Arc;

use internlm_bpe::{
    Allowed, Caches, HfOptions, Pattern, TrainOptions, Utf8Stream, WordCounts, train,
};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrow::StrColumn;
use crate::error::{TokenizerError, detached, detached_result, in_pool};

fn pattern_named(name: &str) -> PyResult<Pattern> {
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

fn bpe_error(error: internlm_bpe::BpeError) -> PyErr {
    TokenizerError::new_err(error.to_string())
}

#[pyclass(frozen, module = "internlm_core._core")]
pub struct BpeTokenizer {
    inner: Arc<internlm_bpe::Tokenizer>,
    /// What calls remember, one a thread.
    caches: Caches,
}

impl BpeTokenizer {
    fn new(inner: internlm_bpe::Tokenizer) -> Self {
        Self { inner: Arc::new(inner), caches: Caches::default() }
    }

    fn allowed(&self, names: Option<Vec<String>>) -> PyResult<Allowed> {
        match names {
            None => self.inner.allow_all(),
            Some(names) => self.inner.allow(&names),
        }
        .map_err(bpe_error)
    }
}

#[pymethods]
impl BpeTokenizer {
    #[staticmethod]
    #[pyo3(signature = (json, config=None, parity=false))]
    fn from_hf(py: Python<'_>, json: &str, config: Option<&str>, parity: bool) -> PyResult<Self> {
        let options = HfOptions { parity };
        let inner = detached_result(py, TokenizerError::new_err, || {
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

    #[getter]
    fn prefix(&self) -> Vec<u32> {
        self.inner.prefix().to_vec()
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

    /// Number of ids of a text without special tokens.
    fn count(&self, py: Python<'_>, text: &str) -> PyResult<usize> {
        detached(py, || {
            let mut ids = Vec::with_capacity(text.len() / 3);
            let work = |cache: &mut _| {
                self.inner.encode_into(text, &Allowed::none(), cache, &mut ids);
            };
            self.caches.lend(work);
            ids.len()
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
        let ids = detached(py, || {
            let mut ids = Vec::with_capacity(text.len() / 3);
            self.caches.lend(|cache| self.inner.encode_into(text, &allowed, cache, &mut ids));
            ids
        })?;
        Ok(ids.into_pyarray(py))
    }

    #[pyo3(signature = (texts, allowed, threads=0))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: StrColumn,
        allowed: Option<Vec<String>>,
        threads: usize,
    ) -> PyResult<Batch<'py>> {
        let (allowed, rows) = (self.allowed(allowed)?, texts.rows());
        let encode = || self.inner.encode_batch(&rows, &allowed, &self.caches);
        let (ids, offsets) = in_pool(py, threads, encode)?;
        Ok((ids.into_pyarray(py), offsets.into_pyarray(py)))
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

#[pyclass(module = "internlm_core._core")]
pub struct BpeStream {
    inner: Arc<internlm_bpe::Tokenizer>,
    stream: Utf8Stream,
}

#[pymethods]
impl BpeStream {
    #[new]
    fn new(tokenizer: &BpeTokenizer) -> Self {
        Self { inner: Arc::clone(&tokenizer.inner), stream: Utf8Stream::default() }
    }

    fn push(&mut self, token: u32) -> PyResult<String> {
        Ok(self.stream.push(self.inner.piece(token).map_err(bpe_error)?))
    }

    fn flush(&mut self) -> String {
        self.stream.flush()
    }
}

#[pyclass(module = "internlm_core._core")]
pub struct BpeTrainer {
    words: WordCounts,
    pattern: Pattern,
}

#[pymethods]
impl BpeTrainer {
    #[new]
    fn new(pattern: &str) -> PyResult<Self> {
        Ok(Self { words: WordCounts::default(), pattern: pattern_named(pattern)? })
    }

    #[pyo3(signature = (texts, threads=0))]
    fn add(&mut self, py: Python<'_>, texts: StrColumn, threads: usize) -> PyResult<()> {
        let (rows, pattern, words) = (texts.rows(), self.pattern, &mut self.words);
        in_pool(py, threads, || words.add(&rows, pattern))
    }

    #[getter]
    fn n_pieces(&self) -> usize {
        self.words.len()
    }

    #[pyo3(signature = (vocab_size, min_frequency, max_token_length, first, last, progress))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments on the Python side")]
    fn train(
        &self,
        py: Python<'_>,
        vocab_size: usize,
        min_frequency: u64,
        max_token_length: usize,
        first: Vec<String>,
        last: Vec<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<BpeTokenizer> {
        let pattern = self.pattern;
        let options =
            TrainOptions { vocab_size, min_frequency, max_token_length, pattern, first, last };
        let mut stopped = None;
        let report = |merges: usize| {
            let told = Python::attach(|py| {
                py.check_signals()?;
                if let Some(progress) = &progress {
                    progress.call1(py, (merges,))?;
                }
                Ok(())
            });
            stopped = told.err();
            stopped.is_none()
        };
        let trained = detached(py, || train(&self.words, &options, report))?;
        match stopped {
            Some(error) => Err(error),
            None => Ok(BpeTokenizer::new(trained.map_err(bpe_error)?)),
        }
    }
}

/// Adds this room's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BpeTokenizer>()?;
    module.add_class::<BpeStream>()?;
    module.add_class::<BpeTrainer>()
}
