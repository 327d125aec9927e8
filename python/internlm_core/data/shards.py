"""Output shards: finished by a rename, cut at the same rows each time, never written twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core._files import atomic_path
from internlm_core.data.ledger import DECISION, LEDGER, ledger_rows
from internlm_core.data.map_stages import edit_columns
from internlm_core.data.records import SCHEMA
from internlm_core.data.run_folder import disk_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from internlm_core.data.run_folder import RunFolder

__all__ = ["LineShardWriter", "ShardWriter", "Shards", "WriteBehind", "write_parquet"]


_BEHIND = 1
"""Shards that are compressed and synced while more rows are collected; each is there three times."""


def write_parquet(frame: pl.DataFrame, path: Path, *, brief: bool = False) -> None:
    """Write a frame, whole or not at all; the same frame gives the same bytes.

    Args:
        frame: What to write.
        path: Where.
        brief: For a file of the run's own that is read once: compressed with less effort.
    """
    with disk_errors(path), atomic_path(path) as partial:
        if brief:
            frame.write_parquet(partial, compression="lz4", statistics=False)
        else:
            frame.write_parquet(partial, compression="zstd", compression_level=3, statistics=True)


class WriteBehind:
    """Writes in threads while more is prepared; `_BEHIND` at a time, so that memory is bounded."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_BEHIND, thread_name_prefix="write-behind")
        self._running: list[Future[None]] = []

    def do(self, work: Callable[[], None]) -> None:
        """Begin `work`, once there is room; an error of earlier work is raised here."""
        while len(self._running) >= _BEHIND:
            self._running.pop(0).result()
        self._running.append(self._pool.submit(work))

    def finish(self) -> None:
        """Wait for all work, and raise the first error."""
        while self._running:
            self._running.pop(0).result()

    def close(self) -> None:
        """Wait for what has begun and forget the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ShardWriter:
    """Cuts a stream of frames into shards; a shard that exists is finished and left alone.

    Args:
        folder: Where the shards go, as `part-00000.parquet`, …
        limit: Bytes after which a shard is closed.
        schema: Columns of the frames; a run without rows leaves one empty shard.
        behind: Writes a shard while the next one is collected.
    """

    def __init__(
        self, folder: Path, limit: int, schema: dict[str, Any], behind: WriteBehind
    ) -> None:
        self._folder, self._limit, self._behind = folder, limit, behind
        self._held: list[pl.DataFrame] = [pl.DataFrame(schema=schema)]
        self._bytes = self._number = 0

    def push(self, frame: pl.DataFrame, sizes: pl.Series) -> None:
        """Add rows in order; `sizes` are their lengths in bytes."""
        while frame.height:
            ends = sizes.cum_sum() + self._bytes
            # A row goes into the shard in which it starts, so that each holds at least one.
            rows = int((ends - sizes < self._limit).sum())
            self._held.append(frame.head(rows))
            self._bytes += int(sizes.head(rows).sum())
            frame, sizes = frame.slice(rows), sizes.slice(rows)
            if self._bytes >= self._limit:
                self._write()

    def close(self) -> int:
        """Write the last shard; returns how many there are."""
        if self._bytes or len(self._held) > 1 or not self._number:
            self._write()
        return self._number

    def _write(self) -> None:
        path = self._folder / f"part-{self._number:05}.parquet"
        if not path.exists():
            held = self._held
            self._behind.do(lambda: write_parquet(pl.concat(held, rechunk=True), path))
        self._held = [self._held[0].clear()]
        self._bytes, self._number = 0, self._number + 1


class LineShardWriter:
    """`ShardWriter` for JSON lines."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._held: list[bytes] = []
        self._bytes = self._number = 0

    def push(self, lines: list[bytes]) -> None:
        """Add lines."""
        for line in lines:
            self._held.append(line)
            self._bytes += len(line)
            if self._bytes >= self._limit:
                self._write()

    def close(self) -> int:
        """Write the last shard; returns how many there are, 0 without lines."""
        if self._held:
            self._write()
        return self._number

    def _write(self) -> None:
        path = self._folder / f"part-{self._number:05}.jsonl"
        if not path.exists():
            with disk_errors(path), atomic_path(path) as partial:
                partial.write_bytes(b"".join(self._held))
        self._held, self._bytes, self._number = [], 0, self._number + 1


class Shards:
    """The shards of a run folder, written side by side; after `close` all are there.

    Args:
        folder: The run folder.
        limit: Bytes after which a shard is closed.
        behind: Writes them.
    """

    def __init__(self, folder: RunFolder, limit: int, behind: WriteBehind) -> None:
        self._folder, self._limit, self._behind = folder, limit, behind
        duplicate = {"duplicate_of": pl.String, "cluster": pl.String}
        dropped = {**SCHEMA, **DECISION, **duplicate}
        self._kept = ShardWriter(folder.path / "kept", limit, SCHEMA, behind)
        self._dropped = ShardWriter(folder.path / "dropped", limit, dropped, behind)
        self._ledger = ShardWriter(folder.path / "ledger", limit, LEDGER, behind)
        self._metrics: ShardWriter | None = None
        self._lines = LineShardWriter(folder.path / "rejected", limit)

    def push(self, frame: pl.DataFrame, metrics: pl.DataFrame, rejected: list[bytes]) -> None:
        """Add one part."""
        kept = frame["stage"].is_null()
        edits = edit_columns(frame)
        size = frame["text"].str.len_bytes()
        self._kept.push(frame.filter(kept).select(list(SCHEMA)), size.filter(kept))
        dropped = frame.filter(~kept).drop(edits)
        self._dropped.push(dropped, size.filter(~kept))
        ledger = ledger_rows(frame, edits)
        self._ledger.push(ledger, _flat_sizes(ledger))
        if self._metrics is None:
            schema = dict(metrics.schema)
            folder = self._folder.path / "metrics"
            self._metrics = ShardWriter(folder, self._limit, schema, self._behind)
        self._metrics.push(metrics, _flat_sizes(metrics))
        self._lines.push(rejected)

    def close(self) -> dict[str, int]:
        """Finish all shards; returns their numbers."""
        numbers = {
            "kept": self._kept.close(),
            "dropped": self._dropped.close(),
            "ledger": self._ledger.close(),
            "metrics": self._metrics.close() if self._metrics else 0,
            "rejected": self._lines.close(),
        }
        self._behind.finish()
        return numbers


def _flat_sizes(frame: pl.DataFrame) -> pl.Series:
    """A row of numbers and short words counts as eight bytes a column."""
    return pl.repeat(8 * frame.width, frame.height, dtype=pl.Int64, eager=True)
