"""Repairs of a run: each edit is in the ledger, in run.json and in the report."""

from __future__ import annotations

import json

import polars as pl
import pytest
from internlm_core.data import Pipeline, PipelineConfig
from internlm_core.data.edits import EditSummary
from internlm_core.data.normalise import Normaliser
from internlm_core.data.report import sections

BODY = "The tide rises twice a day, and nobody in the village looks at the clock. "
TEXTS = [
    "\u200b" + BODY,
    "Read more »\n" + BODY * 2 + "\nShare this\n© 2020 Example",
    "A cafÃ© by the sea.\r\n" + BODY * 3,
    BODY * 4 + "clean.",
]


@pytest.fixture(scope="module", params=[1, 1 << 20], ids=["a record a batch", "one batch"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits")
    lines = [json.dumps({"text": text, "url": str(n)}) for n, text in enumerate(TEXTS)]
    (folder / "in.jsonl").write_text("\n".join(lines))
    config = PipelineConfig(
        sources=[{"path": "in.jsonl", "lang": "en"}],
        filter={"enabled": False},
        dedup={"enabled": False},
        batch_bytes=max(1024, request.param),
    )
    return Pipeline(config, folder).run(folder / "out", quiet=True)


def test_each_edit_is_in_the_ledger(run):
    kept = pl.read_parquet(run.folder / "kept")
    ids = dict(kept.select("url", "id").iter_rows())
    ledger = pl.read_parquet(run.folder / "ledger").filter(pl.col("decision") == "edit")
    rows = {
        (row["id"], row["reason"], row["metric"]): row["value"]
        for row in ledger.iter_rows(named=True)
    }
    want = {
        ("0", "zero_width"): (1, 1),
        ("0", "trailing_blanks"): (1, 1),
        ("1", "trailing_blanks"): (1, 1),
        ("1", "line.read_more"): (1, 11),
        ("1", "line.share_button"): (1, 10),
        ("1", "line.copyright"): (1, 14),
        ("2", "mojibake"): (1, 1),
        ("2", "line_end"): (1, 1),
        ("2", "trailing_blanks"): (1, 1),
    }
    assert rows == {
        (ids[url], kind, metric): value
        for (url, kind), both in want.items()
        for metric, value in zip(("edits", "characters"), both, strict=True)
    }


def test_counts_are_in_run_json_and_the_report(run):
    rows = {row["kind"]: row for row in run.run["edits"]}
    assert rows["trailing_blanks"]["records"] == 3
    assert rows["line.copyright"]["characters"] == 14
    (sample,) = rows["mojibake"]["samples"]
    assert sample["before"].startswith("A cafÃ© by")
    assert sample["after"].startswith("A café by")
    found = {section.title: str(section.body) for section in sections(run.folder)}
    assert "line: copyright" in found["Edits"]
    assert "⟨200B⟩" in found["Edits"]


def test_batches_do_not_change_the_summary():
    texts = pl.Series([f"{'  ' * (n % 3)}a{' ' * (n % 5)}b\u200b" for n in range(200)])
    clean = Normaliser().run(texts)
    edits, characters = clean["edits"].struct.unnest(), clean["characters"].struct.unnest()
    frame = pl.DataFrame(
        {"id": [f"{n * 7919 % 200:032x}" for n in range(200)], "text": clean["text"]}
    )
    frame = frame.with_columns(
        edits[name].alias(f"normalise.{name}") for name in edits.columns
    ).with_columns(characters[name].alias(f"normalise.{name}#characters") for name in edits.columns)
    whole, parts = EditSummary(), EditSummary()
    whole.add(texts, frame)
    for start in range(0, 200, 33):
        part = EditSummary()
        part.add(texts.slice(start, 33), frame.slice(start, 33))
        parts.merge(part.rows())
    mine = [row for row in parts.rows() if row["records"]]
    assert mine == [row for row in whole.rows() if row["records"]]
