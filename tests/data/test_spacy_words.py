"""English words and sentences are spaCy's, token for token."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from internlm_core.data.compat import spacy_words


@pytest.fixture(scope="module")
def english() -> Any:
    spacy = pytest.importorskip("spacy", reason="spaCy is the reference (extra peers)")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    return pipeline


def theirs(english: Any, text: str) -> tuple[list[str], int]:
    document = english(text)
    words = [token.text for token in document if token.text.strip()]
    return words, max(1, sum(1 for _ in document.sents))


def ours(texts: list[str]) -> list[tuple[list[str], int]]:
    return spacy_words(texts).rows()


def test_known_sentences() -> None:
    """Also where spaCy is not installed; rust/text/src/spacy has more of them."""
    text = "Dr. O'Neil can't pay US$5,000 (or 12kg) in the U.S.; see http://a.example/x?y. :)"
    want = (
        "Dr.|O'Neil|ca|n't|pay|US$|5,000|(|or|12|kg|)|in|the|U.S.|;|see|http://a.example/x?y|.|:)"
    )
    assert ours([text, ""]) == [(want.split("|"), 1), ([], 1)]
    assert ours(["One. Two!"])[0][1] == 2


def test_every_exception(english: Any) -> None:
    """Each of spaCy's exceptions alone, between other words, and stuck to punctuation."""
    rules = [chunk for chunk in english.tokenizer.rules if chunk.strip()]
    assert len(rules) > 1300
    texts = [
        text
        for chunk in rules
        for text in (chunk, f"so {chunk}, x-{chunk} ({chunk}) {chunk}{chunk} {chunk.upper()}.")
    ]
    got = ours(texts)
    assert [t for t, g in zip(texts, got, strict=True) if theirs(english, t) != g] == []


PARTS = st.one_of(
    st.sampled_from(
        [
            "can't",
            "won't",
            "I'm",
            "it's",
            "y'all",
            "cannot",
            "gonna",
            "Mr.",
            "Dr.",
            "a.",
            "e.g.",
            "U.S.",
            "Ph.D.",
            "p.m.",
            "5pm",
            "o'clock",
            "w/o",
            ":)",
            ":-(",
            ";D",
            "<3",
            "8)",
            "(:",
            "=/",
            ">.<",
            "¯\\(ツ)/¯",
            "……",
            "...",
            "..",
            "--",
            "---",
            "----",
            "—",
            "–",
            "'s",
            "’s",
            "'S",
            "n't",
            "http://a.example/b?c#d",
            "www.example.com",
            "someone@example.org",
            "mailto:a@b.cd",
            "8.8.8.8:53",
            "10.0.0.1",
            "x://y",
            "12kg",
            "3.5km²",
            "5GB",
            "10%",
            "20°C.",
            "US$5",
            "€3",
            "£4.50",
            "1,000",
            "2-3",
            "5^-6",
            "3+4",
            "word.Next",
            "x=y",
            "a/b",
            "and/or",
            "“",
            "”",
            "‘",
            "’",
            "«",
            "»",
            "`",
            "´",
            "_",
            "*",
            "#",
            "&",
            "$",
            "%",
            "+",
            "=",
            "<",
            ">",
            "|",
            "\\",
            "/",
            "~",
            "^",
            "@",
            "今天。",
            "中文，字",
            "¿qué?",
            "naïve",
            "ΑΒΓ.",
            "Жук",
            "привет",
            "😀",
            "☃",
        ]
    ),
    st.sampled_from(list(".,;:!?'\"()[]{}<>-–—…+*^=/&#@$%_~`°²aZ09éß中")),
    st.text(min_size=1, max_size=3),
)
BLANKS = st.sampled_from(
    ["", "", "", " ", " ", "  ", "\n", "\n\n", "\t", "\u00a0", "\u3000", "\x1c"]
)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(PARTS, BLANKS), max_size=14))
@example([("ratio", ""), (":", " "), ("3", "")])
@example([("8.8.8.8", ""), ("）x.com", "")])
@example([("x-a", ""), (".", " "), ("a", " "), (".", "")])
def test_random_mixes(english: Any, parts: list[tuple[str, str]]) -> None:
    text = "".join(part + blank for part, blank in parts)
    words, sentences = ours([text])[0]
    assert "".join(words) == "".join(text.split()), "a span is lost"
    assert (words, sentences) == theirs(english, text)


@pytest.mark.slow
def test_every_character(english: Any) -> None:
    """Each code point in the places where a rule may look at it."""
    texts = [
        f"{c} a{c} {c}a a{c}a {c}. a.{c} {c}.A a.{c}z 1{c} 1{c}1 {c},{c} {c}-a {c}{c}. {c}b.co {c}{c}://"
        for c in map(chr, (*range(0x21, 0x3400), *range(0xA000, 0xD800), *range(0xF900, 0x1FC00)))
        if not c.isspace()
    ]
    tokenizer = english.tokenizer
    for text, (words, _) in zip(texts, ours(texts), strict=True):
        assert words == [token.text for token in tokenizer(text) if token.text.strip()], text[0]


@pytest.mark.slow
def test_real_documents(english: Any, real_documents: list[str]) -> None:
    """At least 99.9 % of tokens is asked for; none differs, and no count of sentences."""
    assert len(real_documents) > 10_000
    different = [
        text
        for text, got in zip(real_documents, ours(real_documents), strict=True)
        if theirs(english, text) != got
    ]
    assert different == []


def test_null_and_threads() -> None:
    texts = pl.Series([None, "a b", "c."] * 100)
    assert spacy_words(texts, threads=1).equals(spacy_words(texts, threads=2))
    assert spacy_words(texts)["words"][0].to_list() == []
