"""Every parser on damaged input: no crash, no hang, no error outside its family.

`INTERNLM_FUZZ_SEED` repeats a run; `INTERNLM_FUZZ_SECONDS` is how long each parser is fed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

FUZZER = Path(__file__).with_name("fuzzer.py")
TARGETS = ["jsonl", "jsonl_gz", "warc", "warc_gz", "http", "charset", "url", "parquet", "config", "tokenizer"]  # fmt: skip
SLOWEST = 20.0
"""Seconds after which one input counts as a hang."""


def fuzz(target, seconds, folder, seed):
    command = [sys.executable, str(FUZZER), target, str(seed), str(seconds), str(folder)]
    at_hand = folder / f"{target}.input"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while True:
            try:
                out, err = process.communicate(timeout=SLOWEST)
                break
            except subprocess.TimeoutExpired:
                if at_hand.exists() and time.time() - at_hand.stat().st_mtime > SLOWEST:
                    process.kill()
                    pytest.fail(f"{target}: hangs on {at_hand} (seed {seed})")
    if process.returncode:
        words = err.decode(errors="replace")[-3000:]
        pytest.fail(f"{target}: exit code {process.returncode} on {at_hand} (seed {seed})\n{words}")
    return int(out)


@pytest.fixture(scope="module")
def seed():
    chosen = os.environ.get("INTERNLM_FUZZ_SEED") or str(random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"INTERNLM_FUZZ_SEED={chosen}\n")
    return chosen


@pytest.mark.parametrize("target", TARGETS)
def test_a_moment(target, tmp_path):
    assert fuzz(target, 0.3, tmp_path, 1) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_minute(target, tmp_path, seed):
    assert fuzz(target, float(os.environ.get("INTERNLM_FUZZ_SECONDS", "60")), tmp_path, seed) > 100


def test_a_parser_that_fails_is_told_with_its_input(tmp_path):
    """The fuzzer bites: a parser with a fault is found, and the input that shows it is kept."""
    broken = tmp_path / "fuzzer.py"
    text = FUZZER.read_text("utf-8")
    broken.write_text(
        text.replace(
            "    key = normalise_url(text)\n", "    assert b'@' in data\n    key = None\n"
        ),
        "utf-8",
    )
    command = [sys.executable, str(broken), "url", "1", "5", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert result.returncode == 1
    assert b"@" not in (tmp_path / "url.input").read_bytes()
