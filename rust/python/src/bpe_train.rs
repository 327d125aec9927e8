//! Bindings of training in the `internlm-bpe` crate.

use std::path::PathBuf;

use internlm_bpe::{Cuts, Pattern, Step, Symbols, TrainOptions, WordCounts, train};
use pyo3::prelude::*;

use crate::arrow::StrColumn;
use crate::bpe::{BpeTokenizer, bpe_error, pattern_named};
use crate::error::{detached, in_pool};

/// Options of learning, a dictionary in Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Learning {
    vocab_size: usize,
    min_frequency: u64,
    max_token_length: usize,
    script_limits: Vec<(String, usize)>,
    /// None: a vocabulary over bytes.
    coverage: Option<f64>,
    first_special: Vec<String>,
    last_special: Vec<String>,
}

impl Learning {
    fn with(self, pattern: Pattern, state: Option<PathBuf>) -> TrainOptions {
        TrainOptions {
            vocab_size: self.vocab_size,
            min_frequency: self.min_frequency,
            max_token_length: self.max_token_length,
            script_limits: self.script_limits,
            symbols: (self.coverage)
                .map_or(Symbols::Bytes, |coverage| Symbols::Characters { coverage }),
            pattern,
            first: self.first_special,
            last: self.last_special,
            state,
        }
    }
}

#[pyclass(module = "internlm_core._core")]
pub struct BpeTrainer {
    words: WordCounts,
    cuts: Cuts,
}

#[pymethods]
impl BpeTrainer {
    #[new]
    #[pyo3(signature = (pattern, memory=0, folder=None, digits=0, one_script=false, runs=None))]
    fn new(
        pattern: &str,
        memory: usize,
        folder: Option<PathBuf>,
        digits: usize,
        one_script: bool,
        runs: Option<usize>,
    ) -> PyResult<Self> {
        let words = match (folder, runs) {
            (Some(folder), Some(runs)) => {
                WordCounts::kept(memory, folder, runs).map_err(bpe_error)?
            }
            (Some(folder), None) => WordCounts::bounded(memory, folder),
            (None, _) => WordCounts::default(),
        };
        Ok(Self { words, cuts: Cuts { pattern: pattern_named(pattern)?, digits, one_script } })
    }

    /// Number of files that counts were put into.
    #[getter]
    fn spills(&self) -> usize {
        self.words.spills()
    }

    #[pyo3(signature = (texts, threads=0))]
    fn add(&mut self, py: Python<'_>, texts: StrColumn, threads: usize) -> PyResult<()> {
        let (rows, cuts, words) = (texts.rows(), self.cuts, &mut self.words);
        in_pool(py, threads, || words.add(&rows, cuts))?.map_err(bpe_error)
    }

    /// Puts all counts on disk; the number of files they are in.
    fn checkpoint(&mut self, py: Python<'_>) -> PyResult<usize> {
        let words = &mut self.words;
        detached(py, || words.checkpoint())?.map_err(bpe_error)
    }

    #[getter]
    fn n_pieces(&self) -> usize {
        self.words.len()
    }

    /// Refuses options that no text could satisfy.
    #[staticmethod]
    fn check(options: Learning) -> PyResult<()> {
        options.with(Pattern::Cl100k, None).check().map_err(bpe_error)
    }

    /// `progress` gets the number of merges and says, by True, that the state is to be saved.
    #[pyo3(signature = (options, progress=None, state=None))]
    fn train(
        &self,
        py: Python<'_>,
        options: Learning,
        progress: Option<Py<PyAny>>,
        state: Option<PathBuf>,
    ) -> PyResult<BpeTokenizer> {
        let options = options.with(self.cuts.pattern, state);
        let mut stopped = None;
        let report = |merges: usize| {
            let told = Python::attach(|py| {
                py.check_signals()?;
                match &progress {
                    Some(progress) => progress.call1(py, (merges,))?.is_truthy(py),
                    None => Ok(false),
                }
            });
            match told {
                Ok(false) => Step::Go,
                Ok(true) => Step::Save,
                Err(error) => {
                    stopped = Some(error);
                    Step::Stop
                }
            }
        };
        let trained = detached(py, || train(&self.words, &options, report))?;
        match stopped {
            Some(error) => Err(error),
            None => Ok(BpeTokenizer::new(trained.map_err(bpe_error)?)),
        }
    }
}
