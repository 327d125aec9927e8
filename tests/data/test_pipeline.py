"""The pipeline: nothing gets lost, the result is fixed by input and configuration alone."""

from __future__ import annotations

import json

import polars as pl
import pytest
from internlm_core.cli import main
from internlm_core.data import SCHEMA, Pipeline, PipelineConfig
from internlm_core.data.readers import ReadLimits, SourceSpec, find_files, group_files, read_batches
from internlm_core.data.records import with_ids
from internlm_core.data.shards import ShardWriter
from internlm_core.errors import ConfigError, InternalError


def run(corpus, out, *overrides, **settings):
    folder, _ = corpus
    return Pipeline.from_toml(folder / "run.toml", overrides).run(out, quiet=True, **settings)


def load(out, output):
    return pl.read_parquet(sorted((out / output).glob("*.parquet")))


@pytest.fixture
def finished(corpus, tmp_path):
    out = tmp_path / "out"
    return out, run(corpus, out)


def test_every_record_is_kept_or_dropped_and_every_bad_line_set_aside(corpus, finished):
    _, counts = corpus
    out, summary = finished
    kept, dropped = load(out, "kept"), load(out, "dropped")
    assert kept.height + dropped.height == counts["records"]
    assert (summary.kept, summary.dropped) == (kept.height, dropped.height)
    assert summary.rejected == counts["bad_lines"]
    assert summary.faults == []
    # The same by what was in the input, not by counts: texts, numbers of rows, and bad lines.
    folder, _ = corpus
    before = []
    for group in group_files(find_files([SourceSpec(".")], folder).files):
        for batch in read_batches(group, ReadLimits()):
            before += batch.records["text"].to_list()
    after = [*kept["text"], *dropped["text"]]
    assert sorted(t.strip() for t in after) == sorted(
        t.replace("\r\n", "\n").strip() for t in before
    )
    shards = sorted((out / "rejected").iterdir())
    rejected = [json.loads(line) for f in shards for line in f.read_bytes().splitlines()]
    data = (folder / "crawl.jsonl").read_bytes()
    for entry in rejected:
        assert data[entry["offset"] :].startswith(entry.get("raw", "").encode())
    assert [entry["line"] for entry in rejected] == [6, 7, 8, 9]


def test_kept_records_have_the_public_schema_and_ids_of_what_is_stored(finished):
    out, _ = finished
    kept = load(out, "kept")
    assert kept.schema == pl.Schema(SCHEMA)
    assert with_ids(kept.drop("id"))["id"].equals(kept["id"])
    assert set(kept["source"]) == {"webpages", "books", "table", "notes"}
    numbers = [json.loads(m)["n"] for m in kept.filter(pl.col("meta").is_not_null())["meta"]]
    assert len(numbers) == len(set(numbers)) > 40


def test_dropped_records_say_why(finished):
    out, _ = finished
    dropped = load(out, "dropped")
    assert dropped["stage"].null_count() == dropped["reason"].null_count() == 0
    stages = dict(dropped.group_by("stage").len().iter_rows())
    assert stages == {"read": 1, "rules": 3, "dedup": 9}
    for row in dropped.filter(pl.col("stage") == "rules").iter_rows(named=True):
        # The value is on the wrong side of the threshold, by the rule's own name.
        assert row["metric"]
        assert row["value"] != row["threshold"]
    copies = dropped.filter(pl.col("stage") == "dedup")
    kept = load(out, "kept")
    assert copies["duplicate_of"].is_in(kept["id"].implode()).all()
    assert (copies["value"] >= 0.7).all()
    # The newest snapshot wins: each edited copy went, its original stayed.
    assert copies.filter(pl.col("snapshot") == "2023").height == 8


