"""Deduplication of a corpus larger than memory: the outcome of the one in memory, over files.

What is in memory is a chunk of texts, buffers, and some 40 bytes a document. `docs/dedup.md` says what
lies in the folder, `rust/dedup/src/external.rs` how it is done.
"""

from __future__ import annotations

import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from internlm_core import _core
from internlm_core._progress import Task
from internlm_core._read_ahead import read_ahead
from internlm_core.data.dedup_input import COLUMNS, code_rows, keep_keys
from internlm_core.data.run_folder import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from internlm_core.data.near_duplicates import DedupConfig

__all__ = [
    "Decisions",
    "FrameTexts",
    "ParquetTexts",
    "Texts",
    "all_ids",
    "as_frame",
    "decide",
    "dedup_streamed",
    "find_on_disk",
    "sign",
    "staged",
]


_READERS = 4
"""Most threads that read texts side by side; each holds some."""


class Texts(Protocol):
    """Documents that can be read more than once, always the same in the same order."""

    @property
    def rows(self) -> int:
        """How many they are."""

    def read(self, columns: Sequence[str] = COLUMNS) -> pl.DataFrame:
        """Those of some of `COLUMNS` that there are."""


@dataclass(frozen=True)
class FrameTexts:
    """Documents of a frame in memory."""

    frame: pl.DataFrame

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.frame.height

    def read(self, columns: Sequence[str] = COLUMNS) -> pl.DataFrame:
        """Those of some of `COLUMNS` that there are."""
        return self.frame.select(name for name in columns if name in self.frame.columns)


class ParquetTexts:
    """Documents of a Parquet file.

    Args:
        path: The file.
        open_only: Only rows whose `stage` is null, those that no stage has decided against.
    """

    def __init__(self, path: Path, *, open_only: bool = False) -> None:
        self._path, self._open_only = path, open_only
        self._names = pl.read_parquet_schema(path).keys()

    @functools.cached_property
    def _open(self) -> pl.Series:
        return pl.read_parquet(self._path, columns=["stage"])["stage"].is_null()

    @functools.cached_property
    def rows(self) -> int:
        """How many they are."""
        if self._open_only:
            return int(self._open.sum())
        return int(pl.scan_parquet(self._path).select(pl.len()).collect().item())

    def read(self, columns: Sequence[str] = COLUMNS) -> pl.DataFrame:
        """Those of some of `COLUMNS` that there are."""
        frame = pl.read_parquet(self._path, columns=[n for n in columns if n in self._names])
        return frame.filter(self._open) if self._open_only else frame


@dataclass
class Decisions:
    """What was decided of each document, by number; those of an index come first.

    Attributes:
        keep: Whether it stays.
        duplicate_of: Number of the kept document that it is like; its own where it is kept.
        jaccard: Similarity to it.
        fixed: How many documents are an index's.
        effort: Copies, candidates, comparisons, and documents not compared with all candidates.
    """

    keep: npt.NDArray[np.bool_]
    duplicate_of: npt.NDArray[np.uint32]
    jaccard: npt.NDArray[np.float64]
    fixed: int
    effort: tuple[int, int, int, int]
    _targets: npt.NDArray[np.uint32] | None = None
    _target_ids: pl.Series | None = None

    def name_targets(self, texts: Sequence[Texts], *, as_strings: bool = False) -> None:
        """Read the ids of the documents that others are duplicates of; `texts` are all, in order."""
        self._targets = targets = np.unique(self.duplicate_of[~self.keep])
        starts = np.cumsum([0, *(source.rows for source in texts)])
        bounds = np.searchsorted(targets, starts)

        def read(number: int) -> pl.Series:
            rows = targets[bounds[number] : bounds[number + 1]] - starts[number]
            some = texts[number].read(["id"])["id"].gather(rows)
            return some.cast(pl.String) if as_strings else some

        named = [number for number in range(len(texts)) if bounds[number] < bounds[number + 1]]
        with ThreadPoolExecutor(_READERS, thread_name_prefix="names") as pool:
            ids = list(pool.map(read, named))
        self._target_ids = pl.concat(ids) if ids else pl.Series("id", [], dtype=pl.String)

    def slice(self, start: int, count: int) -> pl.DataFrame:
        """Rows from `start` on, counted without an index's.

        Returns:
            `keep`, and, null where a document is kept, `jaccard`, `duplicate_of` and `cluster`, which
            are the id of the kept document.
        """
        rows = slice(self.fixed + start, self.fixed + start + count)
        keep = pl.Series("keep", self.keep[rows])
        if self._targets is None or self._target_ids is None:
            raise ValueError("name_targets comes first")
        place = np.searchsorted(self._targets, self.duplicate_of[rows])
        names = self._target_ids.gather(pl.Series(place).set(keep, None))
        return pl.DataFrame(
            {
                "keep": keep,
                "jaccard": pl.Series(self.jaccard[rows]).set(keep, None),
                "duplicate_of": names,
                "cluster": names,
            }
        )


