"""Copies by text and by address; code and repositories, whose layout does not count."""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

import internlm_core as ic
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.errors import DataError


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([None, "", "a", "A", "b", "三", "a "]), max_size=12))
def test_exact_as_by_hand(texts: list[str | None]) -> None:
    found = ic.data.dedup_exact(pl.Series(texts, dtype=pl.String))
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        kept = first.setdefault(text, row) if text else row
        assert found.row(row) == (row, kept, kept == row, None if kept == row else kept)


def test_the_newest_stays_then_the_best() -> None:
    frame = pl.DataFrame(
        {
            "id": list("abcd"),
            "text": ["same"] * 4,
            "snapshot": ["2022", "2023", "2023", None],
            "score": [9.0, 1.0, 2.0, 9.0],
        }
    )
    assert ic.data.dedup_exact(frame)["duplicate_of"].to_list() == ["c", "c", None, "c"]
    assert not ic.data.dedup_exact(["Zoë", "Zoe\u0308"])["duplicate_of"].is_not_null().any()


def test_a_hundred_thousand_copies_of_a_page() -> None:
    found = ic.data.dedup_exact(pl.Series(["cookie notice " * 200] * 100_000 + ["other"]))
    assert found["keep"].sum() == 2


def test_addresses_in_one_spelling() -> None:
    urls = [
        "http://Example.com:80/a/../b#top",
        "http://example.com/b",
        "http://example.com/b?utm_source=x&id=3",
        "http://example.com/b?id=3",
        "no address",
        "no address",
        None,
    ]
    frame = pl.DataFrame({"url": urls, "text": [f"text {n}" for n in range(7)]})
    found = ic.data.dedup_urls(frame)
    assert found["keep"].to_list() == [True, False] + [True] * 5
    found = ic.data.dedup_urls(frame, ignore=["utm_source"])
    assert found["duplicate_of"].to_list() == [None, 0, None, 2, None, None, None]
    snapshots = pl.Series("snapshot", ["1", "2", "1", "2", "1", "1", "1"])
    newest = ic.data.dedup_urls(frame.with_columns(snapshots), ignore=["utm_source"])
    assert newest["duplicate_of"].to_list() == [1, None, 3, None, None, None, None]
    with pytest.raises(DataError, match="no column 'url'"):
        ic.data.dedup_urls(pl.DataFrame({"text": ["a"]}))
    assert ic.data.dedup_urls(frame.lazy()).equals(ic.data.dedup_urls(frame))


CODE = '''def tide(height, moon):
    """Level of the water."""
    if moon > 0.5:
        return height * 1.2
    return height - moon
'''


def test_indent_and_layout_of_code_do_not_count() -> None:
    layouts = [
        CODE,
        CODE.replace("    ", "  "),
        CODE.replace("    ", "\t"),
        CODE.replace("\n", "\r\n\r\n").replace(", ", ","),
    ]
    found = ic.data.dedup(layouts, threshold=1.0, unit="code")
    assert found["keep"].sum() == 1
    # The control: another operator is other code, though no other prose.
    changed = [CODE, CODE.replace("*", "/").replace(">", "<")]
    assert ic.data.dedup(changed, threshold=1.0, unit="code")["keep"].all()
    assert ic.data.dedup(changed, threshold=1.0, unit="text")["keep"].sum() == 1


def test_forks_of_repositories() -> None:
    """Packages of the standard library, one of them forked with edits and another indent."""
    top, rng = Path(sysconfig.get_path("stdlib")), random.Random(2)
    rows = [
        {"repo": name, "path": str(path.relative_to(top)), "text": path.read_text("utf-8")}
        for name in ("json", "email", "logging", "asyncio")
        for path in sorted((top / name).glob("*.py"))
    ]
    fork = [
        {**row, "repo": "fork", "text": row["text"].replace("    ", "\t") + "\n# a remark\n"}
        for row in rows
        if row["repo"] == "json"
    ]
    rows += [*fork, {"repo": None, "path": "x.py", "text": CODE}]
    rng.shuffle(rows)
    found = ic.data.dedup_repositories(pl.DataFrame(rows))
    assert found["id"].to_list() == ["asyncio", "email", "fork", "json", "logging"]
    assert found["keep"].sum() == 4
    pair = found.filter(~pl.col("keep"))
    assert {pair["id"][0], pair["duplicate_of"][0]} == {"fork", "json"}
    assert 0.9 < pair["jaccard"][0] < 1
    with pytest.raises(DataError, match="no column 'repo'"):
        ic.data.dedup_repositories(pl.DataFrame({"path": ["a"], "text": ["b"]}))
