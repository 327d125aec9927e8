"""Deduplication on disk gives what the one in memory gives, whatever happens on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from internlm_core import _core
from internlm_core.data import Pipeline, PipelineConfig, SourceConfig, dedup
from internlm_core.data.dedup_on_disk import FrameTexts, ParquetTexts, as_frame, find_on_disk
from internlm_core.data.near_duplicates import DedupConfig
from internlm_core.errors import ConfigError, DataError

WORDS = [f"word{i}" for i in range(3_000)]


def corpus(count: int, seed: int = 1) -> pl.DataFrame:
    """Texts in English, Chinese and code, many of them copies, exact or edited."""
    rng = random.Random(seed)
    han = [chr(0x4E00 + i) for i in range(2_000)]
    texts: list[str] = []
    sources: list[str] = []
    while len(texts) < count:
        kind = rng.randrange(4)
        if kind == 0 and texts:
            place = rng.randrange(len(texts))
            words = texts[place].split(" ")
            for _ in range(rng.randrange(4)):
                words[rng.randrange(len(words))] = rng.choice(WORDS)
            texts.append(" ".join(words))
            sources.append(sources[place])
        elif kind == 1:
            texts.append("".join(rng.choices(han, k=rng.randrange(120))))
            sources.append("webpages")
        elif kind == 2:
            name = rng.choice(WORDS)
            body = "".join(
                f"    {w} = {name}({i})\n" for i, w in enumerate(rng.choices(WORDS, k=9))
            )
            texts.append(f"def {name}():\n{body}")
            sources.append("code")
        else:
            texts.append(" ".join(rng.choices(WORDS, k=rng.randrange(90))))
            sources.append("books")
    return pl.DataFrame(
        {
            "id": [f"{rng.randrange(16**8):08x}-{i}" for i in range(count)],
            "text": [None if i % 97 == 5 else text for i, text in enumerate(texts)],
            "source": sources,
            "snapshot": [rng.choice(["2022", "2023", None]) for _ in range(count)],
            "score": [rng.choice([0.5, 0.25, None, float("nan")]) for _ in range(count)],
        }
    )


@pytest.mark.parametrize("unit", ["auto", "text"])
@pytest.mark.parametrize("verify", ["exact", "signature"])
@pytest.mark.parametrize("clusters", ["greedy", "components"])
def test_same_as_in_memory(unit: Any, verify: Any, clusters: Any) -> None:
    frame = corpus(3_000)
    settings: dict[str, Any] = {"unit": unit, "verify": verify, "clusters": clusters}
    want = dedup(frame, **settings)
    assert 300 < want["keep"].sum() < 2_900
    got = dedup(frame, max_memory="1MB", **settings)
    assert got.equals(want)


def test_any_kind_of_input(tmp_path: Path) -> None:
    frame = corpus(1_500)
    want = dedup(frame)
    path = tmp_path / "corpus.parquet"
    frame.write_parquet(path, row_group_size=100)
    assert dedup(pl.scan_parquet(path), max_memory="1MB", folder=tmp_path).equals(want)
    without_ids = frame.drop("id")
    numbered = dedup(without_ids.lazy(), max_memory="1MB")
    assert numbered.equals(dedup(without_ids))
    assert numbered["id"].to_list() == list(range(1_500))
    texts = frame["text"]
    assert dedup(texts, max_memory="1MB").equals(dedup(texts))
    assert dedup(pl.Series([], dtype=pl.String), max_memory="1MB").height == 0
    # Nothing is left of the temporary files.
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus.parquet"]


def test_files_of_records(tmp_path: Path) -> None:
    frame = corpus(400)
    some = frame.select("text", "source", "snapshot").drop_nulls()
    some.head(250).write_ndjson(tmp_path / "a.jsonl")
    some.tail(some.height - 250).write_parquet(tmp_path / "b.parquet")
    got = dedup(tmp_path)
    assert got.height == some.height
    assert got["keep"].sum() == dedup(some)["keep"].sum()
    assert dedup(str(tmp_path), max_memory="1MB").equals(got)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.warns(UserWarning, match=r"a\.jsonl: broken_json"):
        assert dedup(tmp_path).equals(got)
    with pytest.raises(DataError, match="nothing"):
        dedup(tmp_path / "nothing")


@pytest.mark.parametrize("kind", ["int", "uint64", "date", "categorical", "none"])
def test_keep_order_by_columns_of_any_kind(kind: str) -> None:
    frame = corpus(800)
    numbers = pl.Series(np.random.default_rng(3).permutation(800))
    columns: dict[str, tuple[pl.Series, pl.Series]] = {
        "int": (numbers - 400, numbers % 7),
        "uint64": (numbers.cast(pl.UInt64) + 2**63, numbers % 7),
        "date": (numbers, (numbers % 7).cast(pl.Int32).cast(pl.Date)),
        "categorical": (numbers, (numbers % 7).cast(pl.String).cast(pl.Categorical)),
        "none": (numbers, pl.Series([None] * 800)),
    }
    ids, snapshots = columns[kind]
    frame = frame.with_columns(ids.alias("id"), snapshots.alias("snapshot"))
    got = dedup(frame)
    assert dedup(frame, max_memory="1MB").equals(got)
    # Among copies the newest snapshot stays, of these the best score, the longest, the smallest id.
    size = pl.col("text").str.len_bytes()
    exact = frame.with_columns(got["keep"], got["cluster"]).filter(pl.col("text").is_not_null())
    order = ["snapshot", "score", size, "id"]
    best = exact.with_columns(pl.col("score").fill_nan(None)).sort(
        order, descending=[True, True, True, False], nulls_last=True
    )
    first = best.group_by("cluster", maintain_order=True).first()
    assert first.filter(pl.col("keep"))["id"].equals(first["cluster"].filter(first["keep"]))
    assert first["keep"].all()


def test_only_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    frame, config = corpus(1_200), DedupConfig()
    texts = [FrameTexts(frame[start : start + 100]) for start in range(0, 1_200, 100)]

    def run() -> pl.DataFrame:
        found = find_on_disk(texts, config, tmp_path, memory=1_500_000)
        found.name_targets(texts)
        return as_frame(found, frame["id"])

    want = dedup(frame)
    assert run().equals(want)
    files = sorted(tmp_path.glob("chunk-*.bands"))
    assert len(files) > 3
    times = {path: path.stat().st_mtime_ns for path in files}
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-10])
    assert run().equals(want)
    assert files[1].read_bytes() == whole
    assert [p for p in files if p.stat().st_mtime_ns != times[p]] == [files[1]]


_KILLED = """
    import sys, polars as pl
    from internlm_core.data.dedup_on_disk import ParquetTexts, find_on_disk
    from internlm_core.data.near_duplicates import DedupConfig
    from pathlib import Path
    texts = [ParquetTexts(path) for path in sorted(Path(sys.argv[1]).glob("*.parquet"))]
    found = find_on_disk(texts, DedupConfig(), Path(sys.argv[2]), memory=1_500_000)
