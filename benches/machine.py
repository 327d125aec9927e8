"""Where and with what a measurement was made."""

from __future__ import annotations

import datetime as dt
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "pin", "version"]

ROOT = Path(__file__).resolve().parent.parent
# Read by the thread pools of Rust, OpenMP, MKL, polars and tokenizers when they start.
_VARIABLES = (
    "RAYON_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def pin(threads: int) -> None:
    """Keep this process and all it starts to `threads` cores, with as many threads.

    Raises:
        ValueError: The machine has fewer cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise ValueError(f"{threads} threads: this machine lends 1 to {len(cores)} cores")
    os.sched_setaffinity(0, cores[:threads])
    os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == 1 else "true"


def version(package: str, python: Path | None = None) -> str:
    """Version of a distribution installed here, or in the environment of another interpreter."""
    if python is not None:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        return done.stdout.strip() or "unknown"
    if package == "internlm-core":
        from internlm_core import __version__

        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def describe_machine() -> dict[str, Any]:
    """Processor, cores, Python, commit, date and load; part of each row."""
    return {
        **_constant(),
        "threads": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "date": dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M"),
    }


@functools.cache
def _constant() -> dict[str, Any]:
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!benches/results")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
