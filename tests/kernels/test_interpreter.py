"""Runs the checks of interpreted/ in processes of their own, with Triton's interpreter on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"
CHECKS = ("attention", "rows", "decode")


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """All of them at once, side by side; name → process and the file it writes to."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "INTERNLM_KERNELS": "triton"}
    folder, processes = tmp_path_factory.mktemp("interpreted"), {}
    for checks in CHECKS:
        file, told = FOLDER / f"checks_{checks}.py", folder / checks
        with told.open("wb") as out:
            processes[checks] = told, subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
                env=environment, cwd=FOLDER.parents[2], stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
    yield processes
    for _, process in processes.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("checks", CHECKS)
def test_kernels_equal_the_reference_under_the_interpreter(started, checks):
    told, process = started[checks]
    code = process.wait()
    assert code == 0, told.read_text()[-8000:]
    assert " passed" in told.read_text()