"""


def test_killed_in_any_phase(tmp_path: Path) -> None:
    frame, parts, runs = corpus(4_000), tmp_path / "parts", tmp_path / "runs"
    parts.mkdir()
    for number in range(8):
        frame[number * 500 : number * 500 + 500].write_parquet(parts / f"{number}.parquet")
    command = [sys.executable, "-c", textwrap.dedent(_KILLED), str(parts), str(runs)]
    # Each time it is killed as soon as a file of the next phase is there.
    seen = set()
    for phase in ("chunk-*.bands", "shared-*", "members-*", "content-*", "decided-*"):
        process = subprocess.Popen(command, env=os.environ)
        while process.poll() is None and not any(runs.glob(phase)):
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            seen.add(phase)
        assert process.wait() in (0, -signal.SIGKILL)
    assert len(seen) >= 3
    texts = [ParquetTexts(path) for path in sorted(parts.glob("*.parquet"))]
    found = find_on_disk(texts, DedupConfig(), runs, memory=1_500_000)
    found.name_targets(texts)
    assert as_frame(found, frame["id"]).equals(dedup(frame))


def test_a_crowd_costs_linear_work() -> None:
    """Exact copies of a notice, and near-copies of another: comparisons grow as documents do."""

    def comparisons(count: int) -> int:
        notice = "we use cookies to make this page better for you and all who come after you"
        near = " ".join(WORDS[:120])
        texts = [notice] * count + [f"{near} number {i}" for i in range(count)]
        frame = pl.DataFrame({"id": range(2 * count), "text": texts})
        sources = [FrameTexts(frame[s : s + 1_000]) for s in range(0, 2 * count, 1_000)]
        folder = tmp / str(count)
        found = find_on_disk(sources, DedupConfig(), folder, memory=4_000_000)
        assert found.keep.sum() == 2
        return found.effort[2]

    import tempfile

    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        few, many = comparisons(1_000), comparisons(5_000)
    assert 4 * few < many < 6 * few


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    frame = corpus(300)
    folder = tmp_path / "runs"
    folder.mkdir()
    work = _core.DedupWork(str(folder), DedupConfig().options(), 1 << 20, 0)
    folder.rmdir()
    with pytest.raises(DataError, match=r"chunk-0000000000\.bands: No such file"):
        work.sign(0, frame["text"], None, (None, None, None))


_LIMITED = """
    import resource, sys
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    from pathlib import Path
    import polars as pl
    from internlm_core.data.dedup_on_disk import FrameTexts, find_on_disk
    from internlm_core.data.near_duplicates import DedupConfig
    from internlm_core.errors import DataError
    frame = pl.read_parquet(sys.argv[1])
    try:
        find_on_disk([FrameTexts(frame)], DedupConfig(), Path(sys.argv[2]), memory=4_000_000)
    except DataError as error:
        print(error)
