"""What deduplication reads of JSON lines is what the careful reader reads, whatever the lines are."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from internlm_core import _core
from internlm_core.data import dedup
from internlm_core.data.readers import ReadLimits, SourceSpec, find_files, group_files, read_batches
from internlm_core.data.readers.json_columns import read_json_columns

COLUMNS = ["id", "text", "source", "url", "snapshot"]
MENDED = [
    b'{"text": "a\\u0000b"}',
    b'{"text": "\\ufeffb"}',
    '{"text": "\ufeffb", "content": "\ufeff"}'.encode(),
    b'{"text": "\\u0000"}',
]
ODD = [
    b'{"text": "half \\ud800 pair"}',
    b'{"text": "\xff"}',
    b'{"text": 5}',
    b'{"text": null, "content": "no"}',
    b'{"body": "x"}',
    b"[1, 2]",
    b'{"text": "cut',
    b'{"text": "x", "n": NaN}',
    b"\x0c",
    b'{"text": "' + b"long" * 2_000 + b'"}',
]


def lines(count: int, rng: random.Random) -> list[bytes]:
    """Ordinary ones, of every kind there is."""
    made = []
    for number in range(count):
        row: dict[str, Any] = {
            "text": f'Page {number}\n"快" é \\ \U0001f600' + " w" * rng.randrange(60)
        }
        if rng.random() < 0.3:
            row["content"] = rng.choice(["other", 5, None])
        if rng.random() < 0.3:
            row = {"content": row["text"], "source": rng.choice(["books", None, 3])}
        if rng.random() < 0.3:
            row |= {
                "url": rng.choice(["http://A.org:80/x", "no address", None]),
                "snapshot": "2023",
            }
        if rng.random() < 0.3:
            row |= {"id": number, "meta": {"text": ["x", {"url": 1.5}]}, "lang": "en"}
        made.append(json.dumps(row, ensure_ascii=rng.random() < 0.5).encode())
        if rng.random() < 0.1:
            made.append(b" \t\r")
    return made


def both(path: Path, limits: ReadLimits, threads: int = 2) -> tuple[pl.DataFrame, list[Any], int]:
    """Records and what was rejected, the same both ways; how many rows the core read."""
    (group,) = group_files(find_files([SourceSpec(str(path), source="web", snapshot="2022")]).files)
    careful = list(read_batches(group, limits))
    quick = list(read_json_columns(group.files[0], limits, threads))
    want = pl.concat([batch.records.select(COLUMNS) for batch in careful])
    got = pl.concat([batch.records.select(COLUMNS) for batch in quick])
    assert got.equals(want)
    rejected = [line for batch in quick for line in batch.rejected]
    assert rejected == [line for batch in careful for line in batch.rejected]
    read = sum(batch.records.height for batch in quick if batch.records.width == len(COLUMNS))
    return got, rejected, read


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_ordinary_lines_are_read_by_the_core_alone(
    tmp_path: Path, threads: int, end: bytes
) -> None:
    path = tmp_path / "a.jsonl"
    for count in (1, 3, 400):
        path.write_bytes(b"\n".join(lines(count, random.Random(count))) + end)
        for size in (1_000, 1 << 25):
            got, rejected, read = both(path, ReadLimits(batch_bytes=size), threads)
            # A last line without an end may have been cut off, so it is looked at with care.
            assert read >= (got.height if end else 0)
            assert not rejected
            assert got.height == count


def test_any_other_line_anywhere_changes_nothing(tmp_path: Path) -> None:
    rng = random.Random(3)
    path = tmp_path / "a.jsonl"
    keys = {"text_keys": ["text", "content"], "source": "web", "snapshot": None, "limit": 6_000}
    for odd in MENDED:
        assert len(_core.json_documents([(odd, 0, len(odd))], keys) or ()) == 1
        path.write_bytes(odd + b"\n")
        assert both(path, ReadLimits())[2] == 1
    for odd in ODD:
        assert _core.json_documents([(odd, 0, len(odd))], keys) is None
        for place in (0, 150, 299):
            given = lines(300, rng)
            given.insert(place, odd)
            path.write_bytes(b"\n".join(given) + b"\n")
            got, _, read = both(path, ReadLimits(batch_bytes=4_000, record_bytes=6_000))
            assert got.height >= 300
            assert read > 0 or not place


@pytest.mark.parametrize("threads", [1, 2])
def test_other_lines_cost_their_parts_alone(tmp_path: Path, threads: int) -> None:
    """What is around them is still read by the core, and lines are numbered as before."""
    path = tmp_path / "a.jsonl"
    given = [line for line in lines(12_000, random.Random(5)) if line.strip()]
    given = [line.replace(b" w", b" word" * 20) for line in given]
    for place, odd in ((9_000, b'{"text": '), (4_000, b"[1]"), (2, b'{"text": "\xff"}')):
        given.insert(place, odd)
    path.write_bytes(b"\n".join(given) + b"\n")
    assert path.stat().st_size > 30_000_000
    got, rejected, read = both(path, ReadLimits(), threads)
    assert [line.line for line in rejected] == [3, 4_002, 9_003]
    assert got.height == len(given) - 3
    assert read > 0.98 * got.height


@pytest.mark.parametrize("cut", [0, 40])
def test_compressed_and_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"\n".join(lines(5_000, random.Random(1))) + b"\n")
    path.write_bytes(whole[: len(whole) - cut])
    got, rejected, read = both(path, ReadLimits(batch_bytes=100_000))
    assert read > 1_000
    assert bool(rejected) == bool(cut)
    assert (got.height == 5_000) == (not cut)


def test_a_line_without_end_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "first"}\n{"text": "' + b"x" * 300_000)
    _, rejected, read = both(path, ReadLimits(batch_bytes=10_000, record_bytes=50_000))
    assert read == 1
    assert [line.reason for line in rejected] == ["too_large"]


def test_a_file_gives_what_its_texts_give(tmp_path: Path) -> None:
    texts = [f"the tide of page {n % 40} rises {n % 40} metres at noon" for n in range(100)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = dedup(str(path))
    assert found["keep"].to_list() == dedup(pl.Series(texts))["keep"].to_list()
    assert found["keep"].sum() == 40
