"""Output shards: finished by a rename, cut at the same rows each time, never written twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core._files import atomic_path
from internlm_core.data.ledger import DECISION, LEDGER, ledger_rows
from internlm_core.data.map_stages import edit_columns
from internlm_core.data.records import SCHEMA
from internlm_core.data.run_folder import disk_errors

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.data.run_folder import RunFolder

__all__ = ["LineShardWriter", "ShardWriter", "Shards", "write_parquet"]


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame, whole or not at all; the same frame gives the same bytes."""
    with disk_errors(path), atomic_path(path) as partial:
        frame.write_parquet(partial, compression="zstd", compression_level=3, statistics=True)


class ShardWriter:
    """Cuts a stream of frames into shards; a shard that exists is finished and left alone.

    Args:
        folder: Where the shards go, as `part-00000.parquet`, …
        limit: Bytes after which a shard is closed.
        schema: Columns of the frames; a run without rows leaves one empty shard.
    """

    def __init__(self, folder: Path, limit: int, schema: dict[str, Any]) -> None:
        self._folder, self._limit = folder, limit
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
            write_parquet(pl.concat(self._held, rechunk=True), path)
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
    """The shards of a run folder, written side by side."""

    def __init__(self, folder: RunFolder, limit: int) -> None:
        self._folder, self._limit = folder, limit
        duplicate = {"duplicate_of": pl.String, "cluster": pl.String}
        dropped = {**SCHEMA, **DECISION, **duplicate}
        self._kept = ShardWriter(folder.path / "kept", limit, SCHEMA)
        self._dropped = ShardWriter(folder.path / "dropped", limit, dropped)
        self._ledger = ShardWriter(folder.path / "ledger", limit, LEDGER)
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
            self._metrics = ShardWriter(self._folder.path / "metrics", self._limit, schema)
        self._metrics.push(metrics, _flat_sizes(metrics))
        self._lines.push(rejected)

    def close(self) -> dict[str, int]:
        """Finish all shards; returns their numbers."""
        return {
            "kept": self._kept.close(),
            "dropped": self._dropped.close(),
            "ledger": self._ledger.close(),
            "metrics": self._metrics.close() if self._metrics else 0,
            "rejected": self._lines.close(),
        }


def _flat_sizes(frame: pl.DataFrame) -> pl.Series:
    """A row of numbers and short words counts as eight bytes a column."""
    return pl.repeat(8 * frame.width, frame.height, dtype=pl.Int64, eager=True)
