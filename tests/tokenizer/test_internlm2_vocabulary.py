"""The InternLM2 recipe at its real size: cl100k's first ranks, and Chinese learned from real text."""

from __future__ import annotations

import gzip
import itertools
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from internlm_core.cli import main
from internlm_core.tokenizer import Tokenizer, compare, describe

pytestmark = pytest.mark.slow
BASE, NEW, SPARE, SIZE = 60_000, 32_397, 147, 92_544


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value if isinstance(value, list) else value.values():
            yield from strings(item)


def chinese(folder: Path) -> Iterator[tuple[str, str]]:
    """Texts with the name of their source."""
    for name in ("reviews_pos", "reviews_neg"):
        with gzip.open(folder / f"{name}.txt.gz", "rt", encoding="utf-8", errors="replace") as file:
            for line in file:
                yield line.rstrip("\n"), "reviews"
    for line in (folder / "sanguoyanyi.txt").read_text("utf-8").splitlines():
        yield line, "novels"
    for line in (folder / "hongloumeng.jsonl").read_text("utf-8").splitlines():
        yield from ((text, "novels") for text in strings(json.loads(line)))
    for path in sorted((folder / "poetry").rglob("*.json")):
        yield from ((text, "poetry") for text in strings(json.loads(path.read_text("utf-8"))))


def measured(test_data: Path, held_out: list[tuple[str, str]]) -> pl.DataFrame:
    rows = [(text, "zh", source) for text, source in held_out]
    with gzip.open(test_data / "text" / "en" / "wiki_summaries_en.json.gz") as file:
        articles = [value["extract"] for value in json.load(file).values() if value["extract"]]
    rows += [(text, "en", "encyclopaedia") for text in articles[:2_000]]
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:100]
    rows += [(path.read_text("utf-8"), "code", "python") for path in sources]
    return pl.DataFrame(rows, ["text", "lang", "source"], orient="row")


@pytest.fixture(scope="module")
def made(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The vocabulary, made by the command; its base; texts that it has not seen; what was printed."""
    folder = tmp_path_factory.mktemp("internlm2")
    found = list(chinese(test_data / "text" / "zh"))
    held_out = found[::20]
    seen = [row for number, row in enumerate(found) if number % 20]
    pl.DataFrame(seen, ["text", "source"], orient="row").write_parquet(folder / "zh.parquet")
    texts = measured(test_data, held_out)
    texts.write_parquet(folder / "texts.parquet")
    base = test_data / "tokenizers" / "cl100k_base.tiktoken"
    out = folder / "tokenizer.json"
    arguments = ["--base", str(base), "--out", str(out), "--html", str(folder / "fit.html")]
    arguments += ["--text", str(folder / "texts.parquet")]
    assert main(["tokenizer", "extend", str(folder / "zh.parquet"), *arguments]) == 0
    return {
        "tokenizer": Tokenizer.from_file(out),
        "base": Tokenizer.from_file(base),
        "texts": texts,
        "folder": folder,
    }


def test_size_base_and_special_tokens(made: dict[str, Any]) -> None:
    tokenizer, base = made["tokenizer"], made["base"]
    assert tokenizer.vocab_size == SIZE
    assert SIZE % 128 == 0
    assert BASE + NEW + SPARE == SIZE
    assert all(tokenizer.id_to_bytes(i) == base.id_to_bytes(i) for i in range(BASE))
    special = tokenizer.special_tokens
    assert sorted(special.values()) == list(range(BASE + NEW, SIZE))
    assert special["<|im_start|>"] == SIZE - 1
    new = [tokenizer.id_to_bytes(i) for i in range(BASE, BASE + NEW)]
    known = {base.id_to_bytes(i) for i in range(BASE)}
    assert len(set(new)) == NEW
    assert not known & set(new)
    assert all(min(piece) >= 0x80 for piece in new)


def test_every_token_is_reachable(made: dict[str, Any]) -> None:
    assert describe(made["tokenizer"]).unreachable == []


def test_bytes_a_token_by_language(made: dict[str, Any]) -> None:
    table = compare(made["base"], made["tokenizer"], [made["texts"]])
    change = dict(table.filter(by="lang").select("text", "change").iter_rows())
    assert set(change) == {"zh", "en", "code"}
    # Chinese it has never seen takes far fewer tokens; the rest loses what ranks above 60,000 gave.
    assert change["zh"] > 1.5
    assert 0.93 < change["en"] <= 1
    assert 0.93 < change["code"] <= 1
    assert set(table.filter(by="source")["text"]) >= {"reviews", "novels", "poetry"}
    page = (made["folder"] / "fit.html").read_text("utf-8")
    zh = table.row(by_predicate=(pl.col("by") == "lang") & (pl.col("text") == "zh"), named=True)
    assert "lang zh" in page
    assert f">{zh['first']:.2f}<" in page
    assert f">{zh['second']:.2f}<" in page


def test_ids_outside_chinese_are_the_base_s(made: dict[str, Any]) -> None:
    """Where the base stays below 60,000, and beside Chinese, nothing changes."""
    texts = made["texts"].filter(pl.col("lang") != "zh")["text"]
    same = 0
    for text in itertools.islice(texts, 300):
        ids = made["base"].encode(text)
        if len(ids) and ids.max() < BASE:
            assert made["tokenizer"].encode(text).tolist() == ids.tolist()
            same += 1
    assert same > 5


def test_the_reference_reads_the_file_alike(made: dict[str, Any]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(made["folder"] / "tokenizer.json"))
    for text in made["texts"]["text"].gather_every(50):
        assert theirs.encode(text).ids == made["tokenizer"].encode(text).tolist()
