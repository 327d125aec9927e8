"""Test sets, addresses, lines and passages as stages of a run: reasons, nothing lost, any order."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from internlm_core.data import Pipeline
from internlm_core.data import repeat_stages as module
from internlm_core.data.records import with_ids
from internlm_core.errors import ConfigError, DataError

NOTICE = "Please do subscribe to our newsletter and never miss a story about the tides."
ITEM = "How many metres does the tide rise between noon and one if the moon is full?"
CONFIG = """
batch_bytes = 4096
shard_bytes = 4096
[[sources]]
path = "raw"
source = "web"
[filter]
enabled = false
[repeats.tests]
paths = ["{tests}"]
[repeats.urls]
enabled = true
[repeats.exact]
enabled = true
[repeats.lines]
enabled = true
[repeats.substrings]
enabled = true
min_length = 120
"""


def prose(rng: random.Random, words: int = 60) -> str:
    return " ".join("".join(rng.choices("abcdefghijk", k=6)) for _ in range(words))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    rng = random.Random(8)
    rows = [{"text": prose(rng), "url": f"http://a.example/{n}"} for n in range(40)]
    for row in rows[:5]:
        row["text"] += f"\n{NOTICE}"
    rows[5]["text"] += f" {ITEM} {prose(rng)}"
    rows.append({"text": prose(rng), "url": "http://A.example:80/7", "snapshot": "2024"})
    rows.append({"text": rows[8]["text"], "url": "http://b.example/8"})
    passage = prose(rng, 25)
    for number in (9, 10):
        rows[number]["text"] += passage + f"{number}{prose(rng, 10 + number)}"
    rows.append({"text": NOTICE.upper(), "url": "http://c.example/"})
    return rows


def run(folder: Path, rows: list[dict[str, Any]], name: str, threads: int = 1) -> Path:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        lines = "".join(json.dumps(row) + "\n" for row in rows[number::3])
        (folder / "raw" / f"{number}.jsonl").write_text(lines)
    (folder / "tests.jsonl").write_text(json.dumps({"text": ITEM}) + "\n")
    (folder / "run.toml").write_text(CONFIG.format(tests=(folder / "tests.jsonl").as_posix()))
    Pipeline.from_toml(folder / "run.toml").run(folder / name, threads=threads, quiet=True)
    return folder / name


def load(out: Path, output: str) -> pl.DataFrame:
    return pl.read_parquet(sorted((out / output).glob("*.parquet")))


def test_each_stage_has_its_reason_and_nothing_is_lost(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = run(tmp_path, rows, "out")
    kept, dropped, ledger = (load(out, name) for name in ("kept", "dropped", "ledger"))
    assert kept.height + dropped.height == len(rows)
    reasons = dict(dropped.select("reason", "text").iter_rows())
    assert reasons == {
        "test_set": rows[5]["text"],
        "same_url": rows[7]["text"],
        "same_text": rows[8]["text"],
        # Whole, though the stage left nothing of it.
        "repeated_lines": NOTICE.upper(),
    }
    assert (dropped["stage"] == "repeats").all()
    newer = kept.filter(pl.col("snapshot") == "2024")["id"][0]
    assert dropped.filter(pl.col("reason") == "same_url")["duplicate_of"].to_list() == [newer]
    assert kept["text"].str.contains(NOTICE, literal=True).sum() == 1
    edits = ledger.filter(pl.col("decision") == "edit", pl.col("stage") == "repeats")
    counted = edits.group_by("reason", "metric").len().sort("reason", "metric")
    assert counted.rows() == [
        ("repeated_lines", "characters", 4),
        ("repeated_lines", "edits", 4),
        ("repeated_substrings", "characters", 1),
        ("repeated_substrings", "edits", 1),
    ]
    # The id is a hash of what is stored, in every table.
    assert with_ids(kept.drop("id"))["id"].equals(kept["id"])
    assert set(edits["id"]) <= set(kept["id"])
    told = json.loads((out / "run.json").read_text())["edits"]
    cut = {row["kind"]: row for row in told if row["stage"] == "repeats"}
    assert cut["repeated_lines"]["records"] == 4
    assert "repeated text" in (out / "report.html").read_text("utf-8")


def test_any_order_and_threads_keep_the_same(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    def kept(name: str, rows: list[dict[str, Any]], threads: int) -> list[Any]:
        return sorted(load(run(tmp_path / name, rows, "out", threads), "kept").rows(), key=str)

    expected = kept("a", rows, 1)
    shuffled = rows.copy()
    random.Random(2).shuffle(shuffled)
    assert kept("b", shuffled, 4) == expected


def test_a_run_that_was_stopped_goes_on(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path, rows, "whole")
    write, calls = module.write_parquet, []

    def stop(frame: pl.DataFrame, path: Path) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(frame, path)

    monkeypatch.setattr(module, "write_parquet", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, rows, "again")
    again = run(tmp_path, rows, "again")
    assert len(calls) > 3
    # What was there when it stopped is not made again.
    assert len(calls) == len(set(calls)) + 1
    for name in ("kept", "dropped", "ledger"):
        assert load(again, name).equals(load(whole, name))


def test_another_test_set_makes_another_run(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Files with test sets are inputs: a run is not gone on with, or taken for done, with others."""
    out = run(tmp_path, rows, "out")
    entry = json.loads((out / "run.json").read_text())["inputs"][-1]
    assert entry["role"] == "test_set"
    assert entry["sha256"] == hashlib.sha256((tmp_path / "tests.jsonl").read_bytes()).hexdigest()
    again = Pipeline.from_toml(tmp_path / "run.toml")
    assert again.run(out, quiet=True).kept > 0
    (tmp_path / "tests.jsonl").write_text(json.dumps({"text": "another question"}) + "\n")
    with pytest.raises(ConfigError, match=r"input test set .*tests\.jsonl has changed"):
        again.run(out, quiet=True)


