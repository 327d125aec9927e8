//! Binding of the reader of ordinary JSON lines.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::make_view;
use arrow_array::{ArrayRef, RecordBatch, StringViewArray};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow_data::{ByteView, MAX_INLINE_VIEW_LEN};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use internlm_text::{Documents, FilePart, LineReader, Strings, Unusual, read_part};
use memchr::memchr;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::arrow::ArrowTable;
use crate::error::in_pool;
use crate::lend::Lender;

/// Bytes of a file that a thread reads before it takes up the next such part: few, for what the last
/// thread has left is waited for, and its texts are then still in the cache when ids are made of them.
const PART: u64 = 1 << 19;

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
            reader.append(piece, &mut documents).map(|()| columns(documents))
        };
        let parts = pieces.into_par_iter().map(read).collect::<Result<Vec<_>, Unusual>>()?;
        table(parts)
    };
    Ok(in_pool(py, threads, || lines.with(read))?.ok())
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
            part.map(|FilePart { documents, lines }| (columns(documents), lines))
        };
        let part = |range: Range<u64>| in_pieces(range, &read);
        let parts = split(start..start + size, share);
        spans(parts.into_par_iter().flat_map_iter(part).collect())
    };
    in_pool(py, threads, || lines.with(read))
}

/// Columns of a part, and what `FilePart` says of its lines.
type Part = Result<(Columns, Option<Range<u64>>), Unusual>;

/// What lies between parts that could not be read.
fn spans(parts: Vec<Part>) -> Vec<Span> {
    let (mut spans, mut parts) = (Vec::new(), parts.into_iter().peekable());
    while parts.peek().is_some() {
        let read: Vec<_> = std::iter::from_fn(|| parts.next_if(Result::is_ok)).flatten().collect();
        let mut lines = read.iter().filter_map(|(_, lines)| lines.clone());
        if let Some(first) = lines.next() {
            let end = lines.next_back().unwrap_or(first.clone()).end;
            let columns = read.into_iter().map(|(columns, _)| columns).collect();
            spans.extend(table(columns).map(|table| (table, first.start, end)));
        }
        while parts.next_if(Result::is_err).is_some() {}
    }
    spans
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

/// A column of some lines, with its views as of the first buffer.
struct Column {
    views: Vec<u128>,
    bytes: Vec<u8>,
    present: Vec<bool>,
}

type Columns = [Column; 5];

/// Made while the texts are in the cache, for views hold the first bytes of each.
fn columns(documents: Documents) -> Columns {
    let Documents { id, text, source, url, snapshot } = documents;
    [id, text, source, url, snapshot].map(|Strings { bytes, ends, present }| {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let view = |(start, &end): (usize, &usize)| make_view(&bytes[start..end], 0, start as u32);
        Column { views: starts.zip(&ends).map(view).collect(), bytes, present }
    })
}

/// One batch of all lines, however many parts they were read in: every batch costs who takes them.
///
/// Columns are of one length and of the types of the schema, so this never fails; if it did, the lines
/// would be read with more care.
fn table(parts: Vec<Columns>) -> Result<ArrowTable, Unusual> {
    let mut columns: [Vec<Column>; 5] = Default::default();
    for part in parts {
        columns.iter_mut().zip(part).for_each(|(column, part)| column.push(part));
    }
    let arrays = columns.into_par_iter().map(joined).collect();
    let batch = RecordBatch::try_new(SCHEMA.clone(), arrays).map_err(|_| Unusual)?;
    Ok(ArrowTable::new(SCHEMA.clone(), vec![batch]))
}

/// Each part keeps its buffer.
fn joined(parts: Vec<Column>) -> ArrayRef {
    let rows = parts.iter().map(|part| part.views.len()).sum();
    let mut views: Vec<u128> = Vec::with_capacity(rows);
    for (number, part) in (0u32..).zip(&parts) {
        views.extend(part.views.iter().map(|&view| {
            let view = ByteView::from(view);
            let in_buffer = view.length > MAX_INLINE_VIEW_LEN;
            if in_buffer { view.with_buffer_index(number) } else { view }.as_u128()
        }));
    }
    let is_whole = parts.iter().all(|part| !part.present.contains(&false));
    let present = || parts.iter().flat_map(|part| part.present.iter().copied()).collect();
    let nulls = (!is_whole).then(|| NullBuffer::new(present()));
    let buffers = parts.into_iter().map(|part| Buffer::from_vec(part.bytes)).collect();
    // SAFETY: each view is of a value's place in the buffer of its part, or holds the value; values
    // are valid UTF-8, as `Strings` promises; there is a flag for each of them.
    Arc::new(unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), buffers, nulls) })
}

/// Adds these functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(json_documents, module)?)?;
    module.add_function(wrap_pyfunction!(json_file_documents, module)?)
}