def test_the_ledger_has_one_last_word_on_each_record(finished):
    out, summary = finished
    ledger = load(out, "ledger")
    last = ledger.filter(pl.col("decision") != "edit")
    assert last.height == summary.kept + summary.dropped
    assert (
        last.filter(pl.col("decision") == "keep")["id"]
        .sort()
        .equals(load(out, "kept")["id"].sort())
    )
    assert (
        last.filter(pl.col("decision") == "drop")["id"]
        .sort()
        .equals(load(out, "dropped")["id"].sort())
    )
    edits = ledger.filter(pl.col("decision") == "edit")
    assert edits.height >= 5, "the notes end in CRLF"
    assert (edits["value"] >= 1).all()


def test_counts_in_run_json_are_those_of_the_shards(finished):
    out, _ = finished
    counts = pl.DataFrame(json.loads((out / "run.json").read_bytes())["counts"])
    for side, name in ((counts["stage"] == "", "kept"), (counts["stage"] != "", "dropped")):
        frame = load(out, name)
        assert counts.filter(side)["documents"].sum() == frame.height
        assert counts.filter(side)["bytes"].sum() == frame["text"].str.len_bytes().sum()


def test_metrics_are_kept_for_each_record_that_was_judged(finished):
    out, summary = finished
    metrics = load(out, "metrics")
    assert metrics.height == summary.kept + summary.dropped - 1, "the empty note was not judged"
    assert "words" in metrics.columns


