//! Strings in and columns out through the Arrow PyCapsule interface, without copying text.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};
use arrow_array::ffi_stream::{ArrayStreamReader, FFI_ArrowArrayStream};
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::types::{UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchIterator, StringArray, make_array};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use crate::error::DataError;

/// A string column from Python: polars, pyarrow, pandas, DuckDB, anything with the capsule methods.
///
/// Accepts Utf8, LargeUtf8, Utf8View and dictionaries of them, chunked or not, with nulls.
pub struct StrColumn {
    chunks: Vec<ArrayRef>,
}

impl StrColumn {
    /// The rows in order, borrowed from the column's own buffers.
    pub fn rows(&self) -> Vec<Option<&str>> {
        let mut rows = Vec::with_capacity(self.chunks.iter().map(|chunk| chunk.len()).sum());
        for chunk in &self.chunks {
            push_rows(chunk.as_ref(), &mut rows);
        }
        rows
    }
}

fn push_rows<'a>(chunk: &'a dyn Array, rows: &mut Vec<Option<&'a str>>) {
    match chunk.data_type() {
        DataType::Utf8 => rows.extend(chunk.as_string::<i32>().iter()),
        DataType::LargeUtf8 => rows.extend(chunk.as_string::<i64>().iter()),
        DataType::Utf8View => rows.extend(chunk.as_string_view().iter()),
        // A column without any value has type null.
        DataType::Null => rows.extend(std::iter::repeat_n(None, chunk.len())),
        DataType::Dictionary(key, _) => match key.as_ref() {
            DataType::Int8 => push_dictionary::<Int8Type>(chunk, rows),
            DataType::Int16 => push_dictionary::<Int16Type>(chunk, rows),
            DataType::Int32 => push_dictionary::<Int32Type>(chunk, rows),
            DataType::Int64 => push_dictionary::<Int64Type>(chunk, rows),
            DataType::UInt8 => push_dictionary::<UInt8Type>(chunk, rows),
            DataType::UInt16 => push_dictionary::<UInt16Type>(chunk, rows),
            DataType::UInt32 => push_dictionary::<UInt32Type>(chunk, rows),
            _ => push_dictionary::<UInt64Type>(chunk, rows),
        },
        other => unreachable!("checked on import: {other}"),
    }
}

fn push_dictionary<'a, K: arrow_array::types::ArrowDictionaryKeyType>(
    chunk: &'a dyn Array,
    rows: &mut Vec<Option<&'a str>>,
) {
    let dictionary = chunk.as_dictionary::<K>();
    let mut values = Vec::with_capacity(dictionary.values().len());
    push_rows(dictionary.values().as_ref(), &mut values);
    rows.extend(dictionary.keys_iter().map(|key| key.and_then(|key| values[key])));
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

fn import_error(error: ArrowError) -> PyErr {
    DataError::new_err(format!("the Arrow column could not be read: {error}"))
}

impl<'py> FromPyObject<'_, 'py> for StrColumn {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let chunks = if object.hasattr("__arrow_c_stream__")? {
            import_stream(&object)?
        } else if object.hasattr("__arrow_c_array__")? {
            vec![import_array(&object)?]
        } else {
            return Err(DataError::new_err(format!(
                "expected an Arrow string column (polars Series, pyarrow Array, …), got {}",
                object.get_type().name()?
            )));
        };
        if let Some(chunk) = chunks.iter().find(|chunk| !is_text(chunk.data_type())) {
            return Err(DataError::new_err(format!(
                "expected a column of strings, got Arrow type {}; cast it to string first",
                chunk.data_type()
            )));
        }
        Ok(Self { chunks })
    }
}

fn import_stream(object: &Bound<'_, PyAny>) -> PyResult<Vec<ArrayRef>> {
    let capsule = object.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
    let pointer = capsule.pointer_checked(Some(c"arrow_array_stream"))?;
    // SAFETY: the capsule's name says what it points to; the stream is moved out of it and its
    // release callback left empty, as the PyCapsule protocol asks of a consumer.
    let stream =
        unsafe { ArrayStreamReader::from_raw(pointer.cast::<FFI_ArrowArrayStream>().as_ptr()) }
            .map_err(import_error)?;
    stream.collect::<Result<Vec<_>, _>>().map_err(import_error)
}

fn import_array(object: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let pair = object.call_method0("__arrow_c_array__")?.cast_into::<PyTuple>()?;
    let schema = pair.get_item(0)?.cast_into::<PyCapsule>()?;
    let array = pair.get_item(1)?.cast_into::<PyCapsule>()?;
    let schema = schema.pointer_checked(Some(c"arrow_schema"))?.cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(c"arrow_array"))?.cast::<FFI_ArrowArray>();
    // SAFETY: names were checked, so the pointers are what they claim; `from_raw` moves the array
    // out, and the schema is only borrowed while its capsule is alive.
    let data = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) };
    Ok(make_array(data.map_err(import_error)?))
}

/// A column for Python, handed over through `__arrow_c_array__` (`polars.Series(column)`).
#[pyclass(frozen, module = "internlm_core._core")]
pub struct ArrowColumn(ArrayRef);

impl ArrowColumn {
    /// Any Arrow array.
    pub fn new(array: ArrayRef) -> Self {
        Self(array)
    }

    /// A column of strings.
    pub fn from_strings<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> Self {
        Self(Arc::new(values.into_iter().collect::<StringArray>()))
    }
}

#[pymethods]
impl ArrowColumn {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // The protocol lets a producer ignore the wish for another type.
        let _ = requested_schema;
        let (array, schema) = to_ffi(&self.0.to_data()).map_err(import_error)?;
        Ok((
            PyCapsule::new_with_value(py, schema, c"arrow_schema")?,
            PyCapsule::new_with_value(py, array, c"arrow_array")?,
        ))
    }
}

/// A table for Python, handed over through `__arrow_c_stream__` (`polars.DataFrame(table)`).
#[pyclass(frozen, module = "internlm_core._core")]
pub struct ArrowTable {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl ArrowTable {
    /// Batches of one schema.
    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches }
    }
}

#[pymethods]
impl ArrowTable {
    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let batches = self.batches.clone().into_iter().map(Ok);
        let reader = RecordBatchIterator::new(batches, self.schema.clone());
        let stream = FFI_ArrowArrayStream::new(Box::new(reader));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }
}
