"""Parts of an unfinished run: what the map stages made of each batch of each group of files.

A part takes its name when it is whole, and a group's `.json` says how many parts it has, so whoever
comes after a kill, or works beside this process, knows what is left to do.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import polars as pl

from internlm_core._files import atomic_path, read_json, write_json
from internlm_core._read_ahead import read_ahead
from internlm_core.data.edits import EditSummary
from internlm_core.data.readers import read_batches
from internlm_core.data.run_folder import disk_errors
from internlm_core.data.shards import write_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from internlm_core._streams import ReadMeter
    from internlm_core.data.map_stages import MapStages
    from internlm_core.data.readers import InputGroup, ReadLimits
    from internlm_core.data.records import Batch

__all__ = ["IN_FLIGHT", "Parts"]

IN_FLIGHT = 2
"""Batches in work at once, so that one computes while another one is written and synced."""


class Parts:
    """The parts in `work/map` of a run folder.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def done(self, group: int) -> bool:
        """Whether all parts of a group are there."""
        return self._done(group).exists()

    def paths(self, groups: int) -> Iterator[Path]:
        """Finished parts of all groups, in the order of the input."""
        for group in range(groups):
            for part in range(read_json(self._done(group))["parts"]):
                yield self._path(group, part)

    def make_group(
        self,
        number: int,
        group: InputGroup,
        limits: ReadLimits,
        stages: MapStages,
        threads: int,
        *,
        meter: ReadMeter | None = None,
        report: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        """Read a group of files and make the parts of it that are missing.

        Args:
            number: The group's place in the input.
            group: Its files.
            limits: How much is held at once.
            stages: The map stages.
            threads: Threads of a stage, 0 for all cores.
            meter: Counts the bytes that were read.
            report: Called with each batch whose part is there.
        """
        parts = 0
        running: dict[Future[None], Batch] = {}
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="map") as pool:
            try:
                for batch in read_ahead(
                    read_batches(group, limits), meter.attach if meter else None
                ):
                    future = pool.submit(
                        self._make, self._path(number, parts), batch, stages, threads
                    )
                    running[future] = batch
                    parts += 1
                    # Let go of it, or the last batch would stay while the next is awaited.
                    del batch
                    if len(running) >= IN_FLIGHT:
                        _collect(running, report)
                while running:
                    _collect(running, report)
            except BaseException:
                for future in running:
                    future.cancel()
                raise
        with disk_errors(self._done(number)):
            write_json(self._done(number), {"parts": parts})

    def _make(self, path: Path, batch: Batch, stages: MapStages, threads: int) -> None:
        if path.exists():
            return
        frame, metrics = stages.run(batch.records, threads)
        write_parquet(metrics, path.with_suffix(".metrics"), brief=True)
        with disk_errors(path):
            with atomic_path(path.with_suffix(".rejected")) as partial:
                partial.write_bytes(b"".join(entry.to_json() for entry in batch.rejected))
            # What is still open says how much memory the stages over all records will take.
            left = frame["text"].filter(frame["stage"].is_null())
            size = int(left.str.len_bytes().cast(pl.Int64).sum())
            open_ = {"documents": len(left), "bytes": size}
            notes = {"repaired": batch.repaired, "skipped": batch.skipped, "open": open_}
            write_json(path.with_suffix(".repaired"), notes)
            edits = EditSummary()
            edits.add(batch.records["text"], frame)
            write_json(path.with_suffix(".edits"), edits.rows())
        # Last, for its name says that the part is whole.
        write_parquet(frame, path, brief=True)

    def _path(self, group: int, part: int) -> Path:
        return self.folder / f"{group:06}-{part:06}.parquet"

    def _done(self, group: int) -> Path:
        return self.folder / f"{group:06}.json"


def _collect(running: dict[Future[None], Batch], report: Callable[[Batch], None]) -> None:
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in finished:
        batch = running.pop(future)
        future.result()
        report(batch)
