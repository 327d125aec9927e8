"""The folder of a pipeline run: what lies where, whether it may be gone on with, its shards.

kept/ dropped/    records as Parquet; dropped ones with stage, reason, metric, value, threshold
rejected/         JSON lines: what gave no record, with its address and its bytes
ledger/ metrics/  one row a decision; one row of statistics a record
run.json          configuration, versions, inputs, counts: equal for equal input
timing.json       how long it took, which differs from run to run
report.html       the same to look at
work/             parts of an unfinished run
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from internlm_core import __version__
from internlm_core._files import read_json, remove_leftovers, write_json
from internlm_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OUTPUTS", "RunFolder", "disk_errors", "flat"]

OUTPUTS = ("kept", "dropped", "rejected", "ledger", "metrics")
FORMAT = 1


class RunFolder:
    """Paths of a run folder, and the check that it belongs to this run.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.run_json = self.path / "run.json"
        self.timing_json = self.path / "timing.json"
        self.report = self.path / "report.html"
        self.work = self.path / "work"

    def shards(self, output: str) -> list[Path]:
        """Finished shards of one of `OUTPUTS`, in order."""
        return sorted((self.path / output).glob("part-*"))

    def scan(self, output: str) -> pl.LazyFrame | None:
        """All shards of a Parquet output as one frame; `None` where there is none."""
        shards = self.shards(output)
        return pl.scan_parquet(shards, glob=False) if shards else None

    def read(self) -> dict[str, Any]:
        """The contents of `run.json`.

        Raises:
            DataError: The folder holds no finished run.
        """
        try:
            run: dict[str, Any] = read_json(self.run_json)
        except (OSError, orjson.JSONDecodeError) as error:
            raise DataError(
                f"{self.path}: no run folder ({self.run_json.name} can't be read: {error})"
            ) from None
        if run.get("status") != "complete":
            raise DataError(f"{self.path}: the run is not finished; run its command again first")
        return run

    def begin(self, configuration: dict[str, Any], inputs: list[dict[str, Any]]) -> bool:
        """Claim the folder for a run; returns whether that very run is complete already.

        Raises:
            ConfigError: The folder holds something else: files that are no run, a run with another
                configuration, of other inputs, or half done by another version.
        """
        identity = {"format": FORMAT, "configuration": configuration, "inputs": inputs}
        if not self.run_json.exists():
            self._require_empty()
            started = {**identity, "status": "started", "version": __version__}
            with disk_errors(self.path):
                write_json(self.run_json, started)
            return False
        try:
            found = read_json(self.run_json)
        except orjson.JSONDecodeError:
            raise ConfigError(
                f"{self.run_json}: not written by a run; choose another folder with --out"
            ) from None
        complete: bool = found.get("status") == "complete"
        differences = _differences(found, identity)
        if not complete and found.get("version") != __version__:
            differences.append(f"version {found.get('version')} there, {__version__} now")
        if differences:
            shown = "; ".join(differences[:6]) + ("; …" if len(differences) > 6 else "")
            raise ConfigError(
                f"{self.path} holds another run: {shown}. Choose another folder with --out, "
                "or remove this one"
            )
        for folder in (self.path, self.work, self.work / "map", *map(self.path.joinpath, OUTPUTS)):
            remove_leftovers(folder)
        return complete

    def _require_empty(self) -> None:
        others = [p.name for p in self.path.iterdir() if p.name != ".lock"]
        others = [name for name in others if not name.startswith(".partial-")]
        if others:
            raise ConfigError(
                f"{self.path} is not empty ({', '.join(sorted(others)[:3])}) and holds no run; "
                "choose another folder with --out"
            )
        remove_leftovers(self.path)


def _differences(found: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two runs, in words."""
    found_flat, now_flat = flat(found.get("configuration", {})), flat(now["configuration"])
    lines = [
        f"{key} is {found_flat.get(key, 'absent')!r} there, {now_flat.get(key, 'absent')!r} now"
        for key in sorted(found_flat.keys() | now_flat.keys())
        if found_flat.get(key) != now_flat.get(key)
    ]
    then = {entry["name"]: entry for entry in found.get("inputs", [])}
    today = {entry["name"]: entry for entry in now["inputs"]}
    lines += [f"input {name} is new" for name in today if name not in then]
    lines += [f"input {name} is gone" for name in then if name not in today]
    lines += [
        f"input {name} has changed" for name in today if name in then and today[name] != then[name]
    ]
    if not lines and list(then) != list(today):
        lines.append("the inputs come in another order")
    if found.get("format") != now["format"]:
        lines.append(f"format {found.get('format')} there, {now['format']} now")
    return lines


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested objects and lists of objects as one level with dotted keys."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)  # type: ignore[assignment]
    else:
        return {prefix: value}
    level: dict[str, Any] = {}
    for key, item in items:
        level |= flat(item, f"{prefix}.{key}" if prefix else str(key))
    return level


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failed write (disk full, no permission) into an error that says what to do.

    Raises:
        DataError: With the path, the system's own words, and the remedy.
    """
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{path}: can't be written: {words}; make room, then run the same command again: "
            "finished parts are kept"
        ) from error
