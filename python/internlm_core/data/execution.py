"""One pipeline run: read, normalise, filter, deduplicate, write; killed at any moment, it goes on.

The stages before deduplication run batch by batch, each batch a part in `work/`. Deduplication sees
the texts that are left, all at once. Then the parts are cut into the shards of the run folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from internlm_core import __version__
from internlm_core._files import file_digest, read_json, write_json
from internlm_core._optional import require
from internlm_core._progress import Task
from internlm_core.data.dedup_index import DedupIndex
from internlm_core.data.dedup_on_disk import Decisions, ParquetTexts, find_on_disk
from internlm_core.data.edits import EditSummary
from internlm_core.data.ledger import Counts, IdCheck
from internlm_core.data.map_stages import MapStages, edit_columns
from internlm_core.data.near_duplicates import find_duplicates
from internlm_core.data.parts import Parts
from internlm_core.data.progress import ReadProgress, file_size, megabytes
from internlm_core.data.readers import group_files
from internlm_core.data.repeat_stages import repeat_stages, test_files
from internlm_core.data.run_folder import disk_errors
from internlm_core.data.shards import Shards, WriteBehind, write_parquet
from internlm_core.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from internlm_core.data.config import PipelineConfig
    from internlm_core.data.readers import FoundFiles, InputGroup
    from internlm_core.data.run_folder import RunFolder

    MapEngine = Callable[[Parts, dict[int, InputGroup]], None]


_PER_BYTE, _PER_DOCUMENT = 1.5, 400
"""Memory that deduplication takes for a byte of text and for a document: measured, and some more."""


class Run:
    """One run into one folder; the methods are its steps, in order."""

    def __init__(
        self,
        config: PipelineConfig,
        found: FoundFiles,
        folder: RunFolder,
        threads: int | None,
        *,
        quiet: bool,
        map_engine: MapEngine | None = None,
    ) -> None:
        self._config, self._found, self._folder = config, found, folder
        self._threads = config.threads if threads is None else threads
        self._quiet, self._map_engine = quiet, map_engine
        self._seconds: dict[str, float] = {}
        self._stages = MapStages(config)
        # The report comes last; that it can't be drawn should be known first.
        require("jinja2", extra="data")
        self._parts = Parts(folder.work / "map")

    def finish(self) -> dict[str, Any]:
        """Do what is missing; returns the contents of `run.json`."""
        with self._timed("fingerprint"):
            inputs = self._fingerprints()
        if not self._folder.begin(self._config.identity(), inputs):
            with self._timed("map"):
                self._map()
            with self._timed("repeats"):
                self._repeats()
            with self._timed("dedup"):
                duplicates = self._dedup()
            with self._timed("write"):
                self._write(duplicates)
            self._write_timing()
        run = self._folder.read()
        if not self._folder.report.exists():
            from internlm_core.data.report import write_report

            with disk_errors(self._folder.path):
                write_report(self._folder.path)
        shutil.rmtree(self._folder.work, ignore_errors=True)
        return run

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[step] = round(time.perf_counter() - start, 3)

    def _fingerprints(self) -> list[dict[str, Any]]:
        """Name, size and SHA-256 of each input, and of each file with a test set."""
        entries = []
        tests = test_files(self._config.repeats)
        count = len(self._found.files) + len(tests)
        with Task("Fingerprinting files", count, quiet=self._quiet) as task:
            for number, file in enumerate([*self._found.files, *tests]):
                entry: dict[str, Any] = {"name": file.name, "source": file.defaults.source}
                if number >= len(self._found.files):
                    entry = {"name": f"test set {file.name}", "source": None, "role": "test_set"}
                try:
                    entry |= {"bytes": file.path.stat().st_size, "sha256": file_digest(file.path)}
                except OSError as error:
                    entry |= {"bytes": 0, "error": error.strerror or str(error)}
                entries.append(entry)
                task.advance()
        return entries

    def _write_timing(self) -> None:
        totals = self._folder.read()["totals"]
        timing = {
            "seconds": self._seconds,
            "threads": self._threads or os.cpu_count(),
            "text_bytes": sum(side["bytes"] for side in totals.values()),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        with disk_errors(self._folder.timing_json):
            write_json(self._folder.timing_json, timing)

    # --- map: parts in work/map, each batch of each group of files one part -----------------------

    def _map(self) -> None:
        groups = group_files(self._found.files)
        missing = {n: group for n, group in enumerate(groups) if not self._parts.done(n)}
        if self._map_engine is not None:
            if missing:
                self._map_engine(self._parts, missing)
            return
        sizes = [sum(file_size(file.path) for file in group.files) for group in groups]
        with Task("Reading and filtering, MB", megabytes(sum(sizes)), quiet=self._quiet) as task:
            progress = ReadProgress(task, sum(sizes))
            for number, size in enumerate(sizes):
                if number not in missing:
                    progress.skip(size)
            self._parts.make_groups(
                missing.items(),
                self._config.limits(),
                self._stages,
                self._threads,
                meter=progress.meter,
                report=progress.add,
                finished=lambda number: progress.finish(sizes[number]),
            )

    def _part_paths(self) -> Iterator[Path]:
        return self._parts.paths(len(group_files(self._found.files)))

    # --- repeats: new parts of records, beside what else the map stages told of theirs -----------

    def _repeats(self) -> None:
        if self._config.repeats.enabled and (parts := list(self._part_paths())):
            folder = self._folder.work / "repeats"
            config = self._config.bounded_repeats()
            repeat_stages(config, parts, folder, self._threads, quiet=self._quiet)

    def _open(self) -> tuple[int, int]:
        """Bytes and documents that the map stages left open."""
        notes = [read_json(part.with_suffix(".repaired"))["open"] for part in self._part_paths()]
        return sum(note["bytes"] for note in notes), sum(note["documents"] for note in notes)

    def _decided(self, part: Path) -> Path:
        """The part as the stages before dedup left it."""
        enabled = self._config.repeats.enabled
        return self._folder.work / "repeats" / part.name if enabled else part

    # --- dedup: over the open records of all parts, in memory or on disk --------------------------

    def _dedup(self) -> pl.DataFrame | Decisions | None:
        """What `find_duplicates` says of the open records, in order."""
        if not self._config.dedup.enabled:
            return None
        memory = self._config.dedup_memory
        parts = [self._decided(part) for part in self._part_paths()]
        if self._config.dedup.index is not None:
            return self._dedup_with_index(Path(self._config.dedup.index), parts)
        size, documents = self._open()
        if _PER_BYTE * size + _PER_DOCUMENT * documents > memory:
            sources = [ParquetTexts(part, open_only=True) for part in parts]
            decisions = find_on_disk(
                sources,
                self._config.dedup,
                self._folder.work / "dedup",
                memory=memory,
                threads=self._threads,
                quiet=self._quiet,
            )
            decisions.name_targets(sources)
            return decisions
        path = self._folder.work / "dedup.parquet"
        if not path.exists():
            columns = ["id", "text", "source", "snapshot"]
            frames = [
                pl.read_parquet(part, columns=[*columns, "stage"])
                .filter(pl.col("stage").is_null())
                .select(columns)
                for part in parts
            ]
            if not frames:
                return None
            texts = pl.concat(frames)
            with Task("Finding duplicates", texts.height, quiet=self._quiet) as task:
                found = find_duplicates(texts, self._config.dedup, self._threads)
                task.advance(found.height)
            write_parquet(found, path)
        return pl.read_parquet(path)

    def _dedup_with_index(self, folder: Path, parts: list[Path]) -> Decisions:
        """Compare with an index, and add what stays to it."""
        config = self._config.dedup
        index = DedupIndex.at(folder, config)
        # A run that was added before finds what it found then, and adds nothing.
        run = read_json(self._folder.run_json)
        told = orjson.dumps([run["configuration"], run["inputs"]], option=orjson.OPT_SORT_KEYS)
        with index.locked():
            return index.compare(
                [ParquetTexts(part, open_only=True) for part in parts],
                self._folder.work / "dedup",
                memory=self._config.dedup_memory,
                threads=self._threads,
                quiet=self._quiet,
                name=self._folder.path.name,
                token=hashlib.sha256(told).hexdigest(),
            )

    # --- write: shards, counts, run.json ----------------------------------------------------------

    def _write(self, duplicates: pl.DataFrame | Decisions | None) -> None:
        counts, edits = Counts(), EditSummary()
        notes: dict[str, Counter[str]] = {"repaired": Counter(), "skipped": Counter()}
        read, start = IdCheck(repeats=True), 0
        parts = list(self._part_paths())
        with (
            closing(WriteBehind()) as behind,
            Task("Writing shards", len(parts), quiet=self._quiet) as task,
        ):
            output = Shards(self._folder, self._config.shard_limit, behind)
            for part in parts:
                frame = pl.read_parquet(self._decided(part))
                metrics = pl.read_parquet(part.with_suffix(".metrics"))
                if self._config.repeats.enabled:
                    before = pl.read_parquet(part, columns=["text", "stage"])
                    cut = [name for name in edit_columns(frame) if name.startswith("repeats.")]
                    edits.add(before["text"], frame.select("id", "text", *cut))
                    if metrics.height:
                        # Records may have new ids; those that the rules saw are in their order.
                        seen = before["stage"].is_null() | (before["stage"] == "rules")
                        metrics = metrics.with_columns(frame["id"].filter(seen))
                read.add(frame["id"])
                frame, start = _with_duplicates(frame, duplicates, start, self._config)
                entries = part.with_suffix(".rejected").read_bytes().splitlines(keepends=True)
                counts.add(frame)
                edits.merge(read_json(part.with_suffix(".edits")))
                counts.add_rejected(orjson.loads(entry) for entry in entries)
                found = read_json(part.with_suffix(".repaired"))
                for kind, counter in notes.items():
                    counter.update(found[kind])
                output.push(frame, metrics, entries)
                task.advance()
            shards = output.close()
        written = IdCheck()
        for side in ("kept", "dropped"):
            for shard in self._folder.shards(side):
                written.add(pl.read_parquet(shard, columns=["id"])["id"])
        if written != read:
            raise InternalError(
                f"{self._folder.path}: {read.rows} records were read but {written.rows} written; "
                "please report this, with the configuration"
            )
        run = read_json(self._folder.run_json)
        run |= {
            "status": "complete",
            "version": __version__,
            "versions": {"internlm_core": __version__, "polars": pl.__version__},
            "skipped_files": dict(sorted(self._found.skipped.items())),
            "records": read.rows,
            "repeated_ids": read.repeated,
            "rejected_records": counts.rejected_records,
            "edits": edits.rows(),
            "repaired": dict(sorted(notes["repaired"].items())),
            "skipped_records": dict(sorted(notes["skipped"].items())),
            "totals": counts.totals(),
            "counts": counts.rows(),
            "thresholds": self._stages.thresholds(),
            "rejected": counts.rejected_rows(),
            "faults": counts.faults,
            "shards": shards,
        }
        with disk_errors(self._folder.path):
            write_json(self._folder.run_json, run)


def _with_duplicates(
    frame: pl.DataFrame,
    duplicates: pl.DataFrame | Decisions | None,
    start: int,
    config: PipelineConfig,
) -> tuple[pl.DataFrame, int]:
    """Enter the decisions of dedup, whose rows from `start` on are the open records of `frame`."""
    open_rows = frame["stage"].is_null()
    count = int(open_rows.sum())
    frame = frame.with_columns(
        pl.lit(None, pl.String).alias(name)
        for name in ("duplicate_of", "cluster")
        if name not in frame.columns
    )
    if duplicates is None or not count:
        return frame, start
    found = duplicates.slice(start, count)
    copies = ~found["keep"]
    rows = open_rows.arg_true().filter(copies)
    found = found.filter(copies)
    columns = {
        "stage": pl.lit("dedup"),
        "reason": pl.lit("near_duplicate"),
        "metric": pl.lit("jaccard"),
        "value": pl.col("jaccard").cast(pl.Float64),
        "threshold": pl.lit(config.dedup.threshold),
        "duplicate_of": pl.col("duplicate_of"),
        "cluster": pl.col("cluster"),
    }
    entered = found.select(expression.alias(name) for name, expression in columns.items())
    return frame.with_columns(
        frame[name].clone().scatter(rows, entered[name]) for name in columns
    ), start + count
