"""What breaks other tools: ugly texts through every stage, kills and full disks in a run's stages."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import internlm_core as ic
import numpy as np
import polars as pl
import pytest
from internlm_core.data import Pipeline
from internlm_core.data.near_duplicates import signatures

LINE = "Please do subscribe to our newsletter and never miss a story about the tides."
UGLY: list[str | None] = [
    "",
    None,
    " \n\t ",
    "!!! ... ???",
    "。。。！！！",
    "\0\0\0",
    "\u200b\u200d",
    f"a\0b {LINE}\0",
    "\ufeff",
    "e\u0301" * 3,
    "\U0001f600" * 50,
    "x" * 100_000,
    "\n" * 1_000,
]


def embed(texts: list[str]) -> np.ndarray:
    """Counts of the first letters of the alphabet and of all the rest."""
    return np.array([[*(t.count(c) for c in "abcdefgh"), len(t)] for t in texts], np.float32)


CALLS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "near": ic.data.dedup,
    "near on disk": lambda frame: ic.data.dedup(frame, max_memory="1MB"),
    "exact": ic.data.dedup_exact,
    "urls": lambda frame: ic.data.dedup_urls(frame.with_columns(url="text")),
    "lines": ic.data.dedup_lines,
    "lines in shares": lambda frame: ic.data.dedup_lines(frame, max_memory=1_000),
    "passages": lambda frame: ic.data.dedup_substrings(frame, min_length=60),
    "tests": lambda frame: ic.data.decontaminate(frame, ["what is the tide at noon today?"]),
    "meaning": lambda frame: ic.data.dedup_semantic(frame, embed, 0.999),
}


@pytest.mark.parametrize("name", CALLS)
def test_ugly_texts_lose_nothing(name: str) -> None:
    """Each is a row of the outcome; what has no text is like nothing, copies of what has are found."""
    frame = pl.DataFrame({"id": range(2 * len(UGLY)), "text": UGLY * 2})
    found = CALLS[name](frame)
    assert found["id"].to_list() == frame["id"].to_list()
    assert found["keep"].null_count() == 0
    kept = found["keep"].to_list()
    # Of a passage's own repetition one stays, which may be blank; vectors may be alike by chance.
    if name not in ("passages", "meaning"):
        assert all(kept[: len(UGLY)])
        assert kept[len(UGLY)]
        assert kept[len(UGLY) + 1]
    copies = {"near": 11, "near on disk": 11, "exact": 7, "lines": 7}
    if name in copies:
        assert not kept[len(UGLY) + copies[name]]
    if name.startswith("near"):
        # Two texts of punctuation alone are like nothing, themselves included.
        assert kept[len(UGLY) + 3]
        assert kept[len(UGLY) + 4]


@pytest.mark.parametrize("name", CALLS)
def test_none_or_one_row_is_a_valid_input(name: str) -> None:
    empty = CALLS[name](pl.DataFrame(schema={"id": pl.Int64, "text": pl.String}))
    assert empty.height == 0
    assert "keep" in empty.columns
    one = CALLS[name](pl.DataFrame({"id": [7], "text": [f"{LINE}\n{LINE}"]}))
    if name == "passages":
        assert one["text"].str.count_matches("newsletter").to_list() == [1]
    else:
        assert one["keep"].to_list() == [True]


def test_normalising_keeps_every_script() -> None:
    """Case 4: letters, marks and digits of no script are folded away."""
    texts = ["今天下雨", "明天晴天", "Сегодня дождь", "สวัสดี", "नमस्ते", "สวัสดิ์", "१२३", "١٢٣٤"]
    assert ic.data.dedup(texts)["keep"].all()


def test_signatures_are_plain_numbers_that_survive_a_pickle() -> None:
    """Case 9: nothing is packed or shifted on the way."""
    found = signatures(["the tide rises", "the tide falls"])
    again = pickle.loads(pickle.dumps(found))
    assert again.dtype == np.uint32
    assert np.array_equal(found, again)
    assert not np.array_equal(again[0], again[1])


def test_chunks_of_a_column_are_never_joined_by_narrow_offsets() -> None:
    """Case 37: a column of several chunks is read chunk by chunk, sliced ones too."""
    pa = pytest.importorskip("pyarrow")
    chunks = [pa.array(["skipped", f"page {n} of the tide tables", LINE])[1:] for n in range(50)]
    frame = pa.table({"id": range(100), "text": pa.chunked_array(chunks)})
    for call in (ic.data.dedup, ic.data.dedup_exact):
        assert call(frame)["keep"].sum() == 51


def test_a_million_copies_take_linear_work_in_every_stage() -> None:
    """Twenty times the copies: no list of pairs, which would be four hundred times as long."""
    texts = [LINE] * 20_000 + [f"{LINE} {n}" for n in range(1_000)]
    frame = pl.DataFrame({"id": range(len(texts)), "text": texts})
    assert ic.data.dedup_exact(frame)["keep"].sum() == 1_001
    lines = ic.data.dedup_lines(frame)
    assert lines["keep"].sum() == 1_001
    passages = ic.data.dedup_substrings(frame, min_length=70)
    assert passages["keep"].sum() >= 1
    assert passages["text"].str.contains(LINE, literal=True).sum() == 1
    held = ic.data.decontaminate(frame, [LINE])
    assert not held["keep"].any()


@pytest.mark.slow
@pytest.mark.parametrize("near", [True, False])
def test_one_document_of_a_gigabyte(near: bool) -> None:
    """Alone it stays; an edited copy of it goes; small ones beside it are none the worse."""
    rng = random.Random(1)
    words = [f"word{n}" for n in range(50_000)]
    block = " ".join(rng.choices(words, k=120_000))
    large = " ".join(f"{block} part{n}" for n in range(1_100))
    assert len(large) > 10**9
    texts = [large, "a small page about tides", large + " end" if near else "b", "c"]
    found = ic.data.dedup(texts, max_memory="1GB")
    assert found["keep"].to_list() == ([False, True, True, True] if near else [True] * 4)


@pytest.mark.slow
def test_estimates_of_very_large_sets_have_no_bias() -> None:
    """Case 11: two sets of 2,000,000 that share half their union; many functions, many seeds."""
    numbers = [str(n) for n in range(3_000_000)]
    third = 1_000_000
    # 2 of 3 millions each, one million in both is a third; the case's half needs other cuts.
    shared, own = numbers[: 2 * third], numbers[2 * third :]
    pair = [
        " ".join([*shared[: 4 * third // 3], *own[: third // 3 * 2][: third // 3]]),
        " ".join([*shared[: 4 * third // 3], *own[third // 3 :][: third // 3]]),
    ]
    sets = [set(text.split()) for text in pair]
    true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    estimates = []
    for seed in range(1, 11):
        one, two = signatures(pair, ngram=1, permutations=1_024, bands=1, rows=1, seed=seed)
        estimates.append((one == two).mean())
    error = (true * (1 - true) / 1_024 / len(estimates)) ** 0.5
    assert np.mean(estimates) == pytest.approx(true, abs=4 * error)


# --- the stages of a run ----------------------------------------------------------------------------

CONFIG = """
batch_bytes = 40_000
[[sources]]
path = "raw.jsonl"
source = "web"
[filter]
enabled = false
[repeats.exact]
enabled = true
[repeats.lines]
enabled = true
[repeats.substrings]
enabled = true
"""


@pytest.fixture
def run_toml(tmp_path: Path) -> Path:
    rng = random.Random(2)
    with (tmp_path / "raw.jsonl").open("w") as file:
        for number in range(400):
            words = " ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(60))
            text = f"{words}\n{LINE}" if number % 3 else words
            file.write(json.dumps({"text": text}) + "\n")
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path / "run.toml"


def outputs(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.glob("*/part-*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


_RUN = """
    import sys
    from internlm_core.data import Pipeline
    Pipeline.from_toml(sys.argv[1]).run(sys.argv[2], quiet=True, threads=1)
