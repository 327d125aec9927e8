"""Checkpoints `step-N/`: a Hugging Face folder plus `trainer/`, whole or absent.

A folder is written beside, synced and renamed, its manifest of hashes last. The newest complete one
is found by looking: no pointer file that could name a half-written one.
"""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core._files import atomic_folder, read_json, remove_leftovers, write_json
from internlm_core._optional import require
from internlm_core.errors import CheckpointError
from internlm_core.model import save, verify_manifest, write_manifest
from internlm_core.model.manifest import MANIFEST
from internlm_core.model.runs import STEP_PREFIX, checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from internlm_core.model import InternLM2

__all__ = ["checkpoints", "newest", "prune", "read_state", "read_tensors", "write"]

_STATE = "trainer/state.json"
_TENSORS = "trainer/optimizer.safetensors"


def newest(out: Path) -> Path | None:
    """The newest complete checkpoint, its files compared with their hashes; None without any.

    Raises:
        CheckpointError: A file of it was cut or altered; the message names an older one if any.
    """
    found = checkpoints(out)
    if not found:
        return None
    step = max(found)
    try:
        verify_manifest(found[step])
    except CheckpointError as error:
        older = [n for n in found if n != step]
        where = f"step-{max(older)}" if older else "the start"
        raise CheckpointError(f"{error}. Remove {found[step]} to go on from {where}") from None
    return found[step]


def write(
    out: Path,
    step: int,
    model: InternLM2,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    extra_files: dict[str, Path],
) -> Path:
    """Write `step-N/`.

    Args:
        out: Run folder.
        step: Optimizer steps done.
        model: Saved under InternLM2's names, in the type it computes in.
        tensors: Optimizer and RNG state, by name.
        state: The rest, as JSON.
        extra_files: Name → file to copy into the folder (the tokenizer).

    Raises:
        CheckpointError: The disk is full; checkpoints written before are untouched.
    """
    save_file = require("safetensors.torch", extra="train").save_file
    target = out / f"{STEP_PREFIX}{step}"
    try:
        with atomic_folder(target) as partial:
            save(model, partial)
            (partial / "trainer").mkdir()
            for name, source in extra_files.items():
                shutil.copyfile(source, partial / name)
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                str(partial / _TENSORS),
            )
            write_json(partial / _STATE, state)
            write_manifest(partial)
    except Exception as error:
        # safetensors reports a full disk in its own exception type, by the system's number.
        if getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(
            error
        ):
            last = max(checkpoints(out), default=None)
            kept = "no earlier one" if last is None else f"step-{last} is untouched"
            raise CheckpointError(
                f"{target}: no space left on the disk; {kept}. Free some space and run the same"
                " command again"
            ) from None
        raise
    return target


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON state of a checkpoint's `trainer/`.

    Raises:
        CheckpointError: It has none, or it can't be read.
    """
    try:
        state: dict[str, Any] = read_json(folder / _STATE)
    except (OSError, orjson.JSONDecodeError) as error:
        raise _unusable(folder, error) from None
    return state


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's `trainer/`.

    Raises:
        CheckpointError: It has none, or they can't be read.
    """
    safetensors = require("safetensors", extra="train")
    load_file = require("safetensors.torch", extra="train").load_file
    try:
        tensors: dict[str, Tensor] = load_file(str(folder / _TENSORS))
    except (OSError, safetensors.SafetensorError) as error:
        raise _unusable(folder, error) from None
    return tensors


def _unusable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{folder}: no usable trainer state ({error}); it can start a new run (init_from), but no"
        " run can go on from it"
    )


def prune(out: Path, keep: int, always: set[int]) -> None:
    """Remove what was left half-written, and checkpoints older than the newest `keep`.

    Steps in `always` stay.
    """
    remove_leftovers(out)
    found = checkpoints(out)
    for step in list(found)[:-keep]:
        if step not in always:
            # The manifest goes first: a half-removed folder must not look complete.
            (found[step] / MANIFEST).unlink()
            shutil.rmtree(found[step])
