"""Repeated text among the open records of a run's parts, which are read one after another.

In memory are a part, some 300 bytes a record (its id, address, and place in keep order), and what each
stage counts within its own bound. Repeated passages alone need all texts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from internlm_core import _core
from internlm_core.data.contamination import decontaminate
from internlm_core.data.dedup_input import keep_keys, text_frame, text_frames
from internlm_core.data.exact_duplicates import url_keys
from internlm_core.data.repeated_text import LineCutter, cut_substrings, text_bytes
from internlm_core.data.run_folder import disk_errors
from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from internlm_core.data.repeat_stages import TestSetsConfig
    from internlm_core.data.repeated_text import LineDedupConfig, SubstringConfig

__all__ = ["OpenRecords", "edit_lines", "edit_passages", "find_copies", "find_tests"]

_COLUMNS = ("id", "text", "source", "url", "snapshot")


class OpenRecords:
    """Records that no stage has decided against, of each part of a run.

    Args:
        parts: Record frames with decisions, as the map stages leave them.
        folder: Where edited texts go; it is the caller's to remove.

    Attributes:
        sizes: How many each part has.
    """

    def __init__(self, parts: list[Path], folder: Path) -> None:
        self._parts, self._folder = parts, folder
        self._edited: dict[int, Path] = {}
        self.sizes = [
            int(pl.read_parquet(part, columns=["stage"])["stage"].null_count()) for part in parts
        ]

    def read(self, number: int, columns: Sequence[str] = _COLUMNS) -> pl.DataFrame:
        """Those of a part, with their texts as they are by now."""
        frame = pl.read_parquet(self._parts[number], columns=[*columns, "stage"])
        frame = frame.filter(pl.col("stage").is_null()).select(columns)
        if "text" in columns and number in self._edited:
            frame = frame.with_columns(pl.read_parquet(self._edited[number])["text"])
        return frame

    def write(self, number: int, texts: pl.Series) -> None:
        """Put other texts in the place of a part's."""
        path = self._folder / f"{number}.parquet"
        with disk_errors(path):
            pl.DataFrame({"text": texts}).write_parquet(path, compression="lz4")
        self._edited[number] = path

    def each(
        self, rows: pl.Series, columns: Sequence[str] = _COLUMNS
    ) -> Iterator[tuple[int, pl.Series, pl.DataFrame]]:
        """Some records, whose numbers are sorted: of each part its number, the rows, the frame."""
        first = start = 0
        for number, size in enumerate(self.sizes):
            count = int(rows.slice(start).search_sorted(first + size))
            if count:
                local = rows.slice(start, count) - first
                frame = self.read(number, columns)
                yield number, local, frame if count == size else frame[local.to_list()]
            first, start = first + size, start + count


def find_tests(
    records: OpenRecords, rows: pl.Series, config: TestSetsConfig, threads: int
) -> pl.DataFrame:
    """What `decontaminate` says of these records."""
    items = [
        part.select("id", "text") for path in config.paths for part in text_frames(path, 1 << 25)
    ]
    tests, settings = pl.concat(items), config.model_dump(exclude={"paths"})
    found = [
        decontaminate(frame, tests, threads=threads, **settings)
        for _, _, frame in records.each(rows, ("id", "text", "source"))
    ]
    return pl.concat(found) if found else decontaminate([], tests)


def find_copies(
    records: OpenRecords, rows: pl.Series, column: str, ignore: Sequence[str], threads: int
) -> pl.DataFrame:
    """What `dedup_urls` or `dedup_exact` says of these records, which are not there at once.

    Texts are equal where their 128-bit hashes are (xxh3).
    """
    ids, keys = [pl.Series("id", [], dtype=pl.String)], [pl.Series("key", [], dtype=pl.String)]
    order = []
    for _, _, frame in records.each(rows):
        _, names = _core.dedup_order_keys(frame["text"], (None, None, None), threads)
        order.append(_order(frame, threads))
        ids.append(frame["id"])
        if column == "url":
            keys.append(url_keys(frame["url"], ignore).alias("key"))
        else:
            # Without columns to order by, the name of a row is a hash of its text's length and hash.
            hashes = pl.Series("key", [name.hex() for name in names], dtype=pl.String)
            empty = frame["text"].str.len_bytes().fill_null(0) == 0
            keys.append(hashes.set(empty, None))
    names_of = pl.concat(ids)
    kept_row = pl.Series(_core.exact_copies(pl.concat(keys), _rank(order), threads))
    keep = kept_row == pl.int_range(len(names_of), dtype=pl.UInt32, eager=True)
    return pl.DataFrame({"keep": keep, "duplicate_of": names_of.gather(kept_row.set(keep, None))})


