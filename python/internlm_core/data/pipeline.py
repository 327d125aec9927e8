"""The pipeline as a user sees it: a configuration, run into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core._config import load_config
from internlm_core._files import folder_lock
from internlm_core.data.config import PipelineConfig
from internlm_core.data.execution import Run
from internlm_core.data.readers import find_files
from internlm_core.data.run_folder import RunFolder, disk_errors
from internlm_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internlm_core.data.dry_run import DryRun
    from internlm_core.data.execution import MapEngine
    from internlm_core.data.readers import FoundFiles, InputFile

__all__ = ["Pipeline", "RunSummary"]

_HARMLESS = {"trailing_garbage"}
"""Faults of a file that cost no record."""


@dataclass(frozen=True)
class RunSummary:
    """What a finished run did.

    Attributes:
        folder: The run folder.
        run: The contents of its `run.json`.
    """

    folder: Path
    run: dict[str, Any]

    @property
    def kept(self) -> int:
        """Documents kept."""
        return int(self.run["totals"]["kept"]["documents"])

    @property
    def dropped(self) -> int:
        """Documents dropped."""
        return int(self.run["totals"]["dropped"]["documents"])

    @property
    def rejected(self) -> int:
        """Lines, rows and files that gave no record."""
        return int(self.run["rejected_records"])

    @property
    def faults(self) -> list[dict[str, Any]]:
        """Files of which records may be missing: unreadable, damaged or truncated."""
        return [fault for fault in self.run["faults"] if fault["reason"] not in _HARMLESS]


class Pipeline:
    """Runs a configuration over its sources.

    Args:
        config: The configuration.
        base: Folder that the paths of its sources are relative to.
    """

    def __init__(self, config: PipelineConfig, base: str | Path = ".") -> None:
        self.config, self.base = config, Path(base)

    @classmethod
    def from_toml(cls, path: str | Path, overrides: Iterable[str] = ()) -> Pipeline:
        """Read the configuration from a file; paths in it are relative to the file.

        Raises:
            ConfigError: An unknown key or impossible value, named.
        """
        return cls(load_config(PipelineConfig, path, overrides=overrides), Path(path).parent)

    def find_files(self) -> FoundFiles:
        """The input files, in reading order.

        Raises:
            DataError: A path leads to nothing, or there is no file to read at all.
        """
        found = find_files((source.spec() for source in self.config.sources), self.base)
        if not found.files:
            paths = ", ".join(source.path for source in self.config.sources)
            raise DataError(
                f"empty corpus: no file of a kind that has a reader below {paths} "
                "(.txt, .md, .jsonl, .parquet, .warc, .wet, .html, .pdf); "
                "check the paths of the sources"
            )
        return found

    def run(
        self,
        out: str | Path,
        *,
        threads: int | None = None,
        quiet: bool = False,
        map_engine: MapEngine | None = None,
    ) -> RunSummary:
        """Run into a folder; a run that was stopped goes on, a complete one is only read.

        Args:
            out: The run folder (see `docs/pipeline.md`).
            threads: Instead of the configuration's; the result does not depend on it.
            quiet: Show no progress.
            map_engine: Makes the missing parts of groups of files elsewhere, given the parts and
                the groups by number, as `internlm_core.data.ray.run` does.

        Raises:
            ConfigError: The folder holds another run, or the rules are wrong.
            FolderBusyError: Another process works in the folder.
            DataError: There is nothing to read, nothing was kept, or the disk is full.
        """
        found = self.find_files()
        folder = RunFolder(out)
        self._keep_apart(folder.path, found.files)
        with disk_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        with folder_lock(folder.path):
            run = Run(self.config, found, folder, threads, quiet=quiet, map_engine=map_engine)
            summary = RunSummary(folder.path, run.finish())
        # A dump may hold nothing that an index of earlier ones has not.
        if not summary.kept and self.config.dedup.index is None:
            raise DataError(_nothing_kept(summary))
        return summary

    def dry_run(self) -> DryRun:
        """Try the stages on a sample of the input, in memory; nothing is written.

        Raises:
            ConfigError: The rules are wrong.
            DataError: There is nothing to read.
        """
        from internlm_core.data.dry_run import dry_run

        return dry_run(self.config, self.find_files())

    def _keep_apart(self, out: Path, files: list[InputFile]) -> None:
        """Refuse an output folder in which the input lies, or that lies in the input."""
        out = out.resolve()
        for source in self.config.sources:
            top = (self.base / source.path).resolve()
            if top.is_dir() and out.is_relative_to(top):
                raise ConfigError(
                    f"the run folder {out} lies within the source {source.path}, so its output "
                    "would become input; choose another folder with --out"
                )
        for file in files:
            if file.path.resolve().is_relative_to(out):
                raise ConfigError(
                    f"the input {file.name} lies within the run folder {out}; "
                    "choose another folder with --out"
                )


def _nothing_kept(summary: RunSummary) -> str:
    rows = [row for row in summary.run["counts"] if row["stage"]]
    reasons: dict[str, int] = {}
    for row in rows:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["documents"]
    top = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
    why = ", ".join(f"{reason} {count}" for reason, count in top) or "none was read"
    return (
        f"{summary.folder}: no document was kept: {summary.dropped} dropped ({why}), "
        f"{summary.rejected} lines or files rejected; look at report.html and rejected/ there, then "
        "change the rules or the sources and run into a new folder"
    )
