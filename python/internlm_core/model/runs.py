"""Run folders: `step-N/` checkpoints, found by looking."""

from __future__ import annotations

from pathlib import Path

from internlm_core.errors import CheckpointError
from internlm_core.model.manifest import MANIFEST

__all__ = ["STEP_PREFIX", "checkpoints", "model_folder"]

STEP_PREFIX = "step-"


def checkpoints(run: str | Path) -> dict[int, Path]:
    """Step → folder of every checkpoint of a run that was completed, oldest first."""
    found = {}
    for folder in Path(run).glob(f"{STEP_PREFIX}*"):
        number = folder.name.removeprefix(STEP_PREFIX)
        if number.isdigit() and (folder / MANIFEST).is_file():
            found[int(number)] = folder
    return dict(sorted(found.items()))


def model_folder(path: str | Path) -> Path:
    """A model folder as it is, or the newest checkpoint of a run folder.

    Raises:
        CheckpointError: The folder is neither.
    """
    path = Path(path)
    if (path / "config.json").is_file():
        return path
    found = checkpoints(path)
    if not found:
        raise CheckpointError(
            f"{path}: neither a model (config.json) nor a training run with a checkpoint (step-N)"
        )
    return found[max(found)]
