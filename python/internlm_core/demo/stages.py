"""Stages that run once: each leaves a record of its result, and a rerun starts after the last."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from internlm_core import __version__
from internlm_core._files import folder_lock, read_json, remove_leftovers, write_json
from internlm_core._progress import console
from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from internlm_core._config import Config

__all__ = ["StagedRun"]


class StagedRun:
    """A folder in which named stages run in order, each at most once.

    Args:
        folder: The run folder.
        config: What fixes the results; a folder made with another configuration is refused.
        resume: Whether a folder that exists may be gone on with.

    Raises:
        ConfigError: The folder exists and `resume` is off, or it holds another configuration.
    """

    def __init__(self, folder: Path, config: Config, *, resume: bool) -> None:
        self.folder = folder
        self._marker = folder / "run.json"
        values = config.model_dump(mode="json")
        digest = hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()
        started = {"configuration": values, "fingerprint": digest, "version": __version__}
        if self._marker.exists():
            if not resume:
                raise ConfigError(
                    f"{folder} holds a run already; add --resume to go on with it, "
                    "or choose another folder with --out"
                )
            if read_json(self._marker)["fingerprint"] != digest:
                raise ConfigError(
                    f"{folder} was started with another configuration (see {self._marker}); "
                    "use the same one, or choose another folder with --out"
                )
        else:
            write_json(self._marker, started)
        remove_leftovers(folder)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder while the stages run."""
        return folder_lock(self.folder)

    def stage(self, name: str, title: str, work: Callable[[], Any]) -> Any:
        """Run `work` unless its result is recorded; returns the result, as JSON gives it back."""
        record = self.folder / "stages" / f"{name}.json"
        if record.exists():
            console.print(f"[dim]{title}: done before[/dim]")
        else:
            console.print(f"[bold]{title}[/bold]")
            write_json(record, work())
        return read_json(record)
