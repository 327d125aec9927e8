"""Repairs: what goes, what stays, how it is counted, and that ids do not feel line ends."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core import _core
from internlm_core.data.normalise import normalise, normalise_texts


def repaired(text: str, source: str | None = None) -> str:
    return normalise_texts(pl.Series([text]), source)[0]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("\ufeffa\r\nb\rc\x00d", "a\nb\ncd"),
        ("e\u0301te\u0301", "été"),
        ("in\u200bvisi\u2060ble Unter\u00adnehmen", "invisible Unternehmen"),
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a   b\u00a0c  \nd ", "a b c  \nd"),
        ("a\n\n\n\n\n\nb\n\n\n", "a\n\n\nb\n"),
        ("\u3000\u3000天下大势，分久必合。", "\u3000\u3000天下大势，分久必合。"),
        ("- list\n    - deep  er\n", "- list\n    - deep  er\n"),
        ("x  y\n```\na  =  1 \n\n\n\n\n```\nz  z", "x y\n```\na  =  1 \n\n\n\n\n```\nz z"),
        ("kept \ufffd and \ue000", "kept \ufffd and \ue000"),
        ("\u200b\u200b", ""),
        ("", ""),
    ],
)
def test_repairs(text: str, want: str) -> None:
    assert repaired(text) == want


def test_code_keeps_all_but_line_ends_marks_and_nuls() -> None:
    code = "\ufeffx  =  'e\u0301\u200b' \r\n\n\n\n\n\t# end\x0c\x00\n"
    assert repaired(code, "code") == "x  =  'e\u0301\u200b' \n\n\n\n\n\t# end\x0c\n"


def test_source_may_differ_by_row() -> None:
    texts = pl.Series(["a   b", "a   b", None])
    found = normalise(texts, pl.Series(["code", None, "web"]))
    assert found["text"].to_list() == ["a   b", "a b", None]


def test_edits_are_counted_by_kind() -> None:
    found = normalise(
        pl.Series(["\ufeff\ufeffa\x00\x01\u200b\r\ne\u0301  x \n\n\n\n\nb", "clean", None])
    )
    assert found["edits"][0] == {
        "byte_order_mark": 2,
        "nul": 1,
        "control": 1,
        "zero_width": 1,
        "line_end": 1,
        "composition": 1,
        "trailing_blanks": 1,
        "blank_lines": 2,
        "blank_runs": 1,
    }
    assert not any(found["edits"][1].values())
    assert not any(found["edits"][2].values())


@settings(max_examples=300, deadline=None)
@given(
    st.text("a \t\n\r`~é\u0301\u200b\ufeff\x00\x1b[3m\u00a0\u3000\u2028|#-", max_size=40),
    st.booleans(),
)
def test_twice_is_once(text: str, code: bool) -> None:
    source = "code" if code else None
    once = normalise(pl.Series([text]), source)
    twice = normalise(once["text"], source)
    assert twice["text"][0] == once["text"][0]
    assert not any(twice["edits"][0].values())
    # No edit is counted where nothing changed, and none goes uncounted.
    assert (once["text"][0] != text) == any(once["edits"][0].values())


def test_real_text_keeps_its_letters(test_data: Path) -> None:
    play = next(iter(sorted((test_data / "text/en/shakespeare_md").rglob("*.md")))).read_text()
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    for text in (play, novel):
        assert [c for c in repaired(text) if not c.isspace()] == [
            c for c in text if not c.isspace() and c not in "\ufeff\u00ad\u200b"
        ]


def test_threads_do_not_matter() -> None:
    texts = pl.Series(["a  b\r\n" * n for n in range(200)])
    assert normalise(texts, threads=1).equals(normalise(texts, threads=3))


def test_ids_do_not_feel_line_ends_or_marks() -> None:
    texts = ["one\ntwo\n", "one\r\ntwo\r\n", "\ufeffone\rtwo\r", "one two"]
    column = pl.Series(["web"] * 4)
    ids = pl.Series(_core.record_ids(column, column, pl.Series(texts)))
    assert ids[0] == ids[1] == ids[2]
    assert ids[0] != ids[3]
    assert all(len(i) == 32 for i in ids)