def find_on_disk(
    texts: Sequence[Texts],
    config: DedupConfig,
    folder: Path,
    *,
    memory: int,
    threads: int = 0,
    quiet: bool = True,
    corpus: int = 0,
) -> Decisions:
    """Find near-duplicates with bounded memory.

    Killed at any moment, it goes on from the files that are whole when it is called again.

    Args:
        texts: The documents; their order does not matter.
        config: As for `dedup`.
        folder: Where the files go, by themselves; it is made if need be.
        memory: Bytes to use beside what the process has already; a chunk is a twelfth of it.
        threads: 0 means all cores.
        quiet: Show no progress.
        corpus: A number that other documents do not have: files of those do not count.

    Raises:
        DataError: The disk is full, or a file was altered while it was used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = _core.DedupWork(str(folder), config.options(), memory, corpus, threads=threads)
    sign(work, texts, config, memory, quiet=quiet)
    return decide(work, texts, config, quiet=quiet)


def sign(
    work: _core.DedupWork, texts: Sequence[Texts], config: DedupConfig, memory: int, *, quiet: bool
) -> None:
    """Sign those of `texts` that are not signed yet."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="count") as pool:
        total = sum(pool.map(lambda source: source.rows, texts))
    # In memory while a chunk is sorted: a key twice, with its document; or the signature twice.
    a_row = 24 * config.bands + 256 + 8 * config.permutations * (config.verify == "signature")
    # One chunk is signed while the next one is read.
    limits = memory // 12, max(1, memory // 12 // a_row)
    done = work.signed()
    with Task("Signing documents", total, quiet=quiet) as task:
        task.advance(sum(rows for _, rows in done))
        start = 0
        for first, rows in [*done, (total, 0)]:
            gap = _rows(texts, start, first)
            for chunk in read_ahead(_chunks(gap, *limits)):
                code = code_rows(chunk, config.unit)
                work.sign(start, chunk["text"], code, keep_keys(chunk))
                start += chunk.height
                task.advance(chunk.height)
            start = first + rows


def decide(
    work: _core.DedupWork,
    texts: Sequence[Texts],
    config: DedupConfig,
    *,
    earlier: Sequence[Texts] = (),
    quiet: bool,
) -> Decisions:
    """Group what is signed, collect the texts that are to be compared, and compare them.

    `earlier` are the documents of an index, which `work` counts first.
    """
    with Task("Grouping by bands", 1, quiet=quiet) as task:
        parts = work.group()
        task.advance()
    if config.verify == "exact":
        firsts = _collect(work, [*earlier, *texts], config, quiet=quiet)
    else:
        firsts = work.firsts()
    with Task("Comparing documents, parts", parts, quiet=quiet) as task:
        for part in range(parts):
            work.decide(part, firsts)
            task.advance()
    keep, duplicate_of, jaccard, effort = work.outcome()
    return Decisions(keep, duplicate_of, jaccard, work.fixed, effort)


