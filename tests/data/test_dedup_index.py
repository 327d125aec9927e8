"""An index of earlier corpora: who wins, what equals a batch, what is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from internlm_core import cli
from internlm_core.data import DedupIndex, dedup
from internlm_core.errors import ConfigError, DataError

OLD = "old text one two three four five"
NEW = "a new text of six or seven words"


def frame(ids: str, texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"id": list(ids), "text": texts})


def dump(number: int, count: int = 700) -> pl.DataFrame:
    """A dump with copies, exact and edited, of its own and of the dumps before it."""
    rng = random.Random(99)
    pool = [[f"t{t}w{w}x{rng.randrange(10**6)}" for w in range(40)] for t in range(900)]
    rng = random.Random(number)
    texts = []
    for _ in range(count):
        words = list(rng.choice(pool))
        for _ in range(rng.randrange(4)):
            words[rng.randrange(40)] = f"e{rng.randrange(10**9)}"
        texts.append(" ".join(words))
    ids = [f"{number}-{rng.randrange(10**9):09}-{i}" for i in range(count)]
    return pl.DataFrame({"id": ids, "text": texts, "score": [1.0 / (1 + number)] * count})


def test_an_old_document_is_named_and_stays(tmp_path: Path) -> None:
    index = DedupIndex.create(tmp_path / "index")
    assert index.add(frame("A", [OLD]))["keep"].to_list() == [True]
    found = index.query(frame("B", [OLD])).row(0, named=True)
    assert found == {
        "id": "B",
        "cluster": "A",
        "keep": False,
        "jaccard": 1.0,
        "duplicate_of": "A",
    }
    assert index.documents == 1


def test_copies_within_the_new_batch_go_too(tmp_path: Path) -> None:
    index = DedupIndex.create(tmp_path / "index")
    index.add(frame("A", [OLD]))
    found = index.add(frame("wxyz", [OLD, NEW, NEW, OLD]), name="second")
    assert found["keep"].to_list() == [False, True, False, False]
    assert found["duplicate_of"].to_list() == ["A", None, "x", "A"]
    assert index.segments["documents"].to_list() == [1, 1]
    assert index.segments["name"].to_list() == ["", "second"]


def test_an_old_document_wins_over_a_better_new_one(tmp_path: Path) -> None:
    index = DedupIndex.create(tmp_path / "index")
    old = frame("Z", [OLD]).with_columns(snapshot=pl.lit("2019"))
    new = frame("A", [OLD + " and a longer end"]).with_columns(snapshot=pl.lit("2024"))
    index = DedupIndex.create(tmp_path / "other", ngram=1)
    index.add(old)
    both = dedup(pl.concat([old, new]), ngram=1, threshold=0.6)
    assert both["keep"].to_list() == [False, True]
    index = DedupIndex.create(tmp_path / "third", ngram=1, threshold=0.6)
    index.add(old)
    assert index.add(new)["duplicate_of"].to_list() == ["Z"]


def test_incremental_equals_batch_where_keep_order_allows(tmp_path: Path) -> None:
    """Dumps whose scores fall, one by one, and all at once."""
    dumps = [dump(number) for number in range(4)]
    want = dedup(pl.concat(dumps))
    index = DedupIndex.create(tmp_path / "index")
    found = pl.concat([index.add(one, max_memory=2_000_000) for one in dumps])
    assert found.equals(want)
    assert 500 < want["keep"].sum() == index.documents < 2_500
    # The other way round the older documents win, which a batch would not let them.
    backwards = DedupIndex.create(tmp_path / "backwards")
    found = pl.concat([backwards.add(one) for one in reversed(dumps)])
    assert not found.sort("id").equals(want.sort("id"))
    assert found.filter(pl.col("id").str.starts_with("3-"))["keep"].sum() > 0


def test_confirmed_by_signature(tmp_path: Path) -> None:
    dumps = [dump(number) for number in range(3)]
    want = dedup(pl.concat(dumps), verify="signature")
    index = DedupIndex.create(tmp_path / "index", verify="signature")
    found = pl.concat([index.add(one, max_memory=2_000_000) for one in dumps])
    assert found.equals(want)


def test_query_changes_nothing(tmp_path: Path) -> None:
    index = DedupIndex.create(tmp_path / "index")
    index.add(dump(0))

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()}

    before = files()
    one = index.query(dump(1))
    assert files() == before
    assert index.query(dump(1)).equals(one)
    assert index.add(dump(1)).equals(one)


def test_fuse(tmp_path: Path) -> None:
    first, second = (DedupIndex.create(tmp_path / name) for name in ("a", "b"))
    first.add(dump(0))
    first.add(dump(1))
    second.add(dump(2))
    second.add(dump(3))
    inside = {path.name for path in (tmp_path / "b").iterdir()}
    size = second.documents
    found = first.fuse(second)
    assert {path.name for path in (tmp_path / "b").iterdir()} == inside
    assert found.height == size
    # What was kept stands for nearly all: a document of b's may have gone for one that a's replaced.
    every = pl.concat([dump(number) for number in range(4)])
    again = DedupIndex.open(tmp_path / "a").query(every)
    assert again["keep"].sum() < 0.02 * every.height
    with pytest.raises(ConfigError, match="with itself"):
        first.fuse(first)
    other = DedupIndex.create(tmp_path / "c", seed=5)
    with pytest.raises(ConfigError, match="seed is 1 there, 5 now"):
        first.fuse(other)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("threshold", 0.8, "threshold is 0.7 there, 0.8 now"),
        ("ngram", 6, "ngram is 5 there, 6 now"),
        ("permutations", 256, "permutations is 128 there, 256 now"),
        ("fold", False, "fold is True there, False now"),
        ("unit", "code", "unit is 'auto' there, 'code' now"),
    ],
)
def test_another_configuration_is_refused(
    tmp_path: Path, setting: str, value: Any, words: str
) -> None:
    DedupIndex.create(tmp_path / "index").add(frame("A", [OLD]))
    settings: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigError, match=words):
        DedupIndex.open(tmp_path / "index", **settings)
    DedupIndex.open(tmp_path / "index", threshold=0.7, max_memory="1MB")


def test_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    DedupIndex.create(folder).add(dump(0))
    for path in sorted(folder.iterdir()):
        if path.name == ".lock":
            continue
        whole = path.read_bytes()
        altered = bytearray(whole)
        altered[len(altered) // 2] ^= 1
        for damaged in (whole[:-10], bytes(altered), None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(DataError, match=path.name.replace(".", r"\.")):
                DedupIndex.open(folder).query(dump(1))
            path.write_bytes(whole)
    DedupIndex.open(folder).query(dump(1))


def test_format_and_folder(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = DedupIndex.create(folder)
    with pytest.raises(ConfigError, match="not empty"):
        DedupIndex.create(folder)
    with pytest.raises(DataError, match="no index"):
        DedupIndex.open(tmp_path / "nothing")
    manifest = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**manifest, "format": 9}))
    with pytest.raises(DataError, match="format 9, this version reads 1"):
        DedupIndex.open(folder)
    with pytest.raises(DataError, match="ids"):
        index.query(pl.Series([OLD]))
    with pytest.raises(ConfigError, match="greedy"):
        DedupIndex.create(tmp_path / "other", clusters="components")


_KILLED = """
    import sys
    import polars as pl
    from internlm_core.data import DedupIndex
    index = DedupIndex.open(sys.argv[1])
    index.add(pl.read_parquet(sys.argv[2]), max_memory=1_500_000)
