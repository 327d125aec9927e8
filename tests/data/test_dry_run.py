"""A dry run tells what a run would do, and writes nothing."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter

import polars as pl
import pytest
from internlm_core.cli import main
from internlm_core.data import Pipeline, PipelineConfig
from internlm_core.errors import ConfigError


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_of_a_small_corpus_it_says_all(corpus, tmp_path, capfd):
    """Here the sample is the whole input of the first batches, so its numbers are the run's."""
    folder, counts = corpus
    whole = ["batch_bytes=1000000"]
    before = files(tmp_path)
    result = Pipeline.from_toml(folder / "run.toml", whole).dry_run()
    assert files(tmp_path) == before
    assert result.records == counts["records"]
    assert result.rejected == counts["bad_lines"]
    summary = Pipeline.from_toml(folder / "run.toml", whole).run(tmp_path / "out", quiet=True)
    dropped = Counter()
    for row in summary.run["counts"]:
        dropped[row["stage"], row["reason"]] += row["documents"]
    assert result.kept == summary.kept == dropped.pop(("", ""))
    assert result.dropped == dropped
    assert result.scale == pytest.approx(1, abs=1e-9)
    assert result.estimated_kept == summary.kept
    config = ["--config", str(folder / "run.toml"), "--out", str(tmp_path / "none")]
    assert main(["data", "run", *config, "--dry-run"]) == 0
    words = capfd.readouterr().err
    assert "near_duplicate" in words
    assert "nothing was written" in words
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_a_large_file_is_told_from_its_start(tmp_path, kind, monkeypatch):
    """Half of the records are empty: the estimate of a tenth of the file is near the truth."""
    from internlm_core.data import dry_run

    monkeypatch.setattr(dry_run, "_BATCH_BYTES", 1_600_000)
    rng = random.Random(2)
    texts = ["" if n % 2 else rng.randbytes(400).hex() for n in range(40_000)]
    path = tmp_path / f"in.{kind}"
    if kind == "parquet":
        pl.DataFrame({"text": texts}).write_parquet(path, row_group_size=500)
    else:
        data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        path.write_bytes(gzip.compress(data, 1) if kind.endswith("gz") else data)
    off = {"enabled": False}
    config = PipelineConfig.model_validate(
        {
            "sources": [{"path": path.name}],
            "batch_rows": 500,
            **dict.fromkeys(("normalise", "language", "filter", "dedup"), off),
        }
    )
    result = Pipeline(config, tmp_path).dry_run()
    assert 0 < result.records < 10_000
    assert result.kept == pytest.approx(result.records / 2, abs=1)
    assert result.estimated_seconds > result.seconds
    # Compressed input is read in blocks, so the scale of so small a file is a little coarse.
    assert result.estimated_records == pytest.approx(40_000, rel=0.35)


def test_repeats_count_in_a_dry_run(corpus, tmp_path):
    folder, _ = corpus
    first = (folder / "crawl.jsonl").read_bytes().split(b"\n")[0]
    (tmp_path / "tests.jsonl").write_bytes(first)
    asked = [
        "batch_bytes=1000000",
        "repeats.urls.enabled=true",
        f'repeats.tests.paths=["{tmp_path}/tests.jsonl"]',
    ]
    result = Pipeline.from_toml(folder / "run.toml", asked).dry_run()
    summary = Pipeline.from_toml(folder / "run.toml", asked).run(tmp_path / "out", quiet=True)
    dropped = Counter()
    for row in summary.run["counts"]:
        dropped[row["stage"], row["reason"]] += row["documents"]
    assert result.kept == summary.kept == dropped.pop(("", ""))
    assert result.dropped == dropped
    assert dropped["repeats", "test_set"] > 0


def test_wrong_rules_are_told(corpus):
    folder, _ = corpus
    with pytest.raises(ConfigError):
        Pipeline.from_toml(folder / "run.toml", ["filter.preset=none"]).dry_run()
