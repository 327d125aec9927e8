"""A process of its own for each tool: imports don't clash, memory is told apart, a crash is one row.

The parent sends a word ("prepare", "run", …) and waits, so only one tool works at a time.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["Job", "MissingError", "Round", "Worker", "WorkerError", "peak_memory"]

ROOT = Path(__file__).resolve().parent.parent
_STATUS = Path("/proc/self/status")


def _nothing() -> None:
    return None


def _same(result: Any) -> Any:
    return result


@dataclass(frozen=True)
class Job:
    """What a tool does in a round."""

    run: Callable[[Any], Any]
    """The timed part; takes what `prepare` made."""
    prepare: Callable[[], Any] = _nothing
    """Before each round, not timed: a fresh cache, a fresh model."""
    result: Callable[[Any], Any] = _same
    """After the first round, not timed: what is compared, as something that can be pickled."""


@dataclass(frozen=True)
class Round:
    """One timed run."""

    wall: float
    """Seconds that went by."""
    cpu: float
    """Seconds of processor time, of all threads together."""
    memory: int | None
    """Bytes by which the process grew at most while it ran; None where /proc can't tell."""


class WorkerError(RuntimeError):
    """The tool failed; holds its traceback."""


class MissingError(WorkerError):
    """The tool is not installed."""


class Worker:
    """A tool in its process.

    Args:
        factory: Function of a module that the process can import; returns a `Job`. It imports the
            tool, so that no other process does.
        arguments: Its arguments.
        python: Interpreter of another environment, for a tool that can't be installed in this one;
            there the factory's module may import nothing but the standard library at its top.

    Raises:
        MissingError: A module that the factory imports, or the environment, is not installed.
        WorkerError: The factory failed.
    """

    _child: subprocess.Popen[bytes] | None = None

    def __init__(
        self,
        factory: Callable[..., Job],
        arguments: tuple[Any, ...] = (),
        python: Path | None = None,
    ) -> None:
        if python is not None:
            self._start_elsewhere(python, factory, arguments)
            self._receive()
            return
        # Not fork: a forked child would share what its parent has loaded, thread pools included.
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, factory, arguments), daemon=True
        )
        self._process.start()
        other.close()
        self._receive()

    def _start_elsewhere(
        self, python: Path, factory: Callable[..., Job], arguments: tuple[Any, ...]
    ) -> None:
        if not python.is_file():
            raise MissingError(f"the environment {python.parent.parent}")
        # Not multiprocessing's own start: it gives the child this environment's search path.
        with (
            tempfile.TemporaryDirectory() as folder,
            Listener(str(Path(folder) / "socket"), "AF_UNIX") as listener,
        ):
            code = (
                "import sys; sys.path.insert(0, sys.argv[1]); import benches.worker as w; "
                "w.serve_elsewhere(sys.argv[2])"
            )
            self._child = subprocess.Popen([python, "-c", code, str(ROOT), str(listener.address)])
            self._end = listener.accept()
        self._end.send((factory.__module__, factory.__qualname__, arguments))

    def round(self) -> Round:
        """Prepare, then run once."""
        self._end.send("run")
        return self._receive()

    def result(self) -> Any:
        """What the first round gave."""
        self._end.send("result")
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._end.close()
        if self._child is not None:
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            return
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        try:
            kind, value = self._end.recv()
        except EOFError:
            if self._child is not None:
                code: int | None = self._child.wait()
            else:
                self._process.join()
                code = self._process.exitcode
            raise WorkerError(f"the process ended with code {code}") from None
        if kind == "missing":
            raise MissingError(value)
        if kind == "failed":
            raise WorkerError(value)
        return value


def serve_elsewhere(address: str) -> None:
    """What the process in another environment runs."""
    with Client(address, "AF_UNIX") as end:
        module, name, arguments = end.recv()
        _serve(end, getattr(importlib.import_module(module), name), arguments)


def _serve(end: Connection, factory: Callable[..., Job], arguments: tuple[Any, ...]) -> None:
    # The source tree's top holds folders (kernels/, tests/) that would pass for packages.
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    try:
        job = factory(*arguments)
        end.send(("ready", None))
        first: list[Any] = []
        while True:
            wanted = end.recv()
            if wanted == "run":
                timed, result = _run(job)
                if not first:
                    first.append(job.result(result))
                del result
                end.send(("round", timed))
            else:
                end.send(("result", first[0]))
    except EOFError:
        return
    except ModuleNotFoundError as error:
        end.send(("missing", error.name))
    except Exception:  # noqa: BLE001  (whatever it is, it is the row that says so)
        end.send(("failed", traceback.format_exc(limit=-6)))


def _run(job: Job) -> tuple[Round, Any]:
    prepared = job.prepare()
    gc.collect()
    before = _memory(reset=True)
    wall, cpu = time.perf_counter(), time.process_time()
    result = job.run(prepared)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = _memory()
    grown = None if before is None or after is None else max(0, after - before)
    return Round(wall, cpu, grown), result


def _memory(*, reset: bool = False) -> int | None:
    """The process's memory in bytes: now and from now on with `reset`, else its peak since then."""
    try:
        if reset:
            # proc(5): 5 sets the peak back to the present size.
            Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS:" if reset else "VmHWM:")
    except OSError:
        return None


def peak_memory() -> int:
    """Most memory of this process in bytes, of a worker since its round began.

    Not `ru_maxrss`, which a child inherits from its parent. On Linux alone.
    """
    if (peak := _status("VmHWM:")) is None:
        raise OSError(f"{_STATUS} has no VmHWM")
    return peak


def _status(wanted: str) -> int | None:
    lines = _STATUS.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted)), None)
