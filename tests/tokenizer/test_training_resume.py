"""A training that is killed at any moment and started again gives the same vocabulary."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from internlm_core.errors import TokenizerError
from internlm_core.tokenizer import Tokenizer, train

# A process that trains and dies by SIGKILL at the given time of its own: after so many columns, or
# after so many calls of progress.
CHILD = """
import os, random, signal, sys
import polars as pl
from internlm_core.tokenizer import train, training
from internlm_core._progress import Task

columns, merging, folder, out, fallback = sys.argv[1:]
columns, merging = int(columns), int(merging)

def texts():
    for number in range(20):
        rng = random.Random(number)
        words = ["".join(rng.choices("abcdef 的国是", k=rng.randrange(1, 9))) for _ in range(900)]
        if number == columns:
            os.kill(os.getpid(), signal.SIGKILL)
        yield pl.Series([" ".join(words[at : at + 9]) for at in range(0, 900, 9)])

calls = 0

def advance(self, steps=1, note=None):
    global calls
    calls += self._title.startswith("Learning")
    if calls == merging:
        os.kill(os.getpid(), signal.SIGKILL)

Task.advance = advance
made = train(texts(), vocab_size=4000, state=folder, save_every=0.0, quiet=True,
             byte_fallback=fallback == "1", digits=1)
