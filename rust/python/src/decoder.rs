//! `internlm_core.infer`: the decoder of `internlm-decoder`.

use std::sync::{Mutex, PoisonError};

use internlm_decoder::cache::{Cache, Kind};
use internlm_decoder::decoder::{Decoder, Embedding, Layer, Segment, Shape};
use internlm_decoder::matrix::{Matrix, Source};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::{InferError, detached, detached_result, kept_pool};

fn infer_error(message: String) -> PyErr {
    InferError::new_err(message)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CpuMatrix>()?;
    module.add_class::<CpuDecoder>()
}

#[pyclass(module = "internlm_core._core")]
pub struct CpuMatrix(Option<Matrix>);

#[pymethods]
impl CpuMatrix {
    #[staticmethod]
    fn f32(py: Python<'_>, weight: PyReadonlyArray2<'_, f32>) -> PyResult<Self> {
        let [outputs, inputs] = shape(&weight);
        let weight = weight.as_slice()?;
        pack(py, outputs, inputs, Source::F32(weight))
    }

    #[staticmethod]
    fn bf16(py: Python<'_>, weight: PyReadonlyArray2<'_, u16>) -> PyResult<Self> {
        let [outputs, inputs] = shape(&weight);
        let weight = weight.as_slice()?;
        pack(py, outputs, inputs, Source::Bf16(weight))
    }

    #[staticmethod]
    fn int8(
        py: Python<'_>,
        weight: PyReadonlyArray2<'_, i8>,
        scales: PyReadonlyArray2<'_, f32>,
    ) -> PyResult<Self> {
        let [outputs, inputs] = shape(&weight);
        pack(py, outputs, inputs, Source::Int8(weight.as_slice()?, scales.as_slice()?))
    }

    #[staticmethod]
    fn int4(
        py: Python<'_>,
        weight: PyReadonlyArray2<'_, u8>,
        scales: PyReadonlyArray2<'_, f32>,
        zeros: PyReadonlyArray2<'_, f32>,
    ) -> PyResult<Self> {
        let [outputs, inputs] = shape(&weight);
        let source = Source::Int4(weight.as_slice()?, scales.as_slice()?, zeros.as_slice()?);
        pack(py, outputs, inputs, source)
    }

    fn product<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let matrix = self.0.as_ref().ok_or_else(taken)?;
        let [rows, width] = shape(&x);
        if width != matrix.inputs() {
            return Err(infer_error(format!("rows of {width}, weights for {}", matrix.inputs())));
        }
        let x = x.as_slice()?;
        let level = internlm_decoder::level();
        Ok(detached(py, || matrix.product(level, x, rows))?.into_pyarray(py))
    }
}

fn taken() -> PyErr {
    PyValueError::new_err("the matrix is part of a decoder already")
}

fn shape<T: numpy::Element>(array: &PyReadonlyArray2<'_, T>) -> [usize; 2] {
    let view = array.as_array();
    [view.nrows(), view.ncols()]
}

fn pack(py: Python<'_>, outputs: usize, inputs: usize, source: Source<'_>) -> PyResult<CpuMatrix> {
    detached_result(py, infer_error, || Matrix::pack(outputs, inputs, &source))
        .map(|matrix| CpuMatrix(Some(matrix)))
}

/// Norm, projection, bias; twice each.
type LayerParts<'py> = (
    Vec<f32>,
    PyRefMut<'py, CpuMatrix>,
    Vec<f32>,
    PyRefMut<'py, CpuMatrix>,
    Vec<f32>,
    Vec<f32>,
    PyRefMut<'py, CpuMatrix>,
    Vec<f32>,
    PyRefMut<'py, CpuMatrix>,
    Vec<f32>,
);

#[pyclass(frozen, module = "internlm_core._core")]
pub struct CpuDecoder {
    inner: Mutex<Decoder>,
    threads: usize,
    vocabulary: usize,
}

