"""Parts of an unfinished run: what the map stages made of each batch of each group of files.

A part takes its name when it is whole, and a group's `.json` says how many parts it has, so whoever
comes after a kill, or works beside this process, knows what is left to do.
"""

from __future__ import annotations

from collections import Counter
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
    from collections.abc import Callable, Iterable, Iterator
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

    def make_groups(
        self,
        groups: Iterable[tuple[int, InputGroup]],
        limits: ReadLimits,
        stages: MapStages,
        threads: int,
        *,
        meter: ReadMeter | None = None,
        report: Callable[[Batch], None] = lambda _: None,
        finished: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Read groups of files and make the parts of them that are missing.

        A group is begun while the last batches of the one before are in work, so that no core waits
        at the end of a file.

        Args:
            groups: Places in the input, and files.
            limits: How much is held at once.
            stages: The map stages.
            threads: Threads of a stage, 0 for all cores.
            meter: Counts the bytes that were read.
            report: Called with each batch whose part is there.
            finished: Called with the place of each group whose parts are there.
        """
        progress = _Progress(report, lambda number, parts: self._finish(number, parts, finished))
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="map") as pool:
            try:
                for number, part, batch in read_ahead(
                    _batches(groups, limits), meter.attach if meter else None
                ):
                    if batch is None:
                        progress.expect(number, part)
                        continue
                    path = self._path(number, part)
                    progress.add(
                        number, pool.submit(self._make, path, batch, stages, threads), batch
                    )
                    # Let go of it, or the last batch would stay while the next is awaited.
                    del batch
                    progress.wait(IN_FLIGHT - 1)
                progress.wait(0)
            except BaseException:
                progress.cancel()
                raise

    def _finish(self, number: int, parts: int, finished: Callable[[int], None]) -> None:
        with disk_errors(self._done(number)):
            write_json(self._done(number), {"parts": parts})
        finished(number)

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


def _batches(
    groups: Iterable[tuple[int, InputGroup]], limits: ReadLimits
) -> Iterator[tuple[int, int, Batch | None]]:
    """Group, part and batch; after a group's last batch nothing, with the number of its parts."""
    for number, group in groups:
        part = 0
        for batch in read_batches(group, limits):
            yield number, part, batch
            part += 1
            del batch
        yield number, part, None


class _Progress:
    """Batches in work, and which groups wait for some."""

    def __init__(self, report: Callable[[Batch], None], finish: Callable[[int, int], None]) -> None:
        self._report, self._finish = report, finish
        self._running: dict[Future[None], tuple[int, Batch]] = {}
        self._left: Counter[int] = Counter()
        self._expected: dict[int, int] = {}

    def add(self, number: int, future: Future[None], batch: Batch) -> None:
        """A batch of a group is in work."""
        self._running[future] = number, batch
        self._left[number] += 1

    def expect(self, number: int, parts: int) -> None:
        """A group has been read; it is finished with the last of its batches in work."""
        self._expected[number] = parts
        self._settle(number)

    def wait(self, most: int) -> None:
        """Wait until at most so many are in work; raises what went wrong in one."""
        while len(self._running) > most:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                number, batch = self._running.pop(future)
                future.result()
                self._report(batch)
                self._left[number] -= 1
                self._settle(number)

    def cancel(self) -> None:
        """Begin nothing more."""
        for future in self._running:
            future.cancel()

    def _settle(self, number: int) -> None:
        if number in self._expected and not self._left[number]:
            del self._left[number]
            self._finish(number, self._expected.pop(number))
