"""`manifest.json`: size and SHA-256 of every file of a folder, written last."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from internlm_core._files import file_digest, read_json, write_json
from internlm_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MANIFEST", "verify_manifest", "write_manifest"]

MANIFEST = "manifest.json"


def write_manifest(folder: str | Path) -> None:
    """Hash every file below `folder`; to be called when all of them are in place."""
    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    }
    write_json(folder / MANIFEST, {"files": files})


def verify_manifest(
    folder: str | Path, only: Iterable[str] | None = None, *, hashes: bool = True
) -> None:
    """Compare a folder with its manifest.

    Args:
        folder: The folder that holds `manifest.json`.
        only: Names of the files to look at; all when None.
        hashes: Compare contents too, not sizes alone.

    Raises:
        CheckpointError: The manifest is missing or broken, or a file is missing, cut or altered.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        files = read_json(path)["files"]
    except OSError:
        raise CheckpointError(f"{path}: missing, so the checkpoint was never completed") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise CheckpointError(f"{path}: broken; use another checkpoint") from None
    for name in files if only is None else only:
        file = folder / name
        if name not in files:
            raise CheckpointError(f"{file}: not in {MANIFEST}; it was added later")
        if not file.is_file():
            raise CheckpointError(f"{file}: missing, though {MANIFEST} lists it")
        if file.stat().st_size != files[name]["bytes"]:
            raise CheckpointError(
                f"{file}: {file.stat().st_size} bytes, {MANIFEST} says {files[name]['bytes']}:"
                " the file is cut or was replaced"
            )
        if hashes and file_digest(file) != files[name]["sha256"]:
            raise CheckpointError(f"{file}: altered since it was written (SHA-256 differs)")
