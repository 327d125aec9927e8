//! Binding of the reader of ordinary JSON lines.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::make_view;
use arrow_array::{ArrayRef, RecordBatch, StringViewArray};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use internlm_text::{Documents, FilePart, LineReader, Strings, Unusual, read_part};
use memchr::memchr;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::arrow::ArrowTable;
use crate::error::in_pool;
use crate::lend::Lender;

/// Bytes of a file that a thread reads before it takes up the next such part.
const PART: u64 = 2 << 20;

/// Bytes around a line that is no ordinary one which are left to others with it.
const PIECE: u64 = 1 << 15;

/// As Python passes it, by keyword; see `LineReader`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Lines {
    text_keys: Vec<String>,
    source: String,
    snapshot: Option<String>,
    limit: usize,
}

impl Lines {
    fn with<T>(&self, read: impl FnOnce(&LineReader<'_>) -> T) -> T {
        let text_keys: Vec<&str> = self.text_keys.iter().map(String::as_str).collect();
        let snapshot = self.snapshot.as_deref();
        // Places in a column of strings are numbers of 31 bits.
        let (source, limit) = (self.source.as_str(), self.limit.min(1 << 30));
        read(&LineReader { text_keys: &text_keys, source, snapshot, limit })
    }
}

/// `None` where a line is no ordinary one.
#[pyfunction]
#[pyo3(signature = (parts, lines, threads=0))]
fn json_documents(
    py: Python<'_>,
    parts: Vec<(Bound<'_, pyo3::types::PyBytes>, usize, usize)>,
    lines: Lines,
    threads: usize,
) -> PyResult<Option<ArrowTable>> {
    let blocks: Vec<&[u8]> =
        parts.iter().map(|(bytes, start, end)| &bytes.as_bytes()[*start..*end]).collect();
    let read = |reader: &LineReader<'_>| {
        let share = rayon::current_num_threads();
        let pieces: Vec<&[u8]> =
            blocks.into_iter().flat_map(|block| split_at_lines(block, share)).collect();
        let read = |piece: &[u8]| {
            let mut documents = Documents::default();
            documents.text.bytes.reserve(piece.len());
            reader.append(piece, &mut documents).and_then(|()| batch(documents))
        };
        pieces.into_par_iter().map(read).collect::<Result<Vec<_>, Unusual>>()
    };
    match in_pool(py, threads, || lines.with(read))? {
        Ok(batches) => Ok(Some(table(batches))),
        Err(Unusual) => Ok(None),
    }
}

/// Rows, where their first line begins, and where the next one does.
type Span = (ArrowTable, u64, u64);

/// What lies between spans has a line that is no ordinary one.
#[pyfunction]
#[pyo3(signature = (path, start, size, lines, threads=0))]
fn json_file_documents(
    py: Python<'_>,
    path: PathBuf,
    start: u64,
    size: u64,
    lines: Lines,
    threads: usize,
) -> PyResult<Vec<Span>> {
    let read = |reader: &LineReader<'_>| {
        // What can't be read is left to who says why.
        let Ok(file) = File::open(&path) else { return Vec::new() };
        let rest = file.metadata().map_or(0, |file| file.len().saturating_sub(start));
        let size = size.min(rest);
        let share = size.div_ceil(PART).max(rayon::current_num_threads() as u64).min(size);
        let buffers = Lender::new(Vec::new);
        let read = |range: Range<u64>| {
            let part =
                read_part(&file, range.clone(), range.start == start, reader, &mut buffers.lend());
            part.and_then(|FilePart { documents, lines }| Ok((batch(documents)?, lines)))
        };
        let part = |range: Range<u64>| in_pieces(range, &read);
        split(start..start + size, share).into_par_iter().map(part).collect::<Vec<_>>().concat()
    };
    let parts: Vec<Result<_, Unusual>> = in_pool(py, threads, || lines.with(read))?;
    let runs = parts.chunk_by(|one, two| one.is_ok() == two.is_ok());
    let spans = runs.filter_map(|run| {
        let read = run.iter().flatten();
        let mut lines = read.clone().filter_map(|(_, lines)| lines.as_ref());
        let first = lines.next()?;
        let end = lines.next_back().unwrap_or(first).end;
        Some((table(read.map(|(rows, _)| rows.clone()).collect()), first.start, end))
    });
    Ok(spans.collect())
}

/// Parts of a range, none of them empty.
fn split(range: Range<u64>, count: u64) -> Vec<Range<u64>> {
    let size = range.end - range.start;
    let cut = |number| range.start + size * number / count;
    (0..count).map(|number| cut(number)..cut(number + 1)).collect()
}

/// What is read of a range, or of ever smaller pieces of it, so that a line that can't be read has few
/// others beside it.
fn in_pieces<T>(
    range: Range<u64>,
    read: &impl Fn(Range<u64>) -> Result<T, Unusual>,
) -> Vec<Result<T, Unusual>> {
    match read(range.clone()) {
        Err(Unusual) if range.end - range.start > PIECE => {
            split(range, 8).into_iter().flat_map(|piece| in_pieces(piece, read)).collect()
        }
        found => vec![found],
    }
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

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let names = ["id", "text", "source", "url", "snapshot"];
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Utf8View, true)).to_vec()))
});

fn table(batches: Vec<RecordBatch>) -> ArrowTable {
    ArrowTable::new(SCHEMA.clone(), batches)
}

/// Columns are of one length and of the types of the schema, so this never fails; if it did, the lines
/// would be read with more care.
fn batch(documents: Documents) -> Result<RecordBatch, Unusual> {
    let Documents { id, text, source, url, snapshot } = documents;
    let columns = [id, text, source, url, snapshot].map(column).to_vec();
    RecordBatch::try_new(SCHEMA.clone(), columns).map_err(|_| Unusual)
}

fn column(strings: Strings) -> ArrayRef {
    let Strings { bytes, ends, present } = strings;
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let views: Vec<u128> = starts
        .zip(&ends)
        .map(|(start, &end)| make_view(&bytes[start..end], 0, start as u32))
        .collect();
    let nulls = Some(NullBuffer::from(present)).filter(|nulls| nulls.null_count() > 0);
    let (views, buffers) = (ScalarBuffer::from(views), Arc::from([Buffer::from_vec(bytes)]));
    // SAFETY: each view is of a value's place in the one buffer there is; values are valid UTF-8, as
    // `Strings` promises; there is a flag for each of them.
    Arc::new(unsafe { StringViewArray::new_unchecked(views, buffers, nulls) })
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(json_documents, module)?)?;
    module.add_function(wrap_pyfunction!(json_file_documents, module)?)
}