def test_a_test_set_that_is_not_there_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "none").mkdir()
    text = '[[sources]]\npath = "raw.jsonl"\n[repeats.tests]\npaths = ["{}"]\n'
    for path, words in ((tmp_path / "no.jsonl", "no such file"), (tmp_path / "none", "no file")):
        (tmp_path / "run.toml").write_text(text.format(path.as_posix()))
        with pytest.raises(DataError, match=words):
            Pipeline.from_toml(tmp_path / "run.toml").run(tmp_path / "out", quiet=True)
        assert not (tmp_path / "out" / "run.json").exists()


def test_little_memory_changes_nothing_or_is_said(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Lines are counted share by share; passages need all texts, and say how much that is."""
    wide = run(tmp_path, rows, "wide")
    lines = ["repeats.lines.max_memory=1000"]
    pipeline = Pipeline.from_toml(tmp_path / "run.toml", lines)
    pipeline.run(tmp_path / "narrow", quiet=True)
    for name in ("kept", "dropped", "ledger"):
        assert load(tmp_path / "narrow", name).equals(load(wide, name))
    assert pipeline.config.identity() == Pipeline.from_toml(tmp_path / "run.toml").config.identity()
    pipeline = Pipeline.from_toml(tmp_path / "run.toml", ["repeats.substrings.max_memory=2000"])
    with pytest.raises(
        ConfigError, match=r"substrings\.max_memory = 2,000: the texts have 1\d,\d+"
    ):
        pipeline.run(tmp_path / "none", quiet=True)
    # With more, the same folder goes on.
    Pipeline.from_toml(tmp_path / "run.toml").run(tmp_path / "none", quiet=True)
    assert load(tmp_path / "none", "kept").equals(load(wide, "kept"))


def test_without_these_stages_a_run_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[[sources]]\npath = "raw"\n')
    identity = Pipeline.from_toml(tmp_path / "run.toml").config.identity()
    assert "repeats" not in identity
    asked = Pipeline.from_toml(tmp_path / "run.toml", ["repeats.urls.enabled=true"]).config
    assert asked.identity()["repeats"]["urls"]["enabled"]
