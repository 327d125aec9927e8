"""`compat` decides as datatrove does, given the same words."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from internlm_core.data.rules import RuleSet, apply_rules, load_rules

FILTERS = {
    "quality": ("gopher_quality_filter", "GopherQualityFilter"),
    "repetition": ("gopher_repetition_filter", "GopherRepetitionFilter"),
    "fineweb": ("fineweb_quality_filter", "FineWebQualityFilter"),
}
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
    preset = load_rules("fineweb" if name == "fineweb" else "gopher").words
    if name == "fineweb":
        return RuleSet(words=tuple(r for r in preset if r.reason.startswith("fineweb.")))
    repeats = tuple(r for r in preset if ".duplicate_" in r.reason or ".top_" in r.reason)
    others = tuple(r for r in preset if r not in repeats)
    return RuleSet(words=repeats if name == "repetition" else others)


def theirs(name: str, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """datatrove's decisions over words parted by blanks."""
    pytest.importorskip("datatrove")
    from importlib import import_module

    from datatrove.data import Document

    module_name, class_name = FILTERS[name]
    module: Any = import_module(f"datatrove.pipeline.filters.{module_name}")
    monkeypatch.setattr(module, "split_into_words", lambda text, language=None: text.split())
    judge = getattr(module, class_name)().filter

    def keep(text: str) -> bool:
        try:
            return judge(Document(text=text, id="")) is True
        except ZeroDivisionError:
            # It divides by the number of words or lines; we call such a text dropped.
            return False

    return [keep(text) for text in texts]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILTERS)
def test_edges_equal_datatrove(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    want = theirs(name, EDGES, monkeypatch)
    got = apply_rules(pl.DataFrame({"text": EDGES}), rules(name), compat="blanks")[0]["keep"]
    different = [(e, w, g) for e, w, g in zip(EDGES, want, got, strict=True) if w != g]
    if name == "repetition":
        # Theirs calls a text of fewer than two words sound or divides by zero; nothing repeats in it.
        different = [row for row in different if len(row[0].split()) > 1]
    assert not different


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILTERS)
def test_decisions_equal_datatrove(
    name: str, real_documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal on all of 10,000 documents and more; our own definitions differ, so the test bites."""
    assert len(real_documents) > 10_000
    want = pl.Series(theirs(name, real_documents, monkeypatch))
    frame = pl.DataFrame({"text": real_documents})
    got = apply_rules(frame, rules(name), compat="blanks")[0]["keep"]
    assert 0.02 < want.mean() < 0.999
    assert (got != want).sum() == 0
    assert (apply_rules(frame, rules(name))[0]["keep"] != want).sum() > 10
