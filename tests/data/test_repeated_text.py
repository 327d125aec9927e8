"""Lines and passages that documents share: brute force, invariance, known faults of other tools."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import internlm_core as ic
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.errors import ConfigError

NOTICE = "Subscribe to our newsletter and never miss a story about the tides."
QUOTE = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer"


def keep_order(texts: list[str | None]) -> list[int]:
    """Rows as the calls order texts without other columns: longest first, then by row."""
    return sorted(range(len(texts)), key=lambda row: (-len((texts[row] or "").encode()), row))


def cut_by_hand(texts: list[str], length: int, unit: str, keep: str) -> list[str]:
    """The definition, gram by gram."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    encoded = [text.encode() for text in texts]
    for row in keep_order(list(texts)):
        at = 0
        for number, c in enumerate(texts[row]):
            whole = texts[row][number : number + length]
            gram = whole.encode() if unit == "characters" else encoded[row][at : at + length]
            if len(whole if unit == "characters" else gram) == length:
                places.setdefault(gram, []).append((row, at))
            at += len(c.encode())
    marked = [[False] * len(text) for text in encoded]
    for gram, found in places.items():
        first = found[0]
        copies = [p for p in found[1:] if p[0] != first[0] or p[1] >= first[1] + len(gram)]
        for row, at in found if copies and keep == "none" else copies:
            marked[row][at : at + len(gram)] = [True] * len(gram)
    left = []
    for row, text in enumerate(texts):
        at, out = 0, ""
        for c in text:
            width = len(c.encode())
            # A character goes as a whole or not at all.
            out += "" if all(marked[row][at : at + width]) else c
            at += width
        left.append(out)
    return left


TEXTS = st.lists(st.text("ab é三四\U0001f30a", max_size=40), max_size=5)


@settings(max_examples=300, deadline=None)
@given(
    TEXTS,
    st.integers(1, 9),
    st.sampled_from(["bytes", "characters"]),
    st.sampled_from(["first", "none"]),
)
def test_substrings_as_by_hand(texts: list[str], length: int, unit: Any, keep: Any) -> None:
    found = ic.data.dedup_substrings(
        pl.Series(texts, dtype=pl.String), min_length=length, unit=unit, keep=keep
    )
    assert found["text"].to_list() == cut_by_hand(texts, length, unit, keep)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(2, 6), st.sampled_from(["first", "none"]))
def test_blocks_give_what_the_whole_gives(texts: list[str], length: int, keep: Any) -> None:
    column = pl.Series([text * 2 for text in texts] * 2, dtype=pl.String)
    whole = ic.data.dedup_substrings(column, min_length=length, keep=keep)
    room = 20 * (max((len(text.encode()) for text in column), default=0) + 1) + 20
    blocks = ic.data.dedup_substrings(
        column, min_length=length, keep=keep, max_memory=max(1_000, room)
    )
    assert blocks.equals(whole)


def test_many_blocks_of_real_text(test_data: Path) -> None:
    """Some ten blocks, so that most copies lie in another block than their original."""
    path = next(iter(sorted((test_data / "text/en/shakespeare_md").rglob("*.md"))))
    text = path.read_text("utf-8")[:60_000]
    texts = [text[start : start + 3_000] for start in range(0, 60_000, 2_000)]
    whole = ic.data.dedup_substrings(texts, min_length=100)
    assert whole["cut_bytes"].sum() > 20_000
    blocks = ic.data.dedup_substrings(texts, min_length=100, max_memory=200_000)
    assert blocks.equals(whole)
    assert whole["text"].to_list() == cut_by_hand(texts, 100, "bytes", "first")


def test_offsets_are_of_bytes_or_characters_never_mixed() -> None:
    shared = "".join(random.Random(3).choices("abcdeśżłóé三", k=60))
    texts = ["Żółta łódź<" + shared + "> one", "été[" + shared + "] two"]
    for unit in ("characters", "bytes"):
        found = ic.data.dedup_substrings(texts, min_length=60, unit=unit, keep="none")
        assert found["text"].to_list() == ["Żółta łódź<> one", "été[] two"]
    # What stands around it and is equal too belongs to the passage: ": " and " ".
    texts = ["Żółta łódź: " + shared + " one", "été: " + shared + " two"]
    found = ic.data.dedup_substrings(texts, min_length=60, unit="characters", keep="none")
    assert found["text"].to_list() == ["Żółta łódźone", "ététwo"]