"""


def test_killed_while_adding(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    DedupIndex.create(folder).add(dump(0))
    first = DedupIndex.open(folder).documents
    path = tmp_path / "dump.parquet"
    dump(1, 3_000).write_parquet(path)
    want = DedupIndex.open(folder).query(pl.read_parquet(path))
    command = [sys.executable, "-c", textwrap.dedent(_KILLED), str(folder), str(path)]
    for pattern in (".partial-*/**/decided-*", "records-*"):
        before = set(folder.glob(pattern))
        process = subprocess.Popen(command, env=os.environ)
        while process.poll() is None and set(folder.glob(pattern)) <= before:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        index = DedupIndex.open(folder)
        if index.segments.height == 2:
            # It was quicker than the kill: then it added all.
            break
        assert index.documents == first
    else:
        assert index.add(pl.read_parquet(path)).equals(want)
        assert not list(folder.glob(".partial-*"))
    assert DedupIndex.open(folder).documents == first + want["keep"].sum()


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [OLD, NEW, NEW + "!", OLD.upper()]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    second.write_text("".join(json.dumps({"text": text}) + "\n" for text in [NEW, "all fresh"]))
    index = str(tmp_path / "index")

    def run(path: Path, out: str, *more: str) -> int:
        return cli.main(
            ["data", "dedup", str(path), "--out", str(tmp_path / out), "--quiet", *more]
        )

    assert run(first, "one", "--index", index) == 0
    assert len(_kept(tmp_path / "one")) == 2
    clusters = pl.read_parquet(tmp_path / "one/clusters.parquet")
    assert clusters.columns == ["cluster", "id", "keep", "jaccard"]
    assert clusters["keep"].to_list() == [True, False, True, False]
    assert clusters["jaccard"].to_list() == [None, 1.0, None, 1.0]
    assert run(second, "two", "--index", index) == 0
    assert _kept(tmp_path / "two") == ["all fresh"]
    # The same run again, into another folder: it was added before, and finds the same.
    assert run(second, "three", "--index", index) == 0
    assert _kept(tmp_path / "three") == ["all fresh"]
    assert DedupIndex.open(index).documents == 3
    # A dump without anything new is no failure.
    third = tmp_path / "third.jsonl"
    third.write_text(json.dumps({"text": NEW, "url": "x"}) + "\n")
    assert run(third, "four", "--index", index) == 0
    assert _kept(tmp_path / "four") == []
    other = DedupIndex.create(tmp_path / "other")
    other.add(frame("q", ["quite another text of nine words or so"]))
    assert cli.main(["data", "fuse", index, str(tmp_path / "other"), "--max-memory", "2MB"]) == 0
    assert "1 of 1 documents added; 4 in" in " ".join(capsys.readouterr().err.split())
    assert run(first, "five", "--index", index, "--threshold", "0.9") == 2
    assert "threshold is 0.7 there, 0.9 now" in " ".join(capsys.readouterr().err.split())
    assert run(first, "six", "--threshold", "1", "--max-memory", "2MB", "--set", "fold=false") == 0
    assert len(_kept(tmp_path / "six")) == 4


def _kept(folder: Path) -> list[str]:
    texts: list[str] = pl.read_parquet(folder / "kept/*.parquet")["text"].to_list()
    return texts
