"""The report of a run: complete, escaped, the same each time."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest
from internlm_core.data import Pipeline, PipelineConfig
from internlm_core.data.report import sections, write_report
from internlm_core.errors import DataError

EVIL = "<script>document.title = 'owned'</script><img src=http://x.example/a.png onerror=alert(1)>"


@pytest.fixture
def finished(corpus, tmp_path):
    folder, _ = corpus
    with (folder / "crawl.jsonl").open("ab") as file:
        file.write(json.dumps({"text": EVIL, "url": EVIL, "source": EVIL}).encode() + b"\n")
        file.write(json.dumps({EVIL: EVIL}).encode() + b"\n")
    return Pipeline.from_toml(folder / "run.toml").run(tmp_path / "out", quiet=True)


def test_all_parts_are_there(finished):
    found = {section.title: str(section.body) for section in sections(finished.folder)}
    assert list(found) == [
        "Overview",
        "Sources",
        "Languages",
        "Edits",
        "Reasons",
        "Statistics against thresholds",
        "Dropped documents",
        "Duplicates",
        "Rejected input",
        "Settings",
    ]
    assert f"{finished.kept} " in found["Overview"]
    for name in ("webpages", "books", "notes", "table"):
        assert name in found["Sources"]
    assert "near_duplicate (dedup)" in found["Reasons"]
    assert found["Statistics against thresholds"].count("<rect") > 10
    assert 'class="mark"' in found["Statistics against thresholds"]
    assert "- item" in found["Dropped documents"]
    # Edited copies differ in one word from the documents that stayed.
    assert re.search(r"<mark>\s*the\s*</mark>", found["Duplicates"])
    assert "broken_json" in found["Rejected input"]
    assert "dedup.threshold" in found["Settings"]


def test_each_threshold_is_seen_against_its_statistic(finished):
    """Those that dropped nothing too, in a block that opens."""
    found = {section.title: str(section.body) for section in sections(finished.folder)}
    charts = found["Statistics against thresholds"]
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", charts)
    known = set(pl.read_parquet(finished.folder / "metrics" / "*.parquet").columns)
    limited = set(finished.run["thresholds"]) & known
    assert {name.replace("_", " ") for name in limited} <= set(titles)
    assert len(titles) == len(set(titles)) > 10
    assert "with a threshold" in charts


def test_text_of_the_corpus_stays_text(finished):
    page = (finished.folder / "report.html").read_text("utf-8")
    assert "&lt;script&gt;" in page, "the page should show the document"
    assert "<script" not in page
    assert "<img" not in page
    assert "default-src 'none'" in page


def test_drawn_again_it_is_the_same(finished):
    first = (finished.folder / "report.html").read_bytes()
    assert write_report(finished.folder).read_bytes() == first
    assert str(finished.folder).encode() not in first


def test_a_run_with_little_to_say(tmp_path):
    (tmp_path / "in.txt").write_text("one text only")
    config = PipelineConfig.model_validate(
        {"sources": [{"path": "in.txt"}], "filter": {"enabled": False}}
    )
    Pipeline(config, tmp_path).run(tmp_path / "out", quiet=True)
    titles = [section.title for section in sections(tmp_path / "out")]
    assert titles == ["Overview", "Sources", "Languages", "Settings"]


def test_no_run_no_report(tmp_path):
    with pytest.raises(DataError, match="no run folder"):
        sections(tmp_path)


def test_real_plays_repeat_each_other(test_data, tmp_path):
    """Two editions of each play: the report shows them side by side."""
    english = test_data / "text" / "en"
    paths = [english / "shakespeare_md", english / "openshakespeare"]
    config = PipelineConfig.model_validate(
        {"sources": [{"path": str(path), "lang": "en"} for path in paths]}
    )
    summary = Pipeline(config).run(tmp_path / "out", quiet=True)
    assert summary.faults == []
    duplicates = [row for row in summary.run["counts"] if row["stage"] == "dedup"]
    assert sum(row["documents"] for row in duplicates) >= 30
    shown = next(s for s in sections(summary.folder) if s.title == "Duplicates")
    assert str(shown.body).count("<mark>") > 20
