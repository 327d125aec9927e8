"""`compat` decides as datatrove does: given the same words, and with the words of its own choice.

No decision, reason or edited text differs on the real documents. The one difference of definition that
is left is the last test's: datatrove joins the words of a repeated n-gram without blanks.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import polars as pl
import pytest
from internlm_core.data.compat import c4_lines, c4_paragraphs, spacy_words, words_of
from internlm_core.data.rules import RuleSet, apply_rules, load_rules
from internlm_core.errors import ConfigError

FILTERS = {
    "quality": ("gopher_quality_filter", "GopherQualityFilter"),
    "repetition": ("gopher_repetition_filter", "GopherRepetitionFilter"),
    "fineweb": ("fineweb_quality_filter", "FineWebQualityFilter"),
    "c4": ("c4_filters", "C4QualityFilter"),
}
WORDS = ["blanks", "spacy"]
EDGES = [
    " ",
    "\n\n",
    "!!! ???",
    "\u200b",
    "a",
    "the and\u00a0of\u3000to",
    "word " * 60,
    "the of and to " * 30,
    "\n".join(f"- item {n} of the list and more" for n in range(40)),
    "\n".join(f"• the {n} of…" for n in range(40)),
    "One line of the text and more.\n\n\n\n" * 12,
    "a\r\nb\x0bc\x0cd\x1ce\u2028f\u2029g\x85h " * 20,
    "  padded line of the text and so on  \n" * 3 + "\nnot padded. " * 20,
    "。！？" * 60 + " the of and to",
    "# ## ### the of and to be " * 20,
    "wait... what… the of and to " * 20,
]


def rules(name: str) -> RuleSet:
    preset = load_rules({"fineweb": "fineweb", "c4": "c4"}.get(name, "gopher")).words
    if name == "c4":
        return RuleSet(words=preset)
    if name == "fineweb":
        return RuleSet(words=tuple(r for r in preset if r.reason.startswith("fineweb.")))
    repeats = tuple(r for r in preset if ".duplicate_" in r.reason or ".top_" in r.reason)
    others = tuple(r for r in preset if r not in repeats)
    return RuleSet(words=repeats if name == "repetition" else others)


def filter_class(name: str) -> tuple[Any, Any]:
    pytest.importorskip("datatrove", reason="datatrove is the reference (extra peers)")
    module: Any = import_module(f"datatrove.pipeline.filters.{FILTERS[name][0]}")
    return module, getattr(module, FILTERS[name][1])


def judge(filter: Any, text: str) -> tuple[bool, str]:  # noqa: A002
    """datatrove's decision, and the text that it leaves."""
    from datatrove.data import Document

    document = Document(text=text, id="")
    try:
        return filter.filter(document) is True, document.text
    except ZeroDivisionError:
        # It divides by the number of words or lines; we call such a text dropped.
        return False, document.text