"""


def test_killed_in_any_step_of_the_stages(run_toml: Path, tmp_path: Path) -> None:
    """As soon as a file of a step is there the process is killed; the same command ends the run."""
    Pipeline.from_toml(run_toml).run(tmp_path / "whole", quiet=True)
    command = [sys.executable, "-c", textwrap.dedent(_RUN), str(run_toml), str(tmp_path / "out")]
    work, killed = tmp_path / "out" / "work", 0
    for step in ("repeats/.partial-*/*", "repeats/*.parquet"):
        process = subprocess.Popen(command, env=os.environ)
        while process.poll() is None and not any(work.glob(step)):
            time.sleep(0.003)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        assert process.wait() in (0, -signal.SIGKILL)
    assert killed
    Pipeline.from_toml(run_toml).run(tmp_path / "out", quiet=True)
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
    assert not (tmp_path / "out" / "work").exists()


_LIMITED = """
    import resource, sys
    from internlm_core.data import Pipeline, repeat_stages
    from internlm_core.errors import DataError
    stages = repeat_stages.repeat_stages
    def limited(*given, **more):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        return stages(*given, **more)
    import internlm_core.data.execution as execution
    execution.repeat_stages = limited
    try:
        Pipeline.from_toml(sys.argv[1]).run(sys.argv[2], quiet=True)
    except DataError as error:
        print(error)
"""


def test_no_room_for_a_stage_is_said_and_the_run_goes_on(run_toml: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_LIMITED), str(run_toml)]
    done = subprocess.run(
        [*command, str(tmp_path / "out")], check=True, capture_output=True, text=True
    )
    assert "can't be written" in done.stdout
    assert "make room, then run the same command again" in done.stdout
    Pipeline.from_toml(run_toml).run(tmp_path / "out", quiet=True)
    Pipeline.from_toml(run_toml).run(tmp_path / "whole", quiet=True)
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
