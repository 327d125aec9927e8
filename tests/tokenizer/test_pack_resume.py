"""`tokenizer pack` killed at any moment and run again gives the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from internlm_core.cli import main
from internlm_core.errors import DataError
from internlm_core.tokenizer import Shard, Tokenizer, train


def write_records(folder: Path, files: int, rows: int) -> None:
    folder.mkdir()
    rng = random.Random(4)
    words = ["".join(rng.choices("abcdefgh的国是", k=rng.randrange(1, 9))) for _ in range(3_000)]
    for number in range(files):
        texts = [" ".join(rng.choices(words, k=30)) for _ in range(rows)]
        ids = [f"{number:04x}{row:028x}" for row in range(rows)]
        frame = pl.DataFrame({"id": ids, "text": texts})
        if number % 2:
            frame.write_ndjson(folder / f"{number:02}.jsonl")
        else:
            frame.write_parquet(folder / f"{number:02}.parquet")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def command(folder: Path, out: Path, tokenizer: Path, before: str = "pass") -> list[str]:
    code = f"import sys; {before}; from internlm_core.cli import main; sys.exit(main())"
    options = ["--tokenizer", str(tokenizer), "--out", str(out), "--shard-mb", "0"]
    return [sys.executable, "-c", code, "tokenizer", "pack", str(folder), *options]


# Dies by SIGKILL at the given call of what writes.
DIES = (
    "import os, signal; from internlm_core.tokenizer import shards as s; from internlm_core import _files as f; "
    "calls = [0]; kill = lambda: (calls.__setitem__(0, calls[0] + 1), "
    "calls[0] == {at} and os.kill(os.getpid(), signal.SIGKILL)); "
    "add, sync = s.ShardWriter.add, f._sync; "
    "s.ShardWriter.add = lambda self, *a, **k: (kill(), add(self, *a, **k))[1]; "
    "f._sync = lambda path: (kill(), sync(path))[1]"
)


def test_killed_at_every_step_and_run_again(tmp_path: Path, small: Tokenizer) -> None:
    write_records(tmp_path / "in", 3, 40)
    small.save(tmp_path / "t.json")
    whole = tmp_path / "whole"
    options = ["--tokenizer", str(tmp_path / "t.json"), "--shard-mb", "0"]
    assert main(["tokenizer", "pack", str(tmp_path / "in"), "--out", str(whole), *options]) == 0
    expected = contents(whole)
    assert {name.split("/")[0] for name in expected} == {
        "shard-00000", "shard-00001", "shard-00002", "tokenizer.json",
    }  # fmt: skip
    out, killed = tmp_path / "out", 0
    # Each start gets further, for what is finished is not made again.
    for at in (1, 3, 5, 6, 2, 7, 4):
        done = subprocess.run(
            command(tmp_path / "in", out, tmp_path / "t.json", DIES.format(at=at)), check=False
        )
        killed += done.returncode == -signal.SIGKILL
        left = {n: b for n, b in contents(out).items() if not n.startswith(".partial-")}
        assert left.items() <= expected.items()  # What has its name is whole.
    assert killed >= 4
    assert main(["tokenizer", "pack", str(tmp_path / "in"), "--out", str(out), *options]) == 0
    assert contents(out) == expected


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, corpus: list[str]) -> None:
    write_records(tmp_path / "in", 8, 30_000)
    train(corpus, vocab_size=600, quiet=True).save(tmp_path / "t.json")
    start = time.monotonic()
    whole = command(tmp_path / "in", tmp_path / "whole", tmp_path / "t.json")
    assert subprocess.run(whole, check=False, stderr=subprocess.DEVNULL).returncode == 0
    length, kills, rng = time.monotonic() - start, 0, random.Random(6)
    for _ in range(40):
        again = command(tmp_path / "in", tmp_path / "out", tmp_path / "t.json")
        child = subprocess.Popen(again, stderr=subprocess.DEVNULL)
        try:
            child.wait(rng.uniform(0.2, 0.6) * length)
            break
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
    assert kills > 0
    assert subprocess.run(again, check=False, stderr=subprocess.DEVNULL).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_runs_do_not_share_a_folder(tmp_path: Path, small: Tokenizer) -> None:
    from internlm_core._files import folder_lock

    write_records(tmp_path / "in", 1, 4)
    small.save(tmp_path / "t.json")
    options = ["--tokenizer", str(tmp_path / "t.json"), "--out", str(tmp_path / "out")]
    with folder_lock(tmp_path / "out"):
        assert main(["tokenizer", "pack", str(tmp_path / "in"), *options]) == 1
    assert main(["tokenizer", "pack", str(tmp_path / "in"), *options]) == 0


def test_small_files_share_a_shard(tmp_path: Path, small: Tokenizer) -> None:
    (tmp_path / "in").mkdir()
    for number in range(30):
        (tmp_path / "in" / f"{number:02}.txt").write_text(f"the tide {number}")
    small.save(tmp_path / "t.json")
    options = ["--tokenizer", str(tmp_path / "t.json"), "--out", str(tmp_path / "out")]
    assert main(["tokenizer", "pack", str(tmp_path / "in"), *options]) == 0
    shard = Shard.open(tmp_path / "out" / "shard-00000", fingerprint=small.fingerprint)
    assert len(shard) == 30
    assert small.decode(shard[29][1:-1]) == "the tide 29"
    assert not (tmp_path / "out" / "shard-00001").exists()


def test_fingerprints_are_checked_when_shards_are_read(tmp_path: Path, small: Tokenizer) -> None:
    write_records(tmp_path / "in", 1, 4)
    small.save(tmp_path / "t.json")
    train(["abc"] * 5, vocab_size=270, quiet=True).save(tmp_path / "other.json")
    options = ["--tokenizer", str(tmp_path / "t.json"), "--out", str(tmp_path / "out")]
    assert main(["tokenizer", "pack", str(tmp_path / "in"), *options]) == 0
    other = Tokenizer.from_file(tmp_path / "other.json")
    with pytest.raises(DataError, match="packed with tokenizer"):
        Shard.open(tmp_path / "out" / "shard-00000", fingerprint=other.fingerprint)
    # A rerun with another tokenizer refuses what is there instead of mixing the two.
    options[1] = str(tmp_path / "other.json")
    assert main(["tokenizer", "pack", str(tmp_path / "in"), *options]) == 1
