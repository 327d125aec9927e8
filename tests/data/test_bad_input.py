"""Bad input and bad circumstances: a clear message, the right exit code, nothing half done."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import polars as pl
import pytest
from internlm_core._files import FolderBusyError, folder_lock
from internlm_core.cli import main
from internlm_core.data import Pipeline
from internlm_core.errors import ConfigError, DataError

PROSE = (
    "The tide comes up the river twice a day and with it come the boats of the town. "
    "Some of them carry salt, others bring back wool from the hills beyond the bridge. "
    "When the water is low, children walk out on the sand to look for shells that have lain "
    "there since winter, and an old man sells them tea from a cart painted green. "
)


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Function: run `internlm-core data run` in `tmp_path`; gives exit code and messages."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, out="out"):
        code = main(["data", "run", *map(str, arguments), "--out", out, "--quiet"])
        return code, capfd.readouterr().err

    return run


def write_lines(path, *rows):
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def good_rows(count=3):
    return [{"text": f"{PROSE} Number {i} {'of words' * i}."} for i in range(count)]


def test_an_empty_corpus(tmp_path, command):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "page.docx").write_text("<p>")
    code, words = command("in")
    assert code == 1
    assert "empty corpus" in words
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_not_there(tmp_path, command):
    code, words = command("nowhere")
    assert code == 1
    assert "nowhere" in words


def test_nothing_is_kept(tmp_path, command):
    write_lines(tmp_path / "in.jsonl", {"text": "short"}, {"text": ""}, {"txt": "?"})
    code, words = command("in.jsonl")
    assert code == 1
    assert "no document was kept" in words
    assert "empty_text 1" in words
    assert "1 lines or files rejected" in words
    # The run itself is whole: one can look at what was dropped, and asking again says the same.
    assert (tmp_path / "out" / "report.html").exists()
    assert command("in.jsonl") == (code, words)


def test_files_without_any_record(tmp_path, command):
    (tmp_path / "in.jsonl").write_bytes(b"\n\n")
    (tmp_path / "in.parquet").write_bytes(b"PAR1 but no more")
    code, words = command("in.jsonl", "in.parquet")
    assert code == 1
    assert "none was read" in words


def test_an_unreadable_file_costs_the_exit_code_but_not_the_others(tmp_path, command):
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "good.jsonl", *good_rows())
    (tmp_path / "in" / "gone.jsonl").symlink_to("nowhere")
    code, words = command("in", "--set", "dedup.enabled=false")
    assert code == 1
    assert "in/gone.jsonl" in words
    assert "unreadable_file" in words
    run = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert run["totals"]["kept"]["documents"] == 3
    assert [fault["reason"] for fault in run["faults"]] == ["unreadable_file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path, command):
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "good.jsonl", *good_rows())
    (tmp_path / "in" / "secret.txt").write_text("x")
    (tmp_path / "in" / "secret.txt").chmod(0)
    code, words = command("in")
    assert (code, "secret.txt" in words) == (1, True)


def test_a_truncated_file_keeps_its_rows_and_is_never_silent(tmp_path, command):
    rows = b"".join(json.dumps(row).encode() + b"\n" for row in good_rows(200))
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(rows)[:-20])
    code, words = command(
        "in.jsonl.gz", "--set", "dedup.enabled=false", "--set", "filter.enabled=false"
    )
    assert code == 1
    assert "truncated_file" in words
    assert "in.jsonl.gz" in words
    kept = json.loads((tmp_path / "out" / "run.json").read_bytes())["totals"]["kept"]["documents"]
    assert kept >= 150


def test_garbage_after_the_data_is_noted_but_no_failure(tmp_path, command):
    rows = b"".join(json.dumps(row).encode() + b"\n" for row in good_rows())
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(rows) + b"garbage")
    code, _ = command("in.jsonl.gz", "--set", "dedup.enabled=false")
    assert code == 0
    run = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert [fault["reason"] for fault in run["faults"]] == ["trailing_garbage"]


def test_another_configuration_is_refused_by_name(tmp_path, command):
    write_lines(tmp_path / "in.jsonl", *good_rows())
    assert command("in.jsonl")[0] == 0
    code, words = command("in.jsonl", "--set", "dedup.threshold=0.8")
    assert code == 2
    assert "dedup.threshold is 0.7 there, 0.8 now" in words
    assert "--out" in words
    # The number of threads is no part of the configuration's identity.
    assert command("in.jsonl", "--threads", "1")[0] == 0


def test_changed_input_is_refused_by_name(tmp_path, command):
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "a.jsonl", *good_rows())
    write_lines(tmp_path / "in" / "b.jsonl", {"text": PROSE})
    assert command("in")[0] == 0
    write_lines(tmp_path / "in" / "a.jsonl", *good_rows(4))
    (tmp_path / "in" / "b.jsonl").rename(tmp_path / "in" / "c.jsonl")
    code, words = command("in")
    assert code == 2
    for word in (
        "input in/c.jsonl is new",
        "input in/b.jsonl is gone",
        "input in/a.jsonl has changed",
    ):
        assert word in words


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, command):
    write_lines(tmp_path / "in.jsonl", *good_rows())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    code, words = command("in.jsonl")
    assert code == 2
    assert "thesis.txt" in words
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_output_within_the_input_is_refused(tmp_path, command):
    (tmp_path / "in").mkdir()
    write_lines(tmp_path / "in" / "a.jsonl", *good_rows())
    code, words = command("in", out="in/out")
    assert code == 2
    assert "would become input" in words
    code, words = command("in/a.jsonl", out="in")
    assert code == 2
    assert "lies within the run folder" in words
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.jsonl"]


def test_two_runs_in_one_folder(tmp_path, command):
    write_lines(tmp_path / "in.jsonl", *good_rows())
    with folder_lock(tmp_path / "out"):
        code, words = command("in.jsonl")
    assert code == 1
    assert "another run works in this folder" in words
    assert command("in.jsonl")[0] == 0
    with folder_lock(tmp_path / "out"), pytest.raises(FolderBusyError):
        Pipeline.from_toml(_config(tmp_path)).run(tmp_path / "out", quiet=True)


def _config(folder):
    (folder / "run.toml").write_text('[[sources]]\npath = "in.jsonl"\n')
    return folder / "run.toml"


_LIMITED = """
import resource, signal, sys
from internlm_core.cli import main
# A file may not grow past the limit: writes fail as they do on a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
sys.exit(main(["data", "run", "--config", sys.argv[1], "--out", sys.argv[3], "--quiet"]))
"""


@pytest.mark.parametrize("limit", [100, 2_000, 20_000])
def test_a_full_disk_is_named_and_nothing_half_written_stays(corpus, tmp_path, tree, limit):
    folder, _ = corpus
    config = folder / "run.toml"
    command = [sys.executable, "-c", _LIMITED, str(config), str(limit), str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, check=False, timeout=120)
    words = result.stderr.decode()
    assert result.returncode == 1, words
    assert "can't be written" in words
    assert "make room" in words
    assert "Traceback" not in words
    # Once there is room the same command goes on, and the end is as if nothing had been.
    Pipeline.from_toml(config).run(tmp_path / "out", quiet=True)
    Pipeline.from_toml(config).run(tmp_path / "whole", quiet=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_report_of_an_unfinished_run_is_refused(tmp_path, capfd):
    (tmp_path / "run.json").write_text('{"status": "started"}')
    assert main(["data", "report", str(tmp_path)]) == 1
    assert "not finished" in capfd.readouterr().err
    assert main(["data", "report", str(tmp_path / "absent")]) == 1
    assert "no run folder" in capfd.readouterr().err


def test_a_run_of_another_version_is_not_gone_on_with(tmp_path, command):
    write_lines(tmp_path / "in.jsonl", *good_rows())
    assert command("in.jsonl")[0] == 0
    run = json.loads((tmp_path / "out" / "run.json").read_bytes())
    (tmp_path / "out" / "run.json").write_text(
        json.dumps(run | {"status": "started", "version": "0.0"})
    )
    with pytest.raises(ConfigError, match=r"version 0\.0 there"):
        Pipeline.from_toml(_config(tmp_path)).run(tmp_path / "out", quiet=True)


def test_paths_in_the_file_are_relative_to_it(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    write_lines(tmp_path / "deep" / "in.jsonl", *good_rows())
    config = _config(tmp_path / "deep")
    monkeypatch.chdir(tmp_path)
    assert Pipeline.from_toml(config).run(tmp_path / "out", quiet=True).kept > 0
    with pytest.raises(DataError, match=r"in\.jsonl"):
        Pipeline(Pipeline.from_toml(config).config).run(tmp_path / "out2", quiet=True)


def test_one_file_with_every_kind_of_bad_line(tmp_path, command):
    """A line of 100 MB among them: it is passed over, never held."""
    with (tmp_path / "in.jsonl").open("wb") as file:
        file.write(json.dumps(good_rows(1)[0]).encode() + b"\n")
        file.write(b'{"text": "a\xff"}\n[1]\nnul\n{"text": 1}\n\n{"text": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n')
        file.write(json.dumps({"text": PROSE + "Another."}).encode() + b"\n")
        file.write(json.dumps({"text": PROSE + "And the last."}).encode())
    code, _ = command("in.jsonl", "--set", "dedup.enabled=false", "--set", "filter.enabled=false")
    assert code == 0
    run = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert run["totals"]["kept"]["documents"] == 3
    assert run["rejected_records"] == 5
    entries = b"".join(path.read_bytes() for path in (tmp_path / "out" / "rejected").iterdir())
    found = [json.loads(line) for line in entries.splitlines()]
    assert [entry["reason"] for entry in found] == [
        "invalid_utf8",
        "not_an_object",
        "broken_json",
        "text_not_a_string",
        "too_large",
    ]
    assert [entry["line"] for entry in found] == [2, 3, 4, 5, 7]
    assert len(entries) < 1_000_000


SCRIPTS = [
    "مرحبا بالعالم، هذا نص من اليمين إلى اليسار \u202bمع علامات\u202c.",
    "\u05e9\u05dc\u05d5\u05dd \u200f(RTL) \u200e abc",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd",
    "\U0001f1eb\U0001f1ee 1\ufe0f\u20e3",
    "नमस्ते दुनिया क्ष त्र",
]


@pytest.mark.parametrize("text", SCRIPTS)
def test_scripts_and_sequences_come_through_as_they_are(tmp_path, command, text):
    write_lines(tmp_path / "in.jsonl", {"text": text})
    (tmp_path / "in.txt").write_text(text, "utf-8")
    off = [f"{stage}.enabled=false" for stage in ("dedup", "filter", "normalise")]
    settings = [part for setting in off for part in ("--set", setting)]
    assert command("in.jsonl", "in.txt", *settings)[0] == 0
    kept = pl.read_parquet(tmp_path / "out" / "kept" / "*.parquet")
    assert kept["text"].to_list() == [text, text]
