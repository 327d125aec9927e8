"""Items of real test sets planted in real text, and clean text as control."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import internlm_core as ic
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.errors import ConfigError


def grams(words: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


WORDS = st.lists(st.sampled_from("abcd"), max_size=14)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4), st.integers(1, 5))
def test_overlap_as_by_hand(items: list[list[str]], texts: list[list[str]], n: int) -> None:
    found = ic.data.decontaminate(
        pl.Series([" ".join(text) for text in texts], dtype=pl.String),
        pl.Series([" ".join(item) for item in items], dtype=pl.String),
        ngram=n,
        min_units=2,
    )
    for text, row in zip(texts, found.iter_rows(named=True), strict=True):
        best: tuple[float, float, int] = (0.0, 0.0, 1)
        for number, item in enumerate(items):
            if not item:
                continue
            if len(item) < min(2, n):
                one, two = {tuple(item)}, {tuple(text)} if len(text) < n else set()
            else:
                k = min(n, len(item))
                one, two = grams(item, k), grams(text, k)
            shared = len(one & two)
            if shared:
                best = max(best, (shared / len(one), shared / len(one | two), -number))
        assert (row["overlap"], row["jaccard"]) == pytest.approx(best[:2])
        assert row["test_id"] == (-best[2] if best[0] else None)
        assert row["keep"] == (best[0] < 0.7)


@pytest.fixture(scope="module")
def questions(test_data: Path) -> dict[str, list[str]]:
    """By language, 200 questions each with its choices; prompts of code."""
    folder = test_data / "eval"
    english = [
        json.loads(line)["question"]
        for line in (folder / "gsm8k_test.jsonl").read_text("utf-8").splitlines()
    ][:200]
    chinese = []
    for path in sorted((folder / "cmmlu/test").glob("*.csv")):
        with path.open(encoding="utf-8") as file:
            rows = [[row["Question"], *(row[c] for c in "ABCD")] for row in csv.DictReader(file)]
        chinese += ["\n".join(row) for row in rows if len(row[0]) >= 20][:3]
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as packed:
        code = [json.loads(line)["prompt"] for line in packed]
    return {"en": english, "zh": chinese[:200], "code": code}


@pytest.fixture(scope="module")
def clean(test_data: Path) -> dict[str, list[str]]:
    plays = sorted((test_data / "text/en/shakespeare_md").rglob("*.md"))[:10]
    english = "".join(path.read_text("utf-8") for path in plays)
    chinese = (test_data / "text/zh/sanguoyanyi.txt").read_text("utf-8")
    return {
        "en": [english[n * 4_000 :][:4_000] for n in range(200)],
        "zh": [chinese[n * 2_000 :][:2_000] for n in range(200)],
    }


@pytest.mark.parametrize("language", ["en", "zh"])
def test_planted_items_are_found(
    questions: dict[str, list[str]], clean: dict[str, list[str]], language: str
) -> None:
    items, pages = questions[language], clean[language]
    tests = pl.DataFrame({"id": [f"q{n}" for n in range(len(items))], "text": items})
    assert ic.data.decontaminate(pages, tests)["keep"].all()

    planted = [
        page[: len(page) // 2]
        + "\n"
        + items[n % len(items)].upper()
        + "\n"
        + page[len(page) // 2 :]
        for n, page in enumerate(pages)
    ]
    found = ic.data.decontaminate(planted, tests)
    assert not found["keep"].any()
    # Some questions are in the set twice.
    named = [items[int(row[1:])] for row in found["test_id"]]
    assert sum(name == items[n % len(items)] for n, name in enumerate(named)) >= len(named) * 0.98
    # A short item in a long record is no near-copy of it.
    assert found["jaccard"].max() < 0.5


def test_edited_items_are_found(
    questions: dict[str, list[str]], clean: dict[str, list[str]]
) -> None:
    """One word in thirty replaced: the overlap falls, yet to no chance level."""
    rng, edited = random.Random(4), []
    items = [item for item in questions["en"] if len(item.split()) >= 40]
    for item in items:
        words = item.split()
        for place in range(rng.randrange(15), len(words), 30):
            words[place] = "something"
        edited.append(" ".join(words))
    records = [f"{page}\n{item}" for page, item in zip(clean["en"], edited, strict=False)]
    found = ic.data.decontaminate(records, items, ngram=5)
    assert found["keep"].mean() < 0.1
    # A near-copy by Jaccard similarity is always found with the same n-grams.
    pairs = pl.concat([pl.Series(items), pl.Series(edited)])
    near = ic.data.dedup(pairs, threshold=0.7, verify="exact")
    copies = near.filter(~pl.col("keep"))["id"].to_list()
    whole = ic.data.decontaminate(edited, items, ngram=5)
    rows = {row - len(items) if row >= len(items) else row for row in copies}
    assert len(rows) > 10
    assert not whole["keep"].gather(sorted(rows)).any()


def test_code(questions: dict[str, list[str]]) -> None:
    prompts = questions["code"]
    records = pl.DataFrame(
        {"text": [f"import os\n{p.replace('    ', chr(9))}\tpass\n" for p in prompts]}
    ).with_columns(source=pl.lit("code"))
    found = ic.data.decontaminate(records, prompts)
    assert not found["keep"].any()
    assert found["overlap"].min() == 1
    import json.decoder

    library = Path(json.decoder.__file__).read_text("utf-8")
    own = pl.DataFrame({"text": [library], "source": ["code"]})
    assert ic.data.decontaminate(own, prompts)["keep"].all()


def test_short_items_need_the_whole_record() -> None:
    tests = ["42 apples", "how tall is the old tower"]
    texts = ["He ate 42 apples.", "42 APPLES!", "Q: How tall is the old tower?", "how tall is it"]
    found = ic.data.decontaminate(texts, tests)
    assert found["keep"].to_list() == [True, False, False, True]
    assert found["test_id"].to_list() == [None, 0, 1, None]


def test_any_gram_at_all() -> None:
    item = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    text = "so one two three four five six seven eight nine ten eleven twelve thirteen, he said"
    kept = ic.data.decontaminate([text, "clean"], [item, ""], ngram=13, min_overlap=0)["keep"]
    assert kept.to_list() == [False, True]
    with pytest.raises(ConfigError, match="min_overlap"):
        ic.data.decontaminate([text], [item], min_overlap=2)


def test_nothing_to_compare() -> None:
    none = pl.Series([], dtype=pl.String)
    assert ic.data.decontaminate(["a b c", None, ""], none)["keep"].all()
    assert ic.data.decontaminate(none, ["a b c"]).height == 0
    assert ic.data.decontaminate(["", "...", None], ["", "...", None])["keep"].all()


def test_any_order_and_threads(questions: dict[str, list[str]]) -> None:
    items = questions["en"]
    frame = pl.DataFrame({"id": [f"r{n:03}" for n in range(len(items))], "text": items[::-1]})
    expected = ic.data.decontaminate(frame, items, threads=1)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3)
    assert ic.data.decontaminate(shuffled, items, threads=4).sort("id").equals(expected)