def test_passages_stay_within_their_document() -> None:
    ends, starts = "the end of one page, which is long", "the start of another page, also long"
    texts = [ends, starts, ends + "!", starts + "!"]
    found = ic.data.dedup_substrings(texts, min_length=len(ends) + 8, unit="bytes")
    assert found["text"].to_list() == texts
    # The control: joined with nothing between them, the run over the border is a copy.
    joined = [ends + starts + "1", ends + starts + "2"]
    assert ic.data.dedup_substrings(joined, min_length=len(ends) + 8)["cut"].sum() == 1


def test_first_stays_or_all_go() -> None:
    texts = [f"{number} {QUOTE[:100]} {number}" for number in "abc"]
    first = ic.data.dedup_substrings(texts, min_length=80)
    assert first["cut"].to_list() == [0, 1, 1]
    assert ic.data.dedup_substrings(texts, min_length=80, keep="none")["cut"].to_list() == [1] * 3


@pytest.mark.parametrize("texts", [[], ["a short text"], ["one text", "another page"], ["", None]])
def test_nothing_in_common(texts: list[str | None]) -> None:
    column = pl.Series(texts, dtype=pl.String)
    found = ic.data.dedup_substrings(column, min_length=20)
    assert found["text"].to_list() == texts
    assert found["cut"].sum() == 0
    assert found["keep"].all()


def test_touching_and_overlapping_passages() -> None:
    one, two, three = "first passage 1;", "second passage 2;", "2;and a third 3;"
    texts = [f"{one}-{two}-{three}" * 2 + "longest", f"x{one}{two}and a third 3;y"]
    found = ic.data.dedup_substrings(texts, min_length=16)
    assert found["text"][1] == "xy"
    assert found["text"].to_list() == cut_by_hand(texts, 16, "bytes", "first")


def test_one_character_a_million_times() -> None:
    found = ic.data.dedup_substrings(["a" * 1_000_000, "b\0" * 50], min_length=50)
    assert found["text"][0] == "a" * 50
    assert found["text"][1] == "b\0" * 25


def test_a_document_left_empty_has_a_reason() -> None:
    found = ic.data.dedup_substrings([QUOTE + "!", QUOTE, "", "."], min_length=40)
    assert found["keep"].to_list() == [True, False, True, True]
    assert found["reason"].to_list() == [None, "repeated_substrings", None, None]


def test_too_little_memory_is_said_before_the_work() -> None:
    with pytest.raises(ConfigError, match=r"document 1 has 5001 bytes.*max_memory"):
        ic.data.dedup_substrings(["a", "b" * 5_000], max_memory=10_000)
    with pytest.raises(ConfigError, match="min_length"):
        ic.data.dedup_substrings(["a"], min_length=0)


# --- lines ------------------------------------------------------------------------------------


def lines_by_hand(texts: list[str], min_chars: int, min_documents: int) -> list[list[str]]:
    """Lines that are left, of texts of plain words."""

    def key(line: str) -> str:
        return "".join(c.lower() for c in line if c.isalnum())

    having: dict[str, list[int]] = {}
    for row in keep_order(list(texts)):
        for line in set(map(key, texts[row].split("\n"))):
            having.setdefault(line, []).append(row)
    return [
        [
            line
            for line in text.split("\n")
            if line
            and (
                len(key(line)) < min_chars
                or len(having[key(line)]) < min_documents
                or having[key(line)][0] == row
            )
        ]
        for row, text in enumerate(texts)
    ]


LINES = st.lists(st.sampled_from(["a b", "A, b.", "c", "cd ef", "cdef", "ghij k", ""]), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES.map("\n".join), max_size=6), st.integers(1, 5), st.integers(2, 3))
def test_lines_as_by_hand(texts: list[str], min_chars: int, min_documents: int) -> None:
    column = pl.Series(texts, dtype=pl.String)
    found = ic.data.dedup_lines(column, min_chars=min_chars, min_documents=min_documents)
    left = [[line for line in text.split("\n") if line] for text in found["text"]]
    assert left == lines_by_hand(texts, min_chars, min_documents)
    # No run of blank lines is made.
    for before, after in zip(texts, found["text"], strict=True):
        assert "\n\n\n" not in after or "\n\n\n" in before
        assert after == before or after.strip("\n") == after.rstrip("\n").lstrip("\n")


