"""How far the reading of a corpus is: documents, MB/s, and when it will be done."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from internlm_core._streams import ReadMeter

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core._progress import Task
    from internlm_core.data.records import Batch

__all__ = ["ReadProgress", "duration_text", "file_size", "megabytes"]


class ReadProgress:
    """Moves a task whose steps are megabytes of input files.

    The rate is that of input bytes, compressed as they lie on disk, so that the time left follows
    from the sizes of the files.

    Args:
        task: The running task.
        total: Bytes of all input files.
    """

    def __init__(self, task: Task, total: int) -> None:
        self.meter = ReadMeter()
        self._task, self._total = task, total
        # Bytes of finished files, of those that an earlier run had finished, steps shown.
        self._finished = self._skipped = self._shown = 0
        self._documents = self._text_bytes = 0
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def skip(self, size: int) -> None:
        """Files were finished by an earlier run."""
        with self._lock:
            self._finished += size
            self._skipped += size
            self._show(self._finished)

    def add(self, batch: Batch) -> None:
        """A batch went through the stages."""
        with self._lock:
            self._documents += batch.records.height
            self._text_bytes += int(batch.records["text"].str.len_bytes().sum())
            self._show(self._finished + self.meter.bytes)

    def finish(self, size: int) -> None:
        """The files of a group are done; how much of them was metered no longer matters."""
        with self._lock:
            self._finished += size
            self.meter.bytes = 0
            self._show(self._finished)

    def note(self, reached: int) -> str:
        """Documents, MB/s of text, and the time left, at `reached` bytes of input."""
        seconds = max(time.monotonic() - self._start, 1e-3)
        words = f"{self._documents:,} documents, {self._text_bytes / 1e6 / seconds:.1f} MB/s"
        done = reached - self._skipped
        if done > 0:
            left = max(self._total - reached, 0) * seconds / done
            words += f", ETA {duration_text(left)}"
        return words

    def _show(self, reached: int) -> None:
        steps = megabytes(min(reached, self._total))
        self._task.advance(max(steps - self._shown, 0), self.note(reached))
        self._shown = max(steps, self._shown)


def duration_text(seconds: float) -> str:
    """`1:02:03`, whole seconds."""
    return str(timedelta(seconds=round(seconds)))


def megabytes(size: int) -> int:
    """Bytes in megabytes, rounded up."""
    return -(-size // 1_000_000)


def file_size(path: Path) -> int:
    """Size of a file, 0 where there is none to read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