def test_threads_do_not_change_a_byte(corpus, tmp_path, tree):
    run(corpus, tmp_path / "one", threads=1)
    run(corpus, tmp_path / "two", threads=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert len(tree(tmp_path / "one")) > 8


def test_shards_end_where_the_limit_says(finished):
    out, _ = finished
    shards = [pl.read_parquet(path) for path in sorted((out / "kept").iterdir())]
    assert len(shards) > 2
    for shard in shards:
        size = shard["text"].str.len_bytes()
        assert size.sum() - size[-1] < 8_000


def test_a_second_run_reads_only_and_answers_the_same(corpus, finished, tree):
    out, summary = finished
    before = tree(out)
    (out / "timing.json").unlink()
    again = run(corpus, out)
    assert again.run == summary.run
    assert tree(out) == before
    assert not (out / "timing.json").exists()


def test_a_lost_row_would_be_noticed(corpus, tmp_path, monkeypatch):
    push = ShardWriter.push
    lost = []

    def careless(self, frame, sizes):
        if self._folder.name == "kept" and frame.height > 1 and not lost:
            lost.append(1)
            frame, sizes = frame.slice(1), sizes.slice(1)
        push(self, frame, sizes)

    monkeypatch.setattr(ShardWriter, "push", careless)
    with pytest.raises(InternalError, match="were read but"):
        run(corpus, tmp_path / "out")


def test_stages_can_be_left_out(corpus, tmp_path):
    off = [f"{stage}.enabled=false" for stage in ("normalise", "language", "filter", "dedup")]
    summary = run(corpus, tmp_path / "out", *off)
    assert summary.dropped == 1
    assert load(tmp_path / "out", "kept").height == summary.kept


def test_rules_can_be_overridden(corpus, tmp_path):
    strict = run(corpus, tmp_path / "a", "filter.set.gopher.word_count.min=130")
    reasons = {row["reason"] for row in strict.run["counts"] if row["stage"] == "rules"}
    assert "gopher.word_count" in reasons
    assert 0 < strict.kept < 50


def test_languages_are_told_and_chosen(tmp_path):
    english = (
        "This is a page about the weather of the week, and it is written in plain English. " * 3
    )
    chinese = "这是一个关于天气的网页，内容用简体中文写成，供读者参考。" * 6
    (tmp_path / "in.jsonl").write_text(
        "\n".join(json.dumps({"text": t}) for t in (english, chinese))
    )
    sources = [{"path": "in.jsonl"}, {"path": "in.jsonl"}]
    config = PipelineConfig.model_validate(
        {"sources": sources, "language": {"keep": ["zh"]}, "filter": {"enabled": False}}
    )
    Pipeline(config, tmp_path).run(tmp_path / "out", quiet=True)
    kept, dropped = load(tmp_path / "out", "kept"), load(tmp_path / "out", "dropped")
    assert kept["lang"].to_list() == ["zh"]
    assert kept["lang_score"][0] > 0.5
    assert dropped.select("lang", "stage", "reason").rows() == [
        ("en", "language", "unwanted_language")
    ]


def test_the_same_text_twice_costs_no_row(tmp_path):
    row = json.dumps({"text": "same"})
    (tmp_path / "in.jsonl").write_text(f"{row}\n{row}\n{row}\n")
    config = PipelineConfig.model_validate(
        {
            "sources": [{"path": "in.jsonl"}],
            "filter": {"enabled": False},
            "dedup": {"enabled": False},
        }
    )
    summary = Pipeline(config, tmp_path).run(tmp_path / "out", quiet=True)
    assert (summary.kept, summary.run["repeated_ids"]) == (3, 2)


def test_parts_without_records_are_no_trouble(tmp_path):
    """A file of nothing, one of blanks and one of bad lines come before the first good record."""
    folder = tmp_path / "in"
    folder.mkdir()
    prose = (
        "The tide comes up the river twice a day and with it come the boats of the town. Some of "
        "them carry salt, others bring back wool from the hills beyond the bridge."
    )
    (folder / "1.jsonl").write_bytes(b"")
    (folder / "2.jsonl").write_text('{"text": " "}\n')
    (folder / "3.jsonl").write_text("[]\n{}\n")
    (folder / "4.jsonl").write_text(json.dumps({"text": prose, "lang": "en"}) + "\n")
    config = PipelineConfig.model_validate(
        {"sources": [{"path": "in"}], "filter": {"set": {"gopher.word_count.min": 10}}}
    )
    summary = Pipeline(config, tmp_path).run(tmp_path / "out", quiet=True)
    assert (summary.kept, summary.dropped, summary.rejected) == (1, 1, 2)
    assert load(tmp_path / "out", "metrics").height == 1


# --- the command --------------------------------------------------------------------------------


def test_the_command_runs_and_draws(corpus, tmp_path, capfd):
    folder, _ = corpus
    out = tmp_path / "out"
    config = ["--config", str(folder / "run.toml"), "--out", str(out)]
    assert main(["data", "run", *config, "--dry-run"]) == 0
    assert not out.exists()
    assert "webpages" in capfd.readouterr().err
    assert main(["data", "run", *config, "--threads", "1"]) == 0
    words = capfd.readouterr().err
    assert "near_duplicate" in words
    assert "text_missing 1" in words
    (out / "report.html").unlink()
    assert main(["data", "report", str(out)]) == 0
    assert (out / "report.html").stat().st_size > 10_000


def test_paths_on_the_command_line_take_the_place_of_sources(corpus, tmp_path, monkeypatch, capfd):
    folder, _ = corpus
    monkeypatch.chdir(folder)
    command = ["data", "run", "notes", "table.parquet", "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*command, "--set", "dedup.threshold=0.9"]) == 0
    config = json.loads((tmp_path / "out" / "run.json").read_bytes())["configuration"]
    assert [source["path"] for source in config["sources"]] == ["notes", "table.parquet"]
    assert config["dedup"]["threshold"] == 0.9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name files or folders"),
        (["x", "--set", "dedup.treshold=0.8"], "dedup.treshold"),
        (["x", "--set", "dedup.threshold=2"], "dedup.threshold = 2"),
        (["x", "--set", "filter.preset=nonsense"], "nonsense"),
        (["--config", "absent.toml"], "absent.toml"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_key(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.txt").write_text("a")
    assert main(["data", "run", *arguments, "--out", "out"]) == 2
    assert words in capfd.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_typo_in_the_file_names_the_known_keys(tmp_path):
    (tmp_path / "run.toml").write_text('[[sources]]\npath = "a"\nsuorce = "b"\n')
    with pytest.raises(ConfigError, match="suorce"):
        Pipeline.from_toml(tmp_path / "run.toml")
