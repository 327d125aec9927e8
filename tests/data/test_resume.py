"""Killed at any moment, a run goes on and ends with the very bytes of one that was left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest
from internlm_core.data import Pipeline

# Runs the pipeline; after a number of renames it kills itself, before or after the last of them.
_DYING_RUN = """
import itertools, os, signal, sys
from pathlib import Path
from internlm_core.data import Pipeline

config, out, renames, when = sys.argv[1:]
count, last, replace = itertools.count(1), int(renames), Path.replace

def dying_replace(self, target):
    number = next(count)  # counted once each, whichever thread it is
    if number == last and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = replace(self, target)
    if number == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

Path.replace = dying_replace
Pipeline.from_toml(config).run(out, quiet=True)
"""


def dying_run(config, out, renames, when):
    command = [sys.executable, "-c", _DYING_RUN, str(config), str(out), str(renames), when]
    return subprocess.run(command, check=False, capture_output=True, timeout=120)


@pytest.fixture
def whole(corpus, tmp_path, tree):
    folder, _ = corpus
    Pipeline.from_toml(folder / "run.toml").run(tmp_path / "whole", quiet=True)
    return folder / "run.toml", tree(tmp_path / "whole")


def test_killed_again_and_again(whole, tmp_path, tree):
    config, expected = whole
    out, rng = tmp_path / "out", random.Random(5)
    for deaths in range(100):  # noqa: B007
        outcome = dying_run(config, out, rng.randint(2, 14), rng.choice(["before", "after"]))
        if outcome.returncode == 0:
            break
        assert outcome.returncode == -signal.SIGKILL, outcome.stderr.decode()
    assert deaths > 5, "the run should have died many times"
    assert tree(out) == expected


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_killed_at_a_random_moment(whole, tmp_path, tree, share):
    config, expected = whole
    out = tmp_path / "out"
    code = "import sys; from internlm_core.data import Pipeline\n"
    code += "print('go', flush=True); Pipeline.from_toml(sys.argv[1]).run(sys.argv[2], quiet=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(config), str(out)], stdout=subprocess.PIPE
    )
    with process:
        process.stdout.readline()
        time.sleep(share * random.random())
        process.kill()
    Pipeline.from_toml(config).run(out, quiet=True)
    assert tree(out) == expected


def test_finished_parts_are_not_made_again(corpus, tmp_path, monkeypatch):
    from internlm_core.data.map_stages import MapStages

    folder, _ = corpus
    assert dying_run(folder / "run.toml", tmp_path / "out", 30, "after").returncode != 0
    parts = len(list((tmp_path / "out" / "work" / "map").glob("[0-9]*.parquet")))
    assert parts > 3
    calls = []
    run = MapStages.run
    monkeypatch.setattr(MapStages, "run", lambda *a: calls.append(1) or run(*a))
    Pipeline.from_toml(folder / "run.toml").run(tmp_path / "out", quiet=True)
    resumed = len(calls)
    Pipeline.from_toml(folder / "run.toml").run(tmp_path / "fresh", quiet=True)
    assert resumed == len(calls) - resumed - parts


def test_what_a_kill_left_half_written_is_swept_away(whole, tmp_path, tree):
    config, expected = whole
    out = tmp_path / "out"
    assert dying_run(config, out, 25, "before").returncode != 0
    assert list(out.rglob(".partial-*")), "the kill came before a rename"
    Pipeline.from_toml(config).run(out, quiet=True)
    assert tree(out) == expected


def test_an_altered_part_would_be_noticed(whole, tmp_path, tree):
    """The comparison bites: one byte of text changed between the kill and the resume shows."""
    import polars as pl

    config, expected = whole
    out = tmp_path / "out"
    assert dying_run(config, out, 30, "after").returncode != 0
    part = sorted((out / "work" / "map").glob("[0-9]*.parquet"))[0]
    frame = pl.read_parquet(part)
    frame.with_columns(text=pl.col("text") + "!").write_parquet(part)
    Pipeline.from_toml(config).run(out, quiet=True)
    assert tree(out) != expected


def test_interrupted_by_hand(whole, tmp_path, tree):
    """Ctrl-C: a clear word, exit code 130, and the same command goes on."""
    config, expected = whole
    out = tmp_path / "out"
    code = (
        "import sys; from internlm_core.cli import main; from internlm_core.data import execution\n"
        "run = execution.Run._dedup\n"
        "def slow(self):\n"
        "    print('here', flush=True); import time; time.sleep(60)\n"
        "execution.Run._dedup = slow\n"
        "sys.exit(main(['data', 'run', '--config', sys.argv[1], '--out', sys.argv[2], '--quiet']))"
    )
    command = [sys.executable, "-c", code, str(config), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"run the same command again" in errors
    Pipeline.from_toml(config).run(out, quiet=True)
    assert tree(out) == expected
