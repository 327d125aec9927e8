"""Line files that agree with the checkpoint a run goes on from: nothing lost, nothing doubled."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core._files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

__all__ = ["StepLog"]


class StepLog:
    """A JSONL file whose lines each carry a `step`.

    Args:
        path: The file.
        step: Lines of later steps are taken back: the run does those steps again.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = []
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                # A killed run may leave half a line at the end.
                if not line.endswith(b"\n") or orjson.loads(line)["step"] > step:
                    break
                kept.append(line)
        with atomic_path(path) as partial:
            partial.write_bytes(b"".join(kept))
        self._file = path.open("ab")

    def add(self, **fields: Any) -> None:
        """Append one line and hand it to the system, so that a killed process does not lose it."""
        self._file.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))
        self._file.flush()

    def sync(self) -> None:
        """Force the lines to the disk, before the checkpoint that counts on them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