def theirs(name: str, words: str, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """datatrove's decisions: as it comes, or over words parted by blanks."""
    module, made = filter_class(name)
    if words == "spacy":
        pytest.importorskip("spacy", reason="datatrove cuts English with spaCy")
    elif name == "c4":
        # Its words are parted by blanks anyway; what is injected are our sentences.
        monkeypatch.setattr(
            module,
            "split_into_sentences",
            lambda text, language=None: [text] * spacy_words([text])["sentences"][0],
        )
    else:
        monkeypatch.setattr(module, "split_into_words", lambda text, language=None: text.split())
    filter = made()  # noqa: A001
    return [judge(filter, text)[0] for text in texts]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("name", FILTERS)
def test_edges_equal_datatrove(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    want = theirs(name, words, EDGES, monkeypatch)
    got = apply_rules(pl.DataFrame({"text": EDGES}), rules(name), compat=words)[0]["keep"]
    different = [(e, w, g) for e, w, g in zip(EDGES, want, got, strict=True) if w != g]
    if name == "repetition":
        # Theirs calls a text of fewer than two words sound or divides by zero; nothing repeats in it.
        different = [row for row in different if len(row[0].split()) > 1]
    assert not different


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("name", FILTERS)
def test_decisions_equal_datatrove(
    name: str, words: str, real_documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal on all of 10,000 documents and more; our own definitions differ, so the test bites."""
    assert len(real_documents) > 10_000
    want = pl.Series(theirs(name, words, real_documents, monkeypatch))
    frame = pl.DataFrame({"text": real_documents})
    got = apply_rules(frame, rules(name), compat=words)[0]["keep"]
    assert 0.02 < want.mean() < 0.999
    assert (got != want).sum() == 0
    assert (apply_rules(frame, rules(name))[0]["keep"] != want).sum() > 10


PAGES = [
    (
        "A first line of text. And a second!\nMenu\nPlease enable JavaScript now.\n"
        "It was so [1] in the year [edit]. See there[citation needed].\n"
        'Our Privacy Policy is here.\nIs it so? Yes, it is...\nAnd that was "all"'
    ),
    "One is here.  Two is\u2028there!\x1cThree, again. [1]  \nLorem Ipsum is here now.",
    "x { y } z is code.\nSo it is here.",
    "JavaScript { is gone now.\nIt is. It is. It is. It is. It is.",
    "a " * 5 + "é" * 1001 + ".\nIt is so. It is so. It is so. It is so. It is so.",
    "This uses coo\u212aies here. One. Two. Three. Four. Five.",
    "[1] [2] [3]\nfoo bar baz.  [٣]\nfoo bar [edit] baz.",
    "",
    " ",
    "\n\n",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"filter_no_terminal_punct": False},
        {"split_paragraph": False},
        {"split_paragraph": False, "filter_no_terminal_punct": False, "min_words_per_line": -1},
        {"remove_citations": False, "min_num_sentences": 1, "max_word_length": -1},
        {"min_num_sentences": -1, "filter_javascript": False, "filter_policy": False},
        {"min_num_sentences": 2, "filter_lorem_ipsum": False, "filter_curly_bracket": False},
    ],
)
def test_c4_edits_as_datatrove(options: dict[str, Any]) -> None:
    pytest.importorskip("spacy", reason="datatrove cuts English with spaCy")
    filter = filter_class("c4")[1](**options)  # noqa: A001
    texts = [*PAGES, *EDGES]
    want = [judge(filter, text) for text in texts]
    got = c4_lines(texts, **options).select("keep", "text").rows()
    assert [t for k, t in want if k] == [t for k, t in got if k]
    assert [k for k, _ in want] == [k for k, _ in got]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("terminal", [True, False])
def test_c4_texts_equal_datatrove(terminal: bool, real_documents: list[str]) -> None:
    pytest.importorskip("spacy", reason="datatrove cuts English with spaCy")
    filter = filter_class("c4")[1](filter_no_terminal_punct=terminal)  # noqa: A001
    got = c4_lines(real_documents, filter_no_terminal_punct=terminal).select("keep", "text").rows()
    kept = 0
    for text, (keep, edited) in zip(real_documents, got, strict=True):
        want, left = judge(filter, text)
        assert (keep, edited) == (want, left if want else None)
        kept += keep
    assert 1000 < kept < len(real_documents)


def test_c4_paragraphs_as_datatrove() -> None:
    from_theirs = pytest.importorskip("datatrove.pipeline.filters.c4_filters").C4ParagraphFilter()
    long, short = "é" * 200, "é" * 199
    texts = ["", "\n".join([long] * 3), f"{long}\n{long}\n{short}", f"{short}\n" * 9]
    texts.append(f"{short}\n{long}\n\n{long}\n{long}")
    want = [judge(from_theirs, text)[0] for text in texts]
    assert c4_paragraphs(texts).to_list() == want == [False, True, False, False, True]


def test_words_that_are_not_offered_are_refused() -> None:
    assert (words_of(True), words_of(False), words_of("blanks")) == ("spacy", None, "blanks")
    for other in ("cmn", "zho", "eng", None, 1):
        with pytest.raises(ConfigError, match="not reproduced"):
            apply_rules(pl.DataFrame({"text": ["a"]}), RuleSet(), compat=other)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_the_difference_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five words and the same letters cut into five others are one n-gram to datatrove."""
    letters = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwx"
    once = " ".join(letters[at : at + 10] for at in range(0, 50, 10))
    again = " ".join(
        [letters[:11], *(letters[at : at + 10] for at in range(11, 41, 10)), letters[41:]]
    )
    text = " ".join([*(f"w{n}" for n in range(40)), once, again])
    assert theirs("repetition", "blanks", [text], monkeypatch) == [False]
    frame = pl.DataFrame({"text": [text]})
    assert apply_rules(frame, rules("repetition"), compat="blanks")[0]["keep"].to_list() == [True]
