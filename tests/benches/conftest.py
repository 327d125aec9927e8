"""The benches are no installed package: they are imported from the source tree."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What the tools of these tests do, in a module that their processes import.
_TOOLS = """
import os
import time

from benches.worker import Job

def sleeper(seconds, result):
    return Job(run=lambda _: time.sleep(seconds) or result)

def spinner(seconds):
    def run(_):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
    return Job(run=run)

def prepared():
    calls = []
    def prepare():
        calls.append("prepare")
        time.sleep(0.2)
        return list(calls)
    return Job(prepare=prepare, run=lambda made: made, result=lambda made: tuple(made))

def greedy(size):
    return Job(run=lambda _: bytearray(os.urandom(1)) * size, result=len)

def absent():
    import no_such_package_anywhere

def broken():
    raise RuntimeError("no such dialect")

def broken_later():
    return Job(run=lambda _: 1 / 0)

def broken_after(rounds):
    left = [None] * rounds
    return Job(run=lambda _: left.pop())

def dying():
    return Job(run=lambda _: os._exit(7))

def search_path():
    import sys
    return Job(run=lambda _: sys.path)
"""


@pytest.fixture(autouse=True)
def _importable(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("tools")
    (folder / "bench_tools.py").write_text(_TOOLS)
    kept = list(sys.path)
    sys.path[:0] = [str(root), str(folder)]
    yield
    sys.path[:] = kept
    sys.modules.pop("bench_tools", None)


@pytest.fixture
def tool() -> Callable[[str], Callable]:
    """A factory of the module above, by name."""
    import importlib

    return lambda name: getattr(importlib.import_module("bench_tools"), name)
