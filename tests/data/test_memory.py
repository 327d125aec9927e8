"""Memory is bounded by a setting, whatever the size of the corpus."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from internlm_core.data import Pipeline, PipelineConfig, execution
from internlm_core.errors import ConfigError

MB = 1024 * 1024
LIMIT = 256 * MB

# The peak of the process itself: what the interpreter and the libraries take is in it. `ru_maxrss`
# would not do, for a child inherits its parent's.
_RUN = r"""
import re, sys
from pathlib import Path
from internlm_core.data import Pipeline
summary = Pipeline.from_toml(sys.argv[1], sys.argv[3:]).run(sys.argv[2], quiet=True)
status = Path("/proc/self/status").read_text()
print(summary.kept + summary.dropped, re.search(r"VmHWM:\s+(\d+) kB", status).group(1))
"""


def write_corpus(path, size):
    """JSON lines of prose, no two alike; returns how many."""
    rng = random.Random(3)
    syllables = [
        "ba",
        "ce",
        "di",
        "fo",
        "gu",
        "la",
        "me",
        "ni",
        "po",
        "ru",
        "sa",
        "te",
        "vi",
        "zo",
        "an",
        "er",
        "in",
        "os",
    ]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(3000)]
    sentences = []
    for _ in range(3000):
        some = rng.choices(words, k=rng.randint(8, 14))
        some[2], some[5] = "the", "of"
        sentences.append(" ".join(some).capitalize() + ".")
    written = count = 0
    with path.open("w") as file:
        while written < size:
            row = {"text": "\n".join(rng.choices(sentences, k=120)), "n": count}
            written += file.write(json.dumps(row) + "\n")
            count += 1
    return count


def peak(folder, size, *overrides):
    """Peak of resident memory of a run over a corpus of `size` bytes."""
    folder.mkdir()
    records = write_corpus(folder / "in.jsonl", size)
    config = folder / "run.toml"
    config.write_text(
        f'max_memory = {LIMIT}\n[[sources]]\npath = "in.jsonl"\nlang = "en"\n'
        "[dedup]\nenabled = false\n"
    )
    command = [sys.executable, "-c", _RUN, str(config), str(folder / "out"), *overrides]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    seen, kilobytes = map(int, done.stdout.split())
    assert seen == records
    return kilobytes * 1024


def test_four_times_the_corpus_takes_no_more_memory(tmp_path):
    small = peak(tmp_path / "small", 40 * MB)
    large = peak(tmp_path / "large", 160 * MB)
    # The larger one, read whole, would take more than 120 MiB more.
    assert large < small + 50 * MB
    assert large < 1.25 * LIMIT


def test_the_measure_notices_what_is_held(tmp_path):
    """Control: one batch of the whole corpus takes far more than the setting allows."""
    held = peak(
        tmp_path / "held", 160 * MB, "batch_bytes=1_000_000_000", "max_memory=100_000_000_000"
    )
    assert held > 1.6 * LIMIT


@pytest.mark.slow
def test_near_duplicates_of_a_corpus_larger_than_memory(tmp_path):
    """Control: with memory to hold the texts, dedup takes it."""
    within = peak(tmp_path / "within", 400 * MB, "dedup.enabled=true")
    assert within < 1.35 * LIMIT
    more = ["max_memory=3GB", f"shard_bytes={8 * MB}", f"batch_bytes={LIMIT // 160}"]
    assert peak(tmp_path / "more", 400 * MB, "dedup.enabled=true", *more) > within + 200 * MB


@pytest.mark.slow
def test_repeated_text_of_a_corpus_larger_than_memory(tmp_path):
    """Parts are read one after another, and what is counted of them has a bound of its own."""
    stages = ["exact.enabled=true", "urls.enabled=true", "lines.enabled=true"]
    options = [f"repeats.{stage}" for stage in stages]
    assert peak(tmp_path / "at_once", 160 * MB, *options) < 1.25 * LIMIT
    assert (
        peak(tmp_path / "shares", 160 * MB, *options, "repeats.lines.max_memory=8MB") < 1.25 * LIMIT
    )


@pytest.mark.slow
def test_a_corpus_of_many_times_the_memory(tmp_path):
    assert peak(tmp_path / "large", 1500 * MB) < 1.25 * LIMIT


def test_settings_that_contradict_each_other(tmp_path):
    from internlm_core._config import load_config

    with pytest.raises(ConfigError, match=r"max_record_bytes .* needs max_memory"):
        load_config(
            PipelineConfig,
            {"sources": [{"path": "x"}], "max_memory": LIMIT, "max_record_bytes": LIMIT},
        )
    small = load_config(PipelineConfig, {"sources": [{"path": "x"}], "max_memory": LIMIT})
    assert small.shard_limit == 8 * MB
    assert small.limits().batch_bytes < 3 * MB
    assert small.corpus_memory == LIMIT // 4


def test_more_memory_is_no_other_run():
    """Beyond 2 GiB: so a run that needs more goes on."""
    runs = [
        PipelineConfig.model_validate({"sources": [{"path": "x"}], "max_memory": memory})
        for memory in ("2GiB", "9GB", "1GB")
    ]
    assert runs[0].identity() == runs[1].identity() != runs[2].identity()
    assert runs[0].dedup_memory < runs[1].dedup_memory <= 9_000_000_000


def test_dedup_beyond_its_memory_ends_with_the_same_bytes(corpus, tmp_path, tree, monkeypatch):
    """With a bound that the corpus exceeds, dedup goes to disk; control: it does."""
    folder, _ = corpus
    Pipeline.from_toml(folder / "run.toml").run(tmp_path / "memory", quiet=True)
    calls = []
    inner = execution.find_on_disk
    monkeypatch.setattr(
        execution, "find_on_disk", lambda *a, **k: calls.append(k["memory"]) or inner(*a, **k)
    )
    monkeypatch.setattr(PipelineConfig, "corpus_memory", 20_000)
    Pipeline.from_toml(folder / "run.toml").run(tmp_path / "disk", quiet=True)
    assert calls == [20_000]
    assert tree(tmp_path / "disk") == tree(tmp_path / "memory")


def test_repeats_are_looked_for_within_the_bound_of_the_run():
    config = PipelineConfig.model_validate(
        {"sources": [{"path": "x"}], "max_memory": "1GB", "repeats": {"lines": {"enabled": True}}}
    )
    bounded = config.bounded_repeats()
    assert bounded.lines.enabled
    assert bounded.lines.max_memory == config.corpus_memory < 10**9
    assert bounded.substrings.max_memory <= 10**9 // 2
    told = config.model_copy(
        update={
            "repeats": config.repeats.model_validate({"substrings": {"max_memory": "9GB"}}),
        }
    )
    assert told.bounded_repeats().substrings.max_memory == 9 * 10**9
