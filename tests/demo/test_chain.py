"""The chain end to end at a small size, killed and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = [
    "vocab_size=1024",
    "corpus.code_bytes=300000",
    "corpus.readme_bytes=50000",
    "pretrain.hidden_size=64",
    "pretrain.num_hidden_layers=2",
    "pretrain.num_attention_heads=4",
    "pretrain.intermediate_size=128",
    "pretrain.short_tokens=40000",
    "pretrain.long_tokens=16384",
    "pretrain.enhancement_tokens=4096",
    "sft.pairs=100",
    "sft.epochs=1",
    "sample_tokens=12",
    "threads=1",
]


def command(out: Path) -> list[str]:
    sets = [part for value in SMALL for part in ("--set", value)]
    return [sys.executable, "-m", "internlm_core", "demo", "--out", str(out), "--resume", *sets]


@pytest.mark.slow
def test_a_killed_demo_ends_in_the_same_report(tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "whole"), check=True, timeout=400)
    # Killed while cleaning, while pretraining and while fine-tuning.
    for begun in ("stages/corpus.json", "pretrain/metrics.jsonl", "sft/metrics.jsonl"):
        process = subprocess.Popen(command(tmp_path / "killed"), start_new_session=True)
        give_up = time.monotonic() + 200
        while not (tmp_path / "killed" / begun).exists() and time.monotonic() < give_up:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (
            f"the run was over before it was killed at {begun}"
        )
    subprocess.run(command(tmp_path / "killed"), check=True, timeout=400)
    whole, killed = ((tmp_path / name / "report.html").read_bytes() for name in ("whole", "killed"))
    assert whole == killed
    assert (tmp_path / "whole/summary.json").read_bytes() == (
        tmp_path / "killed/summary.json"
    ).read_bytes()