def _collect(
    work: _core.DedupWork,
    texts: Sequence[Texts],
    config: DedupConfig,
    *,
    quiet: bool,
) -> list[int]:
    """Collect what is to be compared; returns the first document of each file of contents."""
    # Whole sources at a time, so that each is read once; less than is signed at once, for several
    # are read side by side.
    most = max((rows for _, rows in work.signed()), default=0) // 4
    spans: list[tuple[int, int]] = []
    start = 0
    for source in texts:
        if spans and spans[-1][1] + source.rows <= most:
            spans[-1] = (spans[-1][0], spans[-1][1] + source.rows)
        elif source.rows:
            spans.append((start, source.rows))
        start += source.rows

    def collect(span: tuple[int, int]) -> int:
        first, rows = span
        if not work.is_collected(first):
            # Where no document shares a band with another one, nothing is read.
            frames = [pl.DataFrame(schema={"text": pl.String})]
            if work.compared(first, rows).any():
                frames = list(_rows(texts, first, first + rows, ("text", "source")))
            frame = pl.concat(frames)
            work.collect(first, frame["text"], code_rows(frame, config.unit))
        return rows

    workers = _READERS
    with (
        Task("Collecting texts", start, quiet=quiet) as task,
        ThreadPoolExecutor(workers, thread_name_prefix="collect") as pool,
    ):
        for rows in pool.map(collect, spans):
            task.advance(rows)
    return [first for first, _ in spans]


def _rows(
    texts: Sequence[Texts], start: int, end: int, columns: Sequence[str] = COLUMNS
) -> Iterator[pl.DataFrame]:
    """Documents by number, of each source those that are asked for."""
    first = 0
    for source in texts:
        low, high = max(start - first, 0), min(end - first, source.rows)
        if low < high:
            frame = source.read(columns)
            yield frame.slice(low, high - low)
        first += source.rows


def _chunks(
    frames: Iterator[pl.DataFrame], most_bytes: int, most_rows: int
) -> Iterator[pl.DataFrame]:
    """The same rows, in frames as large as the limits allow; a text beyond them comes alone."""
    held: list[pl.DataFrame] = []
    size = rows = 0
    for frame in frames:
        while frame.height:
            lengths = frame["text"].str.len_bytes().fill_null(0).cast(pl.Int64)
            ends = lengths.cum_sum() + size
            fit = min(int((ends <= most_bytes).sum()), most_rows - rows)
            fit = fit or int(not held)
            if fit:
                held.append(frame.head(fit))
                size, rows = int(ends[fit - 1]), rows + fit
            frame = frame.slice(fit)
            if frame.height:
                yield pl.concat(held)
                held, size, rows = [], 0, 0
    if held:
        yield pl.concat(held)


def dedup_streamed(
    frames: Iterator[pl.DataFrame] | pl.DataFrame,
    config: DedupConfig,
    folder: str | Path | None,
    threads: int,
) -> pl.DataFrame:
    """As `dedup`, within `config.max_memory`: of frames that are read once, or of one in memory."""
    memory = int(config.max_memory or 0)
    with tempfile.TemporaryDirectory(prefix="dedup-", dir=folder) as temporary:
        work = Path(temporary)
        texts = staged(frames, work, memory)
        found = find_on_disk(texts, config, work / "runs", memory=memory, threads=threads)
        found.name_targets(texts)
        return as_frame(found, all_ids(texts))


def staged(frames: Iterator[pl.DataFrame] | pl.DataFrame, folder: Path, memory: int) -> list[Texts]:
    """Frames as texts that can be read more than once: a query's or files' are written to `folder`.

    Raises:
        DataError: The disk is full.
    """
    if isinstance(frames, pl.DataFrame):
        size = max(1, int(frames["text"].str.len_bytes().cast(pl.Int64).sum()))
        rows = max(1, frames.height * (memory // 16) // size)
        return [FrameTexts(frames[start : start + rows]) for start in range(0, frames.height, rows)]
    texts: list[Texts] = []
    for number, frame in enumerate(_chunks(frames, memory // 16, memory // 512)):
        path = folder / f"part-{number:06}.parquet"
        with disk_errors(path):
            frame.write_parquet(path, compression="lz4")
        texts.append(ParquetTexts(path))
    return texts


def all_ids(texts: Sequence[Texts]) -> pl.Series:
    """The ids of all documents, in order."""
    ids = [source.read(["id"])["id"] for source in texts]
    return pl.concat(ids) if ids else pl.Series("id", [], dtype=pl.String)


def as_frame(decisions: Decisions, ids: pl.Series) -> pl.DataFrame:
    """What `dedup` returns, for the documents with these ids."""
    found = decisions.slice(0, len(ids))
    columns: dict[str, Any] = {
        "id": ids,
        "cluster": found["cluster"].fill_null(ids),
        "keep": found["keep"],
        "jaccard": found["jaccard"],
        "duplicate_of": found["duplicate_of"],
    }
    return pl.DataFrame(columns)
