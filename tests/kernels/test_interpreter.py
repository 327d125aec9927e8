"""Runs the checks of interpreted/ in a process of its own, with Triton's interpreter on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"


@pytest.mark.parametrize("checks", ["attention", "decode", "rows"])
def test_kernels_equal_the_reference_under_the_interpreter(checks):
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "INTERNLM_KERNELS": "triton"}
    file = FOLDER / f"checks_{checks}.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env=environment,
        cwd=FOLDER.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
