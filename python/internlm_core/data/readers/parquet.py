"""Parquet: batches of rows, columns of any string-like type, other columns into `meta`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from internlm_core.data.records import (
    SCHEMA,
    TEXT_KEYS,
    Batch,
    Rejected,
    join_meta,
    normalise_urls,
    repair_text,
    with_ids,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from internlm_core.data.readers.files import InputFile

__all__ = ["read_parquet"]

_STRING_LIKE = (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)
_OURS = ("id", "source", "url", "lang", "lang_score", "snapshot")


def read_parquet(file: InputFile, batch_rows: int, record_bytes: int) -> Iterator[Batch]:
    """Read a Parquet file.

    Args:
        file: The file; a dictionary, large, view or binary (UTF-8) column is as good as a plain
            string column.
        batch_rows: Rows in a batch.
        record_bytes: Longest text that is read.
    """
    first = 1
    try:
        scan = pl.scan_parquet(file.path, glob=False)
        schema = scan.collect_schema()
        key = _text_column(file, schema)
        if isinstance(key, Rejected):
            yield Batch(pl.DataFrame(schema=SCHEMA), [key])
            return
        for frame in scan.collect_batches(chunk_size=batch_rows, maintain_order=True):
            # The engine's batches may be larger than asked for.
            for part in frame.iter_slices(batch_rows):
                yield _batch(file, part, key, first, record_bytes)
                first += part.height
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = "unreadable_file" if isinstance(error, OSError) else "damaged_file"
        detail = f"{error}; {first - 1:,} rows before this were read"
        yield Batch(pl.DataFrame(schema=SCHEMA), [Rejected.of_file(file.name, reason, detail)])


def _text_column(file: InputFile, schema: pl.Schema) -> str | Rejected:
    keys = (file.text_key,) if file.text_key else TEXT_KEYS
    for key in keys:
        if key in schema:
            if isinstance(schema[key], _STRING_LIKE):
                return key
            detail = f"column {key!r} is {schema[key]}, not text"
            return Rejected.of_file(file.name, "no_text_column", detail)
    detail = (
        f"no column {' or '.join(map(repr, keys))}; the file has {', '.join(schema)}; "
        "name the right one with text_key in this source"
    )
    return Rejected.of_file(file.name, "no_text_column", detail)


def _batch(file: InputFile, frame: pl.DataFrame, key: str, first: int, limit: int) -> Batch:
    foreign = [c for c in frame.columns if c not in (key, "meta", *_OURS)]
    foreign += [c for c in _OURS if c in frame.columns and not _fits(c, frame.schema[c])]
    columns = [_string(frame, key).alias("text"), _meta(frame, foreign)]
    for name in _OURS:
        default = getattr(file.defaults, name, None)
        if name in frame.columns and name not in foreign:
            column = frame[name].cast(SCHEMA[name], strict=False)
            columns.append(column if default is None else column.fill_null(default))
        else:
            value = pl.Series(name, [default], dtype=SCHEMA[name])
            columns.append(value.new_from_index(0, frame.height))
    records = pl.DataFrame(columns)
    good = (records["text"].str.len_bytes() <= limit).fill_null(value=False)
    rejected = []
    if not good.all():
        rejected = [
            _rejected(file, key, frame[row, key], first + row, limit) for row in (~good).arg_true()
        ]
        records = records.filter(good)
    records, repaired = repair_text(records)
    return Batch(with_ids(normalise_urls(records)), rejected, repaired)


def _rejected(file: InputFile, key: str, value: Any, row: int, limit: int) -> Rejected:
    raw = value if isinstance(value, bytes) else (value or "").encode()
    if value is None:
        reason, detail = "text_missing", f"{key!r} is null"
    elif len(raw) > limit:
        reason = "too_large"
        detail = f"{len(raw):,} bytes, over the limit max_record_bytes = {limit:,}"
    else:
        reason, detail = "invalid_utf8", f"{key!r} is no UTF-8"
    return Rejected.of_line(file.name, reason, detail, row, None, raw, len(raw))


def _fits(name: str, kind: pl.DataType) -> bool:
    if name == "lang_score":
        return kind.is_numeric() or kind == pl.Null
    return isinstance(kind, _STRING_LIKE)


def _string(frame: pl.DataFrame, name: str) -> pl.Series:
    column = frame[name]
    if column.dtype != pl.Binary:
        return column.cast(pl.String)
    try:
        return column.cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series(name, [_decoded(value) for value in column], dtype=pl.String)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _meta(frame: pl.DataFrame, foreign: list[str]) -> pl.Series:
    """The `meta` column: the file's own joined with all columns that are not ours."""
    own = frame["meta"] if "meta" in frame.columns else None
    if not foreign and own is not None and own.dtype == pl.String:
        return own
    if not foreign and own is None:
        return pl.Series("meta", [None] * frame.height, dtype=pl.String)
    rows: list[dict[str, Any]] = frame.select(foreign).to_dicts() or [{}] * frame.height
    values = own.to_list() if own is not None else [None] * frame.height
    joined = [join_meta(meta, _plain(row)) for meta, row in zip(values, rows, strict=True)]
    return pl.Series("meta", joined, dtype=pl.String)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Values that JSON knows: dates as ISO text, binary as base64, the rest as it prints."""
    data: dict[str, Any] = orjson.loads(orjson.dumps(row, default=_as_text))
    return data


def _as_text(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