#[pymethods]
impl CpuDecoder {
    #[new]
    #[pyo3(signature = (shape, eps, embedding, layers, norm, head, cos, sin, kv, pages, threads))]
    #[allow(clippy::too_many_arguments, reason = "each is one part of a model")]
    fn new(
        shape: [usize; 4],
        eps: f32,
        embedding: &Bound<'_, PyAny>,
        layers: Vec<LayerParts<'_>>,
        norm: Vec<f32>,
        mut head: PyRefMut<'_, CpuMatrix>,
        cos: PyReadonlyArray1<'_, f32>,
        sin: PyReadonlyArray1<'_, f32>,
        kv: &str,
        pages: usize,
        threads: usize,
    ) -> PyResult<Self> {
        let [hidden, kv_heads, group, width] = shape;
        let shape = Shape { hidden, kv_heads, group, width, eps };
        let kind = match kv {
            "float32" => Kind::F32,
            "bfloat16" => Kind::Bf16,
            "int8" => Kind::Int8,
            other => return Err(infer_error(format!("keys and values of type {other:?}"))),
        };
        let embedding = if let Ok(table) = embedding.extract::<PyReadonlyArray1<'_, f32>>() {
            Embedding::F32(table.as_slice()?.to_vec())
        } else {
            Embedding::Bf16(embedding.extract::<PyReadonlyArray1<'_, u16>>()?.as_slice()?.to_vec())
        };
        let mut parts = Vec::with_capacity(layers.len());
        for (
            attention_norm,
            mut wqkv,
            wqkv_bias,
            mut wo,
            wo_bias,
            ffn_norm,
            mut w13,
            w13_bias,
            mut w2,
            w2_bias,
        ) in layers
        {
            parts.push(Layer {
                attention_norm,
                wqkv: wqkv.0.take().ok_or_else(taken)?,
                wqkv_bias,
                wo: wo.0.take().ok_or_else(taken)?,
                wo_bias,
                ffn_norm,
                w13: w13.0.take().ok_or_else(taken)?,
                w13_bias,
                w2: w2.0.take().ok_or_else(taken)?,
                w2_bias,
            });
        }
        let head = head.0.take().ok_or_else(taken)?;
        let cache = Cache::new(kind, parts.len(), pages, kv_heads, width);
        let vocabulary = head.outputs();
        let (cos, sin) = (cos.as_slice()?.to_vec(), sin.as_slice()?.to_vec());
        let inner = Decoder::new(shape, embedding, parts, norm, head, cos, sin, cache)
            .map_err(|error| infer_error(error.to_string()))?;
        Ok(Self { inner: Mutex::new(inner), threads, vocabulary })
    }

    #[getter]
    fn weight_bytes(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    #[getter]
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// (logits of `wanted` rows, flat; log Σ e^logit of each; log p of `labels` after `scored` rows).
    fn step<'py>(
        &self,
        py: Python<'py>,
        ids: Vec<u32>,
        segments: Vec<(usize, usize, Vec<u32>)>,
        wanted: Vec<u32>,
        scored: Vec<u32>,
        labels: Vec<u32>,
    ) -> PyResult<[Bound<'py, PyArray1<f32>>; 3]> {
        if scored.len() != labels.len() {
            return Err(infer_error("as many labels as rows to score are needed".into()));
        }
        let pool = kept_pool(self.threads)?;
        let segments: Vec<Segment> = segments
            .into_iter()
            .map(|(start, count, table)| Segment { start, count, table })
            .collect();
        let work = || {
            pool.install(|| {
                let mut decoder = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                let rows: Vec<u32> = wanted.iter().chain(&scored).copied().collect();
                let hidden = decoder.hidden(&ids, &segments, &rows)?;
                let width = hidden.len() / rows.len().max(1);
                let (first, rest) = hidden.split_at(wanted.len() * width);
                let logits = if first.is_empty() { Vec::new() } else { decoder.logits(first) };
                let sums = decoder.log_sums(&logits);
                Ok([logits, sums, decoder.log_probs(rest, &labels)?])
            })
        };
        let found = detached_result::<_, internlm_decoder::Error>(py, infer_error, work)?;
        Ok(found.map(|part| part.into_pyarray(py)))
    }
}