def test_any_order_and_threads() -> None:
    rng = random.Random(5)
    lines = [f"a line of quite some length about the subject number {n}" for n in range(60)]
    frame = pl.DataFrame(
        {
            "id": [f"d{n:03}" for n in range(200)],
            "text": ["\n".join(rng.sample(lines, 5)) for _ in range(200)],
            "snapshot": [rng.choice(["2022", "2023"]) for _ in range(200)],
        }
    )
    calls: list[Any] = [
        lambda frame, threads: ic.data.dedup_lines(frame, threads=threads),
        lambda frame, threads: ic.data.dedup_lines(frame, piece="paragraph", threads=threads),
        lambda frame, threads: ic.data.dedup_substrings(frame, min_length=40, threads=threads),
        lambda frame, threads: ic.data.dedup_exact(frame, threads=threads),
    ]
    for call in calls:
        expected = call(frame, 1)
        for seed, threads in ((1, 1), (2, 4), (3, 16)):
            shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
            assert call(shuffled, threads).sort("id").equals(expected)
    assert ic.data.dedup_lines(frame)["cut"].sum() > 100


def test_short_lines_lists_tables_and_code_stay() -> None:
    item, row = "- " + NOTICE, f"| {NOTICE} | 3 |"
    fenced = f"```python\n{NOTICE}\n```"
    for text in ("Contact us", item, row, fenced, "1. " + NOTICE):
        assert ic.data.dedup_lines([text + "\nfirst one", text + "\nsecond one"])["cut"].sum() == 0
    assert ic.data.dedup_lines([item, item], lists=True)["cut"].to_list() == [0, 1]
    # The control: the same line as prose goes.
    assert ic.data.dedup_lines([NOTICE, NOTICE])["cut"].to_list() == [0, 1]
    code = pl.DataFrame({"text": [NOTICE] * 3, "source": ["code", "code", "web"]})
    assert ic.data.dedup_lines(code)["cut"].sum() == 0
    assert ic.data.dedup_lines(code, code=True)["cut"].sum() == 2


def test_chinese_lines_are_not_too_short() -> None:
    line = "订阅我们的电子报，不要错过任何一个故事"
    found = ic.data.dedup_lines([f"甲文\n{line}", f"乙文\n{line}。"], min_chars=40)
    # The longer of the two is the first in keep order.
    assert sorted(found["cut"].to_list()) == [0, 1]
    assert found.filter(pl.col("cut") == 1)["text"].to_list() == ["甲文"]


def test_no_gaps_are_left() -> None:
    page = f"One\n\n{NOTICE}\n\nTwo\n\n\nThree\n"
    frame = pl.DataFrame({"text": [NOTICE, page], "score": [2.0, 1.0]})
    assert ic.data.dedup_lines(frame)["text"][1] == "One\n\nTwo\n\n\nThree\n"


def test_one_document_loses_nothing() -> None:
    text = f"{NOTICE}\n{NOTICE}\n{QUOTE}\n{NOTICE}"
    assert ic.data.dedup_lines([text])["text"].to_list() == [text]
    paragraphs = f"{NOTICE}\n\n{QUOTE}\n\n{NOTICE}"
    assert ic.data.dedup_lines([paragraphs], piece="paragraph")["cut"].sum() == 0


def test_documents_of_newlines_alone_are_dropped_with_a_reason() -> None:
    frame = pl.DataFrame({"text": [NOTICE, f"\n\n{NOTICE}\n\n", "\n\n"], "score": [3, 2, 1]})
    found = ic.data.dedup_lines(frame)
    assert found["keep"].to_list() == [True, False, True]
    assert found["reason"].to_list() == [None, "repeated_lines", None]
    assert found["text"].to_list() == [NOTICE, "", "\n\n"]


def test_quotations_stay_by_the_number_of_documents() -> None:
    texts = [f"{QUOTE}\npage {n}\n{NOTICE if n else ''}" for n in range(2)]
    texts += [f"{NOTICE}\nother {n}" for n in range(3)]
    found = ic.data.dedup_lines(texts, min_documents=4)
    assert all(QUOTE in text for text in found["text"][:2])
    assert sum(NOTICE in text for text in found["text"]) == 1
