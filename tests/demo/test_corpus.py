"""The demo's corpus is real, seeded, and holds what was planted."""

from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl
from internlm_core.demo import found_text
from internlm_core.demo.config import CorpusConfig
from internlm_core.demo.corpus import write_corpus
from internlm_core.demo.found_text import Docstring
from internlm_core.demo.questions import make_conversations, split_conversations

SMALL = CorpusConfig(
    code_bytes=200_000, readme_bytes=50_000, near_copies=5, exact_copies=3, noise_pages=6
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_seed_same_bytes_and_no_archives_needed(tmp_path: Path) -> None:
    counts = write_corpus(tmp_path / "a", SMALL, None, seed=3)
    write_corpus(tmp_path / "b", SMALL, None, seed=3)
    write_corpus(tmp_path / "c", SMALL, None, seed=4)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")
    assert counts["plays_documents"] == 0
    assert counts["planted_documents"] == 14
    code = pl.read_parquet(tmp_path / "a" / "code.parquet")
    assert code.height == counts["code_documents"] > 5
    assert 100_000 < counts["code_bytes"] <= 600_000


def test_planted_copies_name_their_originals(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", SMALL, None, seed=3)
    rows, bad = [], 0
    for line in (tmp_path / "a" / "planted.jsonl").read_bytes().splitlines():
        try:
            row = orjson.loads(line)
            assert isinstance(row["text"], str)
            rows.append(row)
        except (orjson.JSONDecodeError, AssertionError):
            bad += 1
    assert bad == 3
    kinds = [row["planted"] for row in rows]
    assert {k: kinds.count(k) for k in set(kinds)} == {"near-copy": 5, "copy": 3, "noise": 6}


def test_plays_and_novel_come_out_of_archives(test_data: Path, root: Path) -> None:
    texts = root / ".cache" / "texts"
    scenes = list(found_text.play_scenes(texts))
    if not scenes:
        assert list(found_text.novel_chapters(None)) == []
        return
    assert len(scenes) > 700
    assert all(scene.text.startswith("### ") for scene in scenes)


def test_conversations_share_no_answer_between_the_halves() -> None:
    items = [
        Docstring(f"m.f{n}", "function", f"f{n}(x)", f"Return the value {n // 2} of the thing.")
        for n in range(60)
    ]
    conversations = make_conversations(100, 1, items)
    assert len(conversations) == 60
    assert conversations == make_conversations(100, 1, items)
    train, held = split_conversations(conversations, 10)
    assert len(held) == 10
    plain = [c for c in train if not c[-1]["content"].startswith("`")]
    assert {c[-1]["content"] for c in plain}.isdisjoint({c[-1]["content"] for c in held})
