"""What deduplication takes: texts and tables of many kinds as columns the core can read."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from internlm_core.data.readers import ReadLimits, SourceSpec, find_files, group_files, read_batches
from internlm_core.data.readers.json_columns import read_json_columns
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["COLUMNS", "code_rows", "keep_keys", "table", "text_frame", "text_frames"]

COLUMNS = ("id", "text", "source", "snapshot", "score")
"""Columns that deduplication looks at."""


def text_frame(data: Any) -> pl.DataFrame:
    """Columns `text` and `id`, and those of the other `COLUMNS` that there are.

    Args:
        data: Texts, or a frame with `text`: of polars, or anything that exports Arrow.

    Raises:
        DataError: There is no column `text`, or it holds no strings.
    """
    if isinstance(data, pl.LazyFrame):
        names = data.collect_schema().names()
        data = data.select(name for name in names if name in COLUMNS)
    data = _frame(data)
    if "text" not in data.columns:
        raise DataError(
            f"no column 'text'; the frame has {', '.join(data.columns) or 'no columns'}"
        )
    if isinstance(data["text"].dtype, (pl.Categorical, pl.Enum)) or data["text"].dtype in (
        pl.Binary,
        pl.Null,
    ):
        try:
            data = data.with_columns(pl.col("text").cast(pl.String))
        except pl.exceptions.PolarsError as error:
            raise DataError(f"column 'text' holds bytes that are no UTF-8: {error}") from None
    if data["text"].dtype != pl.String:
        raise DataError(f"column 'text' must hold strings, it holds {data['text'].dtype}")
    if "id" not in data.columns:
        data = data.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"))
    chosen: pl.DataFrame = data.select(name for name in COLUMNS if name in data.columns)
    return chosen


def table(data: Any, columns: tuple[str, ...]) -> pl.DataFrame:
    """A table with these columns, of polars or anything that exports Arrow.

    Raises:
        DataError: One of them is missing.
    """
    frame = _frame(data)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(
            f"no column {missing[0]!r}; the frame has {', '.join(frame.columns) or 'no columns'}"
        )
    return frame


def _frame(data: Any) -> pl.DataFrame:
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if isinstance(data, pl.DataFrame):
        return data
    try:
        series = data if isinstance(data, pl.Series) else pl.Series(data)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected texts or a table, got {type(data).__name__}: {error}") from None
    if not len(series):
        series = series.cast(pl.String)
    # A table that is none of polars' comes as one column of structs.
    tabular = isinstance(series.dtype, pl.Struct)
    return series.struct.unnest() if tabular else pl.DataFrame({"text": series})


def text_frames(
    data: str | os.PathLike[str] | pl.LazyFrame,
    batch_bytes: int,
    threads: int = 0,
    *,
    lines_at_once: int | None = None,
) -> Iterator[pl.DataFrame]:
    """Frames as of `text_frame`, one after another, of files or of a query.

    Args:
        data: A file, folder or pattern (see `find_files`), or a query.
        batch_bytes: About how many bytes of text a frame holds.
        threads: 0 means all cores.
        lines_at_once: Bytes of JSON lines that are read at once, for who keeps all frames anyway;
            default: as `batch_bytes`.

    Raises:
        DataError: There is nothing to read, or a query gives no strings in `text`.
    """
    if isinstance(data, pl.LazyFrame):
        start, names = 0, data.collect_schema().names()
        data = data.select(name for name in names if name in COLUMNS)
        for rows in data.collect_batches(chunk_size=8_192):
            frame = text_frame(rows)
            if "id" not in names:
                frame = frame.with_columns(pl.col("id") + start)
            start += frame.height
            yield frame
        return
    found = find_files([SourceSpec(os.fspath(data))])
    if not found.files:
        raise DataError(f"{os.fspath(data)}: no .txt, .md, .jsonl or .parquet file there")
    rejected = []
    limits = ReadLimits(batch_bytes=batch_bytes)
    for group in group_files(found.files):
        lines = group.kind == "jsonl"
        read = (
            read_json_columns(group.files[0], limits, threads, at_once=lines_at_once)
            if lines
            else read_batches(group, limits)
        )
        for batch in read:
            rejected += batch.rejected[:1]
            yield text_frame(batch.records)
    if rejected:
        first = rejected[0]
        warnings.warn(
            f"some of the input gave no record, first: {first.file}: {first.reason}, "
            f"{first.detail}; `internlm-core data dedup` sets all of it aside",
            stacklevel=2,
        )


def code_rows(frame: pl.DataFrame, unit: str) -> npt.NDArray[np.bool_] | None:
    """Which rows are code; none at all if none is."""
    if unit == "code":
        return np.ones(frame.height, np.bool_)
    if unit == "text" or "source" not in frame.columns:
        return None
    source = frame["source"]
    if source.dtype == pl.String and not (source == "code").any():
        return None  # by far the commonest case
    code = frame.select((pl.col("source") == "code").fill_null(value=False)).to_series()
    return code.to_numpy().copy() if code.any() else None


def keep_keys(frame: pl.DataFrame) -> tuple[Any, Any, Any]:
    """Columns `snapshot`, `score` and `id` as the core takes them, `None` for those not there."""
    snapshot, score, id_ = (
        _key(frame[name]) if name in frame.columns else None for name in ("snapshot", "score", "id")
    )
    return snapshot, score, id_


def _key(column: pl.Series) -> Any:
    """Strings, whole numbers with which of them count, or floats with NaN for none."""
    kind = column.dtype
    if kind == pl.String:
        return column
    if isinstance(kind, (pl.Categorical, pl.Enum)) or kind == pl.Binary:
        return column.cast(pl.String)
    if kind.is_float() or kind.is_decimal() or kind == pl.Null:
        return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    if kind == pl.UInt64:
        # Beyond 64 bits with a sign: as strings of one length they sort as the numbers do.
        return column.cast(pl.String).str.zfill(20)
    if kind.is_integer() or kind.is_temporal() or kind == pl.Boolean:
        numbers = column.to_physical().cast(pl.Int64).fill_null(0)
        return numbers.to_numpy(), column.is_not_null().to_numpy()
    raise DataError(f"column {column.name!r} must hold strings, numbers or dates, it holds {kind}")
