//! Binding of the reader of ordinary JSON lines.

use std::sync::Arc;

use arrow_array::LargeStringArray;
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use internlm_text::{Documents, Strings, Unusual, documents};
use memchr::memchr;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::arrow::ArrowColumn;
use crate::error::in_pool;

/// `text`, `source`, `url`, `snapshot`.
type Columns = (ArrowColumn, ArrowColumn, ArrowColumn, ArrowColumn);

/// Parts of a block, each read by one thread; `None` where a line is no ordinary one.
#[pyfunction]
#[pyo3(signature = (parts, text_keys, limit, threads=0))]
fn json_documents(
    py: Python<'_>,
    parts: Vec<(Bound<'_, pyo3::types::PyBytes>, usize, usize)>,
    text_keys: Vec<String>,
    limit: usize,
    threads: usize,
) -> PyResult<Option<Vec<Columns>>> {
    let blocks: Vec<&[u8]> =
        parts.iter().map(|(bytes, start, end)| &bytes.as_bytes()[*start..*end]).collect();
    let keys: Vec<&str> = text_keys.iter().map(String::as_str).collect();
    let read: Result<Vec<Documents>, Unusual> = in_pool(py, threads, || {
        let share = rayon::current_num_threads();
        let pieces: Vec<&[u8]> =
            blocks.into_iter().flat_map(|block| split_at_lines(block, share)).collect();
        pieces.into_par_iter().map(|piece| documents(piece, &keys, limit)).collect()
    })?;
    let columns = |found: Documents| {
        (column(found.text), column(found.source), column(found.url), column(found.snapshot))
    };
    Ok(read.ok().map(|pieces| pieces.into_iter().map(columns).collect()))
}

/// At most `count` parts of about one size, each ending at the end of a line.
fn split_at_lines(block: &[u8], count: usize) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), block);
    for left in (1..=count).rev() {
        let about = rest.len() / left;
        let end = memchr(b'\n', &rest[about..]).map_or(rest.len(), |at| about + at + 1);
        let (part, after) = rest.split_at(end);
        parts.extend((!part.is_empty()).then_some(part));
        rest = after;
    }
    parts
}

fn column(strings: Strings) -> ArrowColumn {
    let Strings { bytes, ends, present } = strings;
    let offsets: Vec<i64> = [0].into_iter().chain(ends).map(|end| end as i64).collect();
    let nulls = NullBuffer::from(present);
    ArrowColumn::new(Arc::new(LargeStringArray::new(
        OffsetBuffer::new(ScalarBuffer::from(offsets)),
        Buffer::from_vec(bytes.into_bytes()),
        (nulls.null_count() > 0).then_some(nulls),
    )))
}

/// Adds this function to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(json_documents, module)?)
}
