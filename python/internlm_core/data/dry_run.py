"""What a run would do, told from a sample: read, judged, and timed, with nothing written."""

from __future__ import annotations

import io
import tempfile
import time
from collections import Counter
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from internlm_core._streams import ReadMeter
from internlm_core.data.ledger import DECISION
from internlm_core.data.map_stages import MapStages
from internlm_core.data.near_duplicates import find_duplicates
from internlm_core.data.progress import file_size
from internlm_core.data.readers import group_files, read_batches
from internlm_core.data.records import SCHEMA
from internlm_core.data.repeat_stages import repeat_stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from internlm_core.data.config import PipelineConfig
    from internlm_core.data.readers import FoundFiles, InputGroup
    from internlm_core.data.records import Batch

__all__ = ["DryRun", "dry_run"]

_BATCHES, _BATCH_BYTES = 8, 8 * 1024 * 1024
"""The sample: the starts of some groups of files spread over the input."""


@dataclass
class DryRun:
    """What the sample says of the whole.

    Attributes:
        input_bytes: Size of all input files as they lie on disk.
        sample_bytes: How much of it was read.
        records: Records in the sample.
        kept: Of those, kept by all stages; copies and repeated text across samples are rare where
            those across the whole input may not be, so this is an upper bound.
        text_bytes: Bytes of text in the sample.
        rejected: Lines, rows and files that gave no record.
        dropped: Documents by stage and reason.
        seconds: What reading, judging, deduplicating and compressing the sample took.
    """

    input_bytes: int = 0
    sample_bytes: int = 0
    records: int = 0
    kept: int = 0
    text_bytes: int = 0
    rejected: int = 0
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def scale(self) -> float:
        """How many times the sample the whole is."""
        return self.input_bytes / self.sample_bytes if self.sample_bytes else 0.0

    @property
    def estimated_seconds(self) -> float:
        """How long the whole would take here."""
        return self.seconds * self.scale

    @property
    def estimated_records(self) -> int:
        """How many records the whole would give."""
        return round(self.records * self.scale)

    @property
    def estimated_kept(self) -> int:
        """How many of them would be kept."""
        return round(self.kept * self.scale)


def dry_run(config: PipelineConfig, found: FoundFiles) -> DryRun:
    """Take a sample of the input through all stages, in memory."""
    result = DryRun()
    groups = group_files(found.files)
    result.input_bytes = sum(_size(group) for group in groups)
    stages = MapStages(config)
    limits = config.limits()
    limits = replace(limits, batch_bytes=_BATCH_BYTES)
    frames = []
    for group in _spread(groups):
        start = time.perf_counter()
        batches = read_batches(group, limits)
        batch, size = copy_context().run(_first, batches)
        if batch is None:
            continue
        decided, _ = stages.run(batch.records, config.threads)
        result.seconds += time.perf_counter() - start
        result.sample_bytes += min(size or _share(group, batch), _size(group))
        result.records += batch.records.height
        result.text_bytes += int(batch.records["text"].str.len_bytes().sum())
        result.rejected += sum(entry.is_record for entry in batch.rejected)
        frames.append(decided.select(*SCHEMA, *DECISION))
    if frames:
        _finish(result, pl.concat(frames), config)
    return result


def _finish(result: DryRun, frame: pl.DataFrame, config: PipelineConfig) -> None:
    """What comes after the map stages: duplicates, and each record is compressed twice."""
    start = time.perf_counter()
    result.dropped.update(frame.select("stage", "reason").drop_nulls("stage").iter_rows())
    left = frame.filter(pl.col("stage").is_null())
    if config.repeats.enabled and left.height:
        decided = _repeats(left, config)
        result.dropped.update(decided.select("stage", "reason").drop_nulls("stage").iter_rows())
        left = decided.filter(pl.col("stage").is_null())
    result.kept = left.height
    if config.dedup.enabled and left.height:
        copies = int((~find_duplicates(left, config.dedup, config.threads)["keep"]).sum())
        result.kept -= copies
        if copies:
            result.dropped["dedup", "near_duplicate"] += copies
    for _ in range(2):
        frame.write_parquet(io.BytesIO(), compression="zstd", compression_level=3)
    result.seconds += time.perf_counter() - start


def _repeats(records: pl.DataFrame, config: PipelineConfig) -> pl.DataFrame:
    """The records as the stages of `repeats` leave them; these work on files."""
    with tempfile.TemporaryDirectory(prefix="dry-run-") as temporary:
        part, folder = Path(temporary, "part.parquet"), Path(temporary, "repeats")
        records.write_parquet(part)
        (done,) = repeat_stages(config.repeats, [part], folder, config.threads, quiet=True)
        return pl.read_parquet(done)


def _first(batches: object) -> tuple[Batch | None, int]:
    """The first batch, and how many bytes of the file were read for it."""
    meter = ReadMeter()
    meter.attach()
    batch: Batch | None = next(batches, None)  # type: ignore[call-overload]
    return batch, meter.bytes


def _share(group: InputGroup, batch: Batch) -> int:
    """Bytes of a Parquet file that a batch of it stands for, by rows."""
    (file,) = group.files
    if file.kind != "parquet":
        return _size(group)
    try:
        rows = pl.scan_parquet(file.path, glob=False).select(pl.len()).collect().item()
    except (OSError, pl.exceptions.PolarsError):
        return _size(group)
    return round(_size(group) * min(batch.records.height / max(int(rows), 1), 1.0))


def _spread(groups: Sequence[InputGroup]) -> list[InputGroup]:
    """Some of the groups, evenly spread."""
    count = min(len(groups), _BATCHES)
    return [groups[number * len(groups) // count] for number in range(count)]


def _size(group: InputGroup) -> int:
    return sum(file_size(file.path) for file in group.files)
