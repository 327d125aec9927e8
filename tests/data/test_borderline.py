"""Records nearest a threshold: the right ones, on both sides, the same each time."""

from __future__ import annotations

import json

import polars as pl
import pytest
from internlm_core.cli import main
from internlm_core.data import Pipeline, borderline
from internlm_core.errors import ConfigError, DataError


@pytest.fixture
def finished(corpus, tmp_path):
    folder, _ = corpus
    return Pipeline.from_toml(folder / "run.toml").run(tmp_path / "out", quiet=True).folder


def test_they_are_the_nearest_by_brute_force(finished):
    metrics = pl.read_parquet(finished / "metrics" / "*.parquet").unique("id")
    middle = float(metrics["words"].median())
    found = borderline(finished, "words", middle, 4)
    assert found["side"].to_list() == ["below"] * 4 + ["above"] * 4
    for side, rows in (
        ("below", [r for r in metrics.select("words", "id").rows() if r[0] < middle]),
        ("above", [r for r in metrics.select("words", "id").rows() if r[0] >= middle]),
    ):
        nearest = sorted((abs(words - middle), id_) for words, id_ in rows)[:4]
        ours = found.filter(pl.col("side") == side)
        assert sorted(zip(ours["distance"], ours["id"], strict=True)) == nearest
    assert found["value"].is_sorted()
    assert found.equals(borderline(finished, "words", middle, 4))


def test_a_value_at_the_threshold_lies_above_it(finished):
    value = float(pl.read_parquet(finished / "metrics" / "*.parquet")["words"].max())
    found = borderline(finished, "words", value, 1)
    assert found.filter(pl.col("side") == "above")["value"].to_list() == [value]
    assert found.filter(pl.col("side") == "below")["value"][0] < value


def test_records_say_what_became_of_them(finished):
    found = borderline(finished, "words", 50, 40)
    kept = set(pl.read_parquet(finished / "kept" / "*.parquet")["id"])
    assert (found["stage"].is_null() == found["id"].is_in(list(kept))).all()
    assert {"rules"} < set(found["stage"].drop_nulls()) | {"kept"}
    assert found["text"].null_count() == 0


def test_one_language_or_source(finished):
    assert set(borderline(finished, "words", 100, 3, source="books")["source"]) == {"books"}
    assert borderline(finished, "words", 100, 3, lang="zh").is_empty()


def test_the_bound_of_the_run_is_taken_where_there_is_one(finished):
    bounds = json.loads((finished / "run.json").read_bytes())["thresholds"]
    metric, (bound,) = next((m, b) for m, b in bounds.items() if len(b) == 1)
    assert borderline(finished, metric).equals(borderline(finished, metric, bound))
    several = next((m for m, b in bounds.items() if len(b) > 1), None)
    if several:
        with pytest.raises(ConfigError, match="has the bounds"):
            borderline(finished, several)


def test_wrong_questions(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"'wrds' .* words"):
        borderline(finished, "wrds", 1)
    with pytest.raises(ConfigError, match="at least one"):
        borderline(finished, "words", 1, 0)
    with pytest.raises(ConfigError, match="expected a number"):
        borderline(finished, "words", float("nan"))
    with pytest.raises(DataError, match="no run folder"):
        borderline(tmp_path / "nothing", "words", 1)


def test_the_command(finished, tmp_path, capfd):
    command = ["data", "borderline", str(finished), "--metric", "words", "--threshold", "100"]
    assert main([*command, "-n", "2"]) == 0
    words = capfd.readouterr().err
    assert "words: below the threshold" in words
    assert "words: above the threshold" in words
    assert main([*command, "-n", "2", "--json", "-"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(rows) == 4
    shown = borderline(finished, "words", 100)
    page = tmp_path / "page.html"
    assert main([*command, "--html", str(page), "--json", str(tmp_path / "rows.jsonl")]) == 0
    assert "Above the threshold" in page.read_text("utf-8")
    assert len((tmp_path / "rows.jsonl").read_text("utf-8").splitlines()) == shown.height
    assert main([*command[:4], "nonsense"]) == 2
