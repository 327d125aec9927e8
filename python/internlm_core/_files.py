"""Files that are whole or absent: written beside, synced, then renamed into place."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core.errors import InternlmError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FolderBusyError",
    "atomic_folder",
    "atomic_path",
    "file_digest",
    "folder_lock",
    "read_json",
    "remove_leftovers",
    "write_json",
]

_PARTIAL = ".partial-"


class FolderBusyError(InternlmError):
    """Another process works in the folder."""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; it takes the name `path` only when the block ends without error.

    Raises:
        OSError: The disk is full or the folder can't be written; nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """As `atomic_path` for a folder; a folder already at `path` is replaced at the end."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_PARTIAL}{uuid.uuid4().hex[:8]}-{path.name}")
    partial.mkdir()
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                _sync(file)
        _sync(partial)
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Hold `folder` for this process; the lock goes with the process, however it ends.

    Raises:
        FolderBusyError: Another process holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusyError(
                f"{folder}: another run works in this folder; wait for it, or choose another folder"
            ) from None
        yield


def remove_leftovers(folder: str | Path) -> None:
    """Remove what a killed process had half written in `folder` (not below it)."""
    for partial in Path(folder).glob(f"{_PARTIAL}*"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    with atomic_path(path) as partial:
        partial.write_bytes(orjson.dumps(value, option=options | orjson.OPT_SERIALIZE_NUMPY))


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return orjson.loads(Path(path).read_bytes())


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hex digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