def edit_lines(
    records: OpenRecords, rows: pl.Series, config: LineDedupConfig, threads: int
) -> pl.DataFrame:
    """Cut repeated lines; returns `keep`, `cut`, `cut_bytes` and `characters` of these records."""
    order, size = [], 0
    for _, _, frame in records.each(rows):
        order.append(_order(frame, threads))
        size += text_bytes(frame)
    rank, cutter = _rank(order), LineCutter(config, size, threads)
    for share in range(cutter.shares):
        start = 0
        for _, _, frame in records.each(rows, ("id", "text", "source")):
            cutter.count(frame, rank[start : start + frame.height], share)
            start += frame.height
        cutter.settle()
    found, start = [_NOTHING], 0
    for number, local, frame in records.each(rows, ("id", "text", "source")):
        some = cutter.cut(frame, rank[start : start + frame.height])
        start += frame.height
        found.append(_edited(records, number, local, frame, some))
    return pl.concat(found)


def edit_passages(
    records: OpenRecords, rows: pl.Series, config: SubstringConfig, threads: int
) -> pl.DataFrame:
    """Cut repeated passages; as `edit_lines`.

    Raises:
        ConfigError: The texts are larger than `config.max_memory`.
    """
    size = sum(text_bytes(frame) for _, _, frame in records.each(rows, ("text",)))
    if size > config.max_memory:
        raise ConfigError(
            f"repeats.substrings.max_memory = {int(config.max_memory):,}: the texts have {size:,} "
            "bytes, and a suffix array needs all of them at hand. Give it as many at least, or cut "
            "repeated lines alone (repeats.lines, which needs no more for a larger corpus)"
        )
    frames = [text_frame(frame) for _, _, frame in records.each(rows)]
    if not frames:
        return _NOTHING
    whole, rank = pl.concat(frames), _rank([_order(frame, threads) for frame in frames])
    del frames
    cut, found, start = cut_substrings(whole, rank, config, threads), [], 0
    for number, local, frame in records.each(rows, ("text",)):
        some = cut(start, frame.height)
        start += frame.height
        found.append(_edited(records, number, local, frame, some))
    return pl.concat(found)


_NOTHING = pl.DataFrame(
    schema={"keep": pl.Boolean, "cut": pl.UInt32, "cut_bytes": pl.Int64, "characters": pl.Int64}
)


def _edited(
    records: OpenRecords, number: int, local: pl.Series, frame: pl.DataFrame, found: pl.DataFrame
) -> pl.DataFrame:
    """Store what is left of the texts of a part; of one that is left empty the text stays whole."""
    edited = found["keep"] & (found["cut"] > 0)
    if edited.any():
        texts = records.read(number, ["text"])["text"]
        where = local.filter(edited)
        records.write(number, texts.scatter(where, found["text"].filter(edited)))
    lengths = (text.str.len_chars().cast(pl.Int64) for text in (frame["text"], found["text"]))
    before, after = lengths
    return found.select("keep", "cut", "cut_bytes", characters=before - after)


def _order(frame: pl.DataFrame, threads: int) -> pl.Series:
    some = text_frame(frame)
    order, _ = _core.dedup_order_keys(some["text"], keep_keys(some), threads)
    return pl.Series("order", order, dtype=pl.Binary)


def _rank(order: list[pl.Series]) -> npt.NDArray[np.uint32]:
    """Place of each record in keep order, as `_core.dedup_keep_order` of all of them."""
    if not order:
        return np.empty(0, np.uint32)
    keys = pl.DataFrame({"order": pl.concat(order)}).with_row_index("row").sort("order", "row")
    rank = np.empty(keys.height, np.uint32)
    rank[keys["row"].to_numpy()] = np.arange(keys.height, dtype=np.uint32)
    return rank