made.save(out)
"""


def run(folder: Path, out: Path, columns: int = -1, merging: int = -1, *, fallback: bool) -> int:
    arguments = [str(columns), str(merging), str(folder), str(out), str(int(fallback))]
    return subprocess.run([sys.executable, "-c", CHILD, *arguments], check=False).returncode


@pytest.mark.parametrize("fallback", [False, True])
def test_killed_while_counting_and_while_merging(tmp_path: Path, *, fallback: bool) -> None:
    whole, out, folder = tmp_path / "whole.json", tmp_path / "out.json", tmp_path / "state"
    assert run(tmp_path / "other", whole, fallback=fallback) == 0
    assert not (tmp_path / "other").exists()
    for columns, merging in ((7, -1), (13, -1), (-1, 3), (-1, 6)):
        assert run(folder, out, columns, merging, fallback=fallback) == -signal.SIGKILL
        assert (folder / "state.json").exists()
        assert not out.exists()
    assert (folder / "merging").exists()
    assert run(folder, out, fallback=fallback) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not folder.exists()


def texts(shift: int = 0) -> Iterator[pl.Series]:
    for number in range(6):
        rng = random.Random(number + shift)
        yield pl.Series(["".join(rng.choices("abc de", k=60)) for _ in range(40)])


OPTIONS: dict[str, Any] = {"vocab_size": 600, "save_every": 0.0, "quiet": True}


def interrupted(folder: Path, *, after: int = 4) -> None:
    """Leave the state of a training that ended while it counted."""

    def some() -> Iterator[pl.Series]:
        for number, column in enumerate(texts()):
            if number == after:
                raise InterruptedError
            yield column

    with pytest.raises(InterruptedError):
        train(some(), state=folder, **OPTIONS)
    assert (folder / "state.json").exists()


def test_counted_texts_are_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from internlm_core.tokenizer import training

    whole = train(texts(), **OPTIONS)
    interrupted(tmp_path / "s")
    added = []

    original = training.TrainingState.add

    def add(self: Any, trainer: Any, column: pl.Series) -> None:
        added.append(len(column))
        original(self, trainer, column)

    monkeypatch.setattr(training.TrainingState, "add", add)
    again = train(texts(), state=tmp_path / "s", **OPTIONS)
    assert again.fingerprint == whole.fingerprint
    assert added == [40, 40]


def test_other_texts_options_or_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    interrupted(folder)
    with pytest.raises(TokenizerError, match="the first 160 texts are not those"):
        train(texts(1), state=folder, **OPTIONS)
    with pytest.raises(TokenizerError, match="80 texts, but 160 were counted"):
        train(list(texts())[:2], state=folder, **OPTIONS)
    with pytest.raises(TokenizerError, match="vocab_size=600 was interrupted here, but 601"):
        train(texts(), state=folder, **{**OPTIONS, "vocab_size": 601})
    with pytest.raises(TokenizerError, match="pattern='cl100k'"):
        train(texts(), state=folder, pattern="gpt2", **OPTIONS)
    (folder / "counts-00001").unlink()
    with pytest.raises(TokenizerError, match=r"counts-00001: .* are gone"):
        train(texts(), state=folder, **OPTIONS)
    (folder / "state.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"state.json: can't be read"):
        train(texts(), state=folder, **OPTIONS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(TokenizerError, match=r"thesis.txt; give a folder of its own"):
        train(texts(), state=tmp_path / "mine", **OPTIONS)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_damaged_state_of_merging_is_refused(tmp_path: Path) -> None:
    folder, out = tmp_path / "s", tmp_path / "out.json"
    assert run(folder, out, merging=5, fallback=False) == -signal.SIGKILL
    data = (folder / "merging").read_bytes()
    for damaged in (
        data[:-40],
        data[:2000] + bytes([data[2000] ^ 1]) + data[2001:],
        b"",
        b"x" * 99,
    ):
        (folder / "merging").write_bytes(damaged)
        assert run(folder, out, fallback=False) == 1
        assert not out.exists()
    (folder / "merging").write_bytes(data)
    assert run(folder, out, fallback=False) == 0


def test_a_removal_that_was_cut_short_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "merging").write_bytes(b"stale")
    (folder / "counts-00000").write_bytes(b"stale")
    again = train(texts(), state=folder, **OPTIONS)
    assert again.fingerprint == train(texts(), **OPTIONS).fingerprint


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    from internlm_core._files import FolderBusyError, folder_lock

    with folder_lock(tmp_path), pytest.raises(FolderBusyError, match="another run"):
        train(texts(), state=tmp_path, **OPTIONS)


def test_merges_a_second_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from internlm_core.tokenizer import training

    notes: list[str | None] = []
    monkeypatch.setattr(training.Task, "advance", lambda *a: notes.append(a[2] if a[2:] else None))
    train(texts(), **{**OPTIONS, "vocab_size": 1_000})
    told = [note for note in notes if note]
    assert told
    assert all(note.endswith(" merges/s") for note in told)


@pytest.mark.slow
def test_the_command_killed_at_random_moments(tmp_path: Path) -> None:
    """As a user does it: SIGKILL from outside, whenever; the last run ends by itself."""
    rng = random.Random(11)
    words = [
        "".join(rng.choices("abcdefghij的国是", k=rng.randrange(1, 12))) for _ in range(60_000)
    ]
    for number in range(12):
        lines = [" ".join(rng.choices(words, k=40)) for _ in range(4_000)]
        pl.DataFrame({"text": lines}).write_parquet(tmp_path / f"{number:02}.parquet")

    def command(out: Path) -> subprocess.Popen[bytes]:
        code = (
            "import sys; from internlm_core.tokenizer import training_state as s; "
            "old = s.TrainingState.__init__; "
            "s.TrainingState.__init__ = lambda self, f, o, every: old(self, f, o, 0.2); "
            "from internlm_core.cli import main; sys.exit(main())"
        )
        records = [str(path) for path in sorted(tmp_path.glob("*.parquet"))]
        options = ["--vocab-size", "20000", "--out", str(out), "--digits", "3"]
        arguments = [sys.executable, "-c", code, "tokenizer", "train", *records, *options]
        return subprocess.Popen(arguments, stderr=subprocess.DEVNULL)

    start = time.monotonic()
    assert command(tmp_path / "whole.json").wait() == 0
    length, kills = time.monotonic() - start, 0
    out = tmp_path / "out.json"
    for _ in range(40):
        child = command(out)
        try:
            child.wait(rng.uniform(0.3, 0.8) * length)
            break
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
            child.wait()
    assert kills > 0
    assert command(out).wait() == 0
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert Tokenizer.from_file(out).vocab_size == 20_000
    assert not (tmp_path / "out.json.training").exists()