"""


def test_a_file_that_can_not_grow(tmp_path: Path) -> None:
    """The sort runs out of room: an error that names the file, nothing half done, then it goes on."""
    frame, runs = corpus(2_000), tmp_path / "runs"
    frame.write_parquet(tmp_path / "corpus.parquet")
    command = [sys.executable, "-c", textwrap.dedent(_LIMITED)]
    command += [str(tmp_path / "corpus.parquet"), str(runs)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "chunk-0000000000.bands: File too large" in output
    assert not [path.name for path in runs.iterdir() if path.name.startswith(".partial-")]
    texts = [FrameTexts(frame)]
    found = find_on_disk(texts, DedupConfig(), runs, memory=4_000_000)
    found.name_targets(texts)
    assert as_frame(found, frame["id"]).equals(dedup(frame))


def test_signatures_of_another_length(tmp_path: Path) -> None:
    options = DedupConfig(verify="signature").options()
    work = _core.DedupWork(str(tmp_path), options, 1 << 20, 0)
    with pytest.raises(ConfigError, match="64 slots were given; those compared here have 128"):
        work.sign_signatures(0, np.zeros((10, 64), np.uint32))


def test_pipeline_on_disk_writes_the_same_shards(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    corpus(2_000).select("text", "source", "snapshot").drop_nulls().write_ndjson(
        source / "corpus.jsonl"
    )
    base: dict[str, Any] = {
        "sources": (SourceConfig(path=str(source)),),
        "filter": {"enabled": False},
        "language": {"enabled": False},
        "batch_bytes": 100_000,
    }
    folders = []
    for name, memory in (("memory", None), ("disk", 1_000_000)):
        config = PipelineConfig.model_validate({**base, "dedup": {"max_memory": memory}})
        Pipeline(config).run(tmp_path / name, quiet=True)
        folders.append(tmp_path / name)
    files = [
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("timing.json", "report.html", ".lock")
        }
        for folder in folders
    ]
    assert files[0] == files[1]
    dropped = pl.read_parquet(tmp_path / "disk/dropped/part-00000.parquet")
    assert dropped.filter(pl.col("stage") == "dedup").height > 100


def test_pure_functions_for_engines() -> None:
    """An engine's own group-by over band keys, then pairs confirmed: what `dedup` finds."""
    frame, options = corpus(500), DedupConfig().options()
    texts = frame["text"].fill_null("")
    code = (frame["source"] == "code").to_numpy()
    identities, keys = _core.minhash_band_keys(texts, code, options)
    assert identities.shape == (500, 3)
    assert keys.shape == (500, 25)
    rows = pl.DataFrame({"row": range(500), "key": keys}).explode("key")
    rows = rows.filter(pl.Series(identities[:, 0] > 0).gather(rows["row"]))
    pairs = rows.join(rows, on="key").filter(pl.col("row") < pl.col("row_right"))
    pairs = pairs.select("row", "row_right").unique().sort("row", "row_right")
    one, two = pairs["row"], pairs["row_right"]
    found = _core.jaccard_of_pairs(
        texts.gather(one), texts.gather(two), code[one.to_numpy()], code[two.to_numpy()], options
    )
    near = pairs.filter(pl.Series(found >= 0.7))
    removed = dedup(frame, clusters="components")
    forest = {row: row for row in range(500)}

    def root(row: int) -> int:
        return row if forest[row] == row else root(forest[row])

    for a, b in near.iter_rows():
        forest[root(a)] = root(b)
    assert len({root(row) for row in range(500)}) == removed["keep"].sum()


@pytest.mark.parametrize("rows", [1, 37, 400, 5_000])
def test_blocks_of_any_size_and_empty_ones(tmp_path: Path, rows: int) -> None:
    """Ids do not depend on how the input is cut; an empty shard is passed over."""
    frame = corpus(1_000)
    want = dedup(frame)
    texts = [FrameTexts(frame[start : start + rows]) for start in range(0, 1_000, rows)]
    for place in (len(texts), len(texts) // 2, 0):
        texts.insert(place, FrameTexts(frame.clear()))
    found = find_on_disk(texts, DedupConfig(), tmp_path, memory=1_500_000)
    found.name_targets(texts)
    assert as_frame(found, frame["id"]).equals(want)


@pytest.mark.slow
def test_a_million_copies_and_near_copies(tmp_path: Path) -> None:
    """Case 28 at its size, on disk: a page a million times, and a bucket of 100,000 near-copies."""
    page, near = "we use cookies on this page for you and for others", " ".join(WORDS[:60])
    texts = pl.concat(
        [
            pl.repeat(page, 1_000_000, eager=True),
            pl.select(pl.format(f"{near} number {{}}", pl.int_range(100_000)))["literal"],
        ]
    )
    frame = pl.DataFrame({"id": range(len(texts)), "text": texts})
    sources = [FrameTexts(part) for part in frame.iter_slices(50_000)]
    found = find_on_disk(sources, DedupConfig(), tmp_path, memory=50_000_000)
    assert found.keep.sum() == 2
    assert found.effort[2] <= 2 * 100_000
