"""Checkpoints `step-N/`: a Hugging Face folder plus `trainer/`, whole or absent.

A folder is written beside, synced and renamed, its manifest of hashes last. The newest complete one
is found by looking: no pointer file that could name a half-written one. Tensors are whole, whatever
the plan of the run that wrote them; with several ranks, each writes a file of its own.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core._files import atomic_folder, atomic_path, read_json, remove_leftovers, write_json
from internlm_core._optional import require
from internlm_core.errors import CheckpointError
from internlm_core.model import save, verify_manifest, write_manifest
from internlm_core.model.manifest import MANIFEST
from internlm_core.model.runs import STEP_PREFIX, checkpoints
from internlm_core.train.tensor_files import TensorFiles

if TYPE_CHECKING:
    from torch import Tensor

    from internlm_core.model import InternLM2
    from internlm_core.train.ranks import Ranks

__all__ = ["checkpoints", "newest", "prune", "read_state", "tensors_of", "write"]

_FOLDER = "trainer"
_STATE = f"{_FOLDER}/state.json"
_TENSORS = "optimizer"


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
    ranks: Ranks,
    model: InternLM2 | None,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    extra_files: dict[str, Path],
) -> None:
    """Write `step-N/`; all ranks call it.

    Args:
        out: Run folder, one file system for all ranks.
        step: Optimizer steps done.
        ranks: Who writes.
        model: Saved under InternLM2's names, in the type it computes in; the main rank's alone.
        tensors: Optimizer and RNG state that this rank writes, by name.
        state: The rest, as JSON.
        extra_files: Name → file to copy into the folder (the tokenizer).

    Raises:
        CheckpointError: The disk is full; checkpoints written before are untouched.
    """
    target = out / f"{STEP_PREFIX}{step}"
    try:
        if not ranks.main:
            folder = ranks.gather_objects(None)[0]
            _own_part(Path(folder), tensors, ranks)
            return
        with atomic_folder(target) as partial:
            (partial / _FOLDER).mkdir()
            ranks.gather_objects(str(partial))
            _own_part(partial, tensors, ranks)
            assert model is not None
            save(model, partial)
            for name, source in extra_files.items():
                shutil.copyfile(source, partial / name)
            write_json(partial / _STATE, state)
            write_manifest(partial)
    except Exception as error:
        # safetensors reports a full disk in its own exception type, by the system's number.
        if _is_full(error):
            last = max(checkpoints(out), default=None)
            kept = "no earlier one" if last is None else f"step-{last} is untouched"
            raise CheckpointError(
                f"{target}: no space left on the disk; {kept}. Free some space and run the same"
                " command again"
            ) from None
        raise


def _is_full(error: Exception) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(error)


def _own_part(partial: Path, tensors: dict[str, Tensor], ranks: Ranks) -> None:
    """Write this rank's tensors, and learn whether the others could, too."""
    save_file = require("safetensors.torch", extra="train").save_file
    own = f"-{ranks.rank + 1:05}-of-{ranks.world:05}" if ranks.world > 1 else ""
    fault: Exception | None = None
    try:
        if tensors:
            with atomic_path(partial / _FOLDER / f"{_TENSORS}{own}.safetensors") as file:
                save_file({n: t.contiguous() for n, t in tensors.items()}, str(file))
    except Exception as error:  # noqa: BLE001 - the others wait to be told
        fault = error
    told = ranks.gather_objects(None if fault is None else str(fault))
    if fault is not None:
        raise fault
    for rank, message in enumerate(told):
        if message is not None:
            full = f" (os error {errno.ENOSPC})" if "No space" in message else ""
            raise CheckpointError(f"{partial}: rank {rank} could not write: {message}{full}")


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


def tensors_of(folder: Path) -> TensorFiles:
    """The tensors of a checkpoint's `trainer/`, read when asked for.

    Raises:
        CheckpointError: It has none, or they can't be read.
    """
    try:
        return TensorFiles(folder, sorted((folder / _FOLDER).glob(f"{_TENSORS}*.safetensors")))
    except CheckpointError as error:
        raise _unusable(folder, error) from None


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
