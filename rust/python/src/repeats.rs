//! Bindings of the parts of `internlm-dedup` beside near-duplicates: copies, lines, passages, tests.

use internlm_dedup::{
    LineSettings, Span, SubstringSettings, contamination, exact_copies, repeated_substrings,
    without,
};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrow::{ArrowColumn, StrColumn};
use crate::dedup::{Options, failure};
use crate::error::{DataError, in_pool};

fn flags<'a>(flags: &'a Option<PyReadonlyArray1<'_, bool>>) -> PyResult<&'a [bool]> {
    Ok(flags.as_ref().map_or(Ok(&[] as &[bool]), |flags| flags.as_slice())?)
}

#[pyfunction]
#[pyo3(name = "exact_copies", signature = (values, rank, threads=0))]
fn copies<'py>(
    py: Python<'py>,
    values: StrColumn,
    rank: PyReadonlyArray1<'py, u32>,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let (rows, rank) = (values.rows(), rank.as_slice()?);
    Ok(in_pool(py, threads, || exact_copies(&rows, rank))?.into_pyarray(py))
}

/// Edited texts, null where nothing was cut; pieces cut by row.
type EditedTexts<'py> = (ArrowColumn, Bound<'py, PyArray1<u32>>);

/// Pieces that several documents have, and which of these keeps each.
#[pyclass(module = "internlm_core._core")]
pub struct RepeatedLines {
    lines: internlm_dedup::RepeatedLines,
    settings: LineSettings,
}

#[pymethods]
impl RepeatedLines {
    #[new]
    fn new(
        paragraphs: bool,
        min_chars: usize,
        min_documents: usize,
        fold: bool,
        lists: bool,
    ) -> Self {
        let settings = LineSettings { paragraphs, min_chars, min_documents, fold, lists };
        Self { lines: internlm_dedup::RepeatedLines::new(&settings), settings }
    }

    fn shares(&self, text_bytes: usize, memory: usize) -> u64 {
        internlm_dedup::RepeatedLines::shares(&self.settings, text_bytes, memory)
    }

    #[pyo3(signature = (texts, skip, rank, share, shares, threads=0))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn count(
        &mut self,
        py: Python<'_>,
        texts: StrColumn,
        skip: Option<PyReadonlyArray1<'_, bool>>,
        rank: PyReadonlyArray1<'_, u32>,
        share: u64,
        shares: u64,
        threads: usize,
    ) -> PyResult<()> {
        let (rows, skip, rank) = (texts.rows(), flags(&skip)?, rank.as_slice()?);
        let lines = &mut self.lines;
        in_pool(py, threads, || lines.count(&rows, skip, rank, (share, shares)))
    }

    #[pyo3(signature = (threads=0))]
    fn settle(&mut self, py: Python<'_>, threads: usize) -> PyResult<()> {
        let lines = &mut self.lines;
        in_pool(py, threads, || lines.settle())
    }

    #[pyo3(signature = (texts, skip, rank, threads=0))]
    fn cut<'py>(
        &self,
        py: Python<'py>,
        texts: StrColumn,
        skip: Option<PyReadonlyArray1<'py, bool>>,
        rank: PyReadonlyArray1<'py, u32>,
        threads: usize,
    ) -> PyResult<EditedTexts<'py>> {
        let (rows, skip, rank) = (texts.rows(), flags(&skip)?, rank.as_slice()?);
        let edited = in_pool(py, threads, || self.lines.cut(&rows, skip, rank))?;
        let pieces: Vec<u32> =
            edited.iter().map(|row| row.as_ref().map_or(0, |edited| edited.pieces)).collect();
        let left = edited.into_iter().map(|row| row.map(|row| row.text));
        Ok((ArrowColumn::from_strings(left), pieces.into_pyarray(py)))
    }
}

/// Passages `[start, end)` of rows, in bytes, by row.
#[pyclass(module = "internlm_core._core", frozen)]
pub struct RepeatedSpans(Vec<Vec<Span>>);

#[pymethods]
impl RepeatedSpans {
    #[new]
    #[pyo3(signature = (texts, rank, min_length, characters, keep_first, max_memory, threads=0))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        py: Python<'_>,
        texts: StrColumn,
        rank: PyReadonlyArray1<'_, u32>,
        min_length: usize,
        characters: bool,
        keep_first: bool,
        max_memory: usize,
        threads: usize,
    ) -> PyResult<Self> {
        let settings = SubstringSettings { min_length, characters, keep_first, max_memory };
        let (rows, rank) = (texts.rows(), rank.as_slice()?);
        let spans = in_pool(py, threads, || repeated_substrings(&rows, rank, &settings))?;
        Ok(Self(spans.map_err(failure)?))
    }

    /// The rows from `first` on, with these texts.
    fn cut<'py>(
        &self,
        py: Python<'py>,
        texts: StrColumn,
        first: usize,
    ) -> PyResult<EditedTexts<'py>> {
        let rows = texts.rows();
        let spans = self.0.get(first..first + rows.len()).ok_or_else(|| {
            DataError::new_err(format!("{} rows from {first} on, of {}", rows.len(), self.0.len()))
        })?;
        let pieces: Vec<u32> = spans.iter().map(|spans| spans.len() as u32).collect();
        let edited = rows.iter().zip(spans).map(|(text, spans)| {
            (*text).filter(|_| !spans.is_empty()).map(|text| without(text, spans))
        });
        Ok((ArrowColumn::from_strings(edited), pieces.into_pyarray(py)))
    }
}

/// Item (-1: none), overlap, Jaccard similarity by row.
type Found<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

#[pyfunction]
#[pyo3(signature = (items, texts, code, options, min_units, threads=0))]
fn find_contamination<'py>(
    py: Python<'py>,
    items: StrColumn,
    texts: StrColumn,
    code: Option<PyReadonlyArray1<'py, bool>>,
    options: Options,
    min_units: usize,
    threads: usize,
) -> PyResult<Found<'py>> {
    let (items, texts, code) = (items.rows(), texts.rows(), flags(&code)?);
    let found =
        in_pool(py, threads, || contamination(&items, &texts, code, &options.into(), min_units))?;
    let item: Vec<i64> = found.iter().map(|row| row.map_or(-1, |row| row.item.into())).collect();
    let overlap: Vec<f64> = found.iter().map(|row| row.map_or(0.0, |row| row.overlap)).collect();
    let jaccard: Vec<f64> = found.iter().map(|row| row.map_or(0.0, |row| row.jaccard)).collect();
    Ok((item.into_pyarray(py), overlap.into_pyarray(py), jaccard.into_pyarray(py)))
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(copies, module)?)?;
    module.add_class::<RepeatedLines>()?;
    module.add_class::<RepeatedSpans>()?;
    module.add_function(wrap_pyfunction!(find_contamination, module)?)
}
