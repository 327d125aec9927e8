"""Repairs: what goes, what stays, how it is counted, and that ids do not feel line ends."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core import _core
from internlm_core.data.normalise import Normaliser, normalise, normalise_texts
from internlm_core.errors import ConfigError, MissingExtraError


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
        "mojibake": 0,
        "byte_order_mark": 2,
        "nul": 1,
        "control": 1,
        "zero_width": 1,
        "line_end": 1,
        "composition": 1,
        "trailing_blanks": 1,
        "blank_lines": 2,
        "blank_runs": 1,
        "citations": 0,
    }
    assert found["characters"][0]["byte_order_mark"] == 2
    assert found["characters"][0]["blank_lines"] == 2
    assert not any(found["edits"][1].values())
    assert not any(found["edits"][2].values())


NORMALISERS = [
    Normaliser(form=form, lines=lines, citations=citations)
    for form, lines, citations in [
        ("nfc", None, False),
        ("nfc", "boilerplate", False),
        ("nfkc", "boilerplate", True),
        ("nfkc", "c4", True),
    ]
]
PIECES = [
    *"a \t\n\r`~é\u0301\u200b\ufeff\x00\u00a0\u3000\u2028|#-$",
    *("\x1b[3m", "\r\n", "```\n", "~~~\n", "｀｀｀\n", "$$\n", "＄＄", "\\[", "\\]", "    "),
    *("\\begin{a}\n", "\\end{a}\n", "[1]", "[[1]2]", "[edit]", "x[2](http://a)", "| a |\n"),
    # Emoji sequences, a flag, joiners of Arabic and Indic scripts, marks of direction.
    *(
        "👩\u200d👩\u200d👧",
        "🏴\U000e0067\U000e007f",
        "\u200d",
        "\u200c",
        "می\u200c",
        "क्\u200dष",
        "ക്\u200d",
    ),
    *(
        "א\u200f",
        "\u202e",
        "\u2067",
        "\u061c",
        "ไ\u200bท",
        "가",
        "\u1100\u1161",
        "ﬁ",
        "²",
        "Ａ",
        "ﷺ",
    ),
    # UTF-8 read as windows-1252, as Latin-1, twice, and with its halves parted.
    *("Ã©", "â€™", "\u00e2\u0080\u0099", "ÃƒÂ©", "Ã\u200b©", "ä¸\xad", "ðŸ˜€", "Ð¿Ñ€Ð¸"),
    *("Share this\n", "Home\n", "- About us\n", "News\n", "© 2020 x\n", "首页\n", "Read more »\n"),
    *("京ICP备12345678号\n", "We use cookies to improve it.\n", "A sentence of some words here.\n"),
]


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"])), max_size=25
    ).map("".join),
    st.sampled_from(NORMALISERS),
    st.booleans(),
)
def test_twice_is_once(text: str, normaliser: Normaliser, code: bool) -> None:
    source = "code" if code else None
    once = normaliser.run(pl.Series([text]), source)
    twice = normaliser.run(once["text"], source)
    assert twice["text"][0] == once["text"][0]
    assert not any(twice["edits"][0].values())
    # No edit is counted where nothing changed, and none goes uncounted.
    assert (once["text"][0] != text) == any(once["edits"][0].values())
    for kind, count in once["edits"][0].items():
        assert (count > 0) == (once["characters"][0][kind] > 0) or kind == "mojibake"


def test_the_property_bites() -> None:
    """A repair that is no fixed point fails it: the same text without the second look."""
    text = "Ã\u200b©"
    once = normalise_texts(pl.Series([text]))
    assert once[0] == "é"
    parts = Normaliser(mojibake=False).run(pl.Series([text]))["text"]
    assert normalise_texts(parts)[0] != parts[0]


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


@pytest.mark.parametrize(
    ("damaged", "want"),
    [
        ("Itâ€™s a cafÃ© near LeÃ³n.", "It’s a café near León."),
        ("\u00e2\u0080\u009cquoted\u00e2\u0080\u009d", "“quoted”"),
        ("a \x93quoted\x94 word", "a “quoted” word"),
        ("cafÃƒÂ© twice", "café twice"),
        ("ä¸­æ–‡ç½‘é¡µ", "中文网页"),
        ("РџСЂРёРІРµС‚, РјРёСЂ", "Привет, мир"),
        # Each line by itself: sound Chinese above does not hide damage below.
        ("这一行没有问题。\nFranÃ§ois", "这一行没有问题。\nFrançois"),
    ],
)
def test_mojibake(damaged: str, want: str) -> None:
    found = normalise(pl.Series([damaged]))
    assert found["text"][0] == want
    assert found["edits"][0]["mojibake"] == 1
    assert normalise(pl.Series([damaged]), mojibake=False)["edits"][0]["mojibake"] == 0
    assert repaired(damaged, "code") == damaged


def test_no_damage_goes_unsuspected(test_data: Path) -> None:
    """What ftfy would mend, the quick look must see; and sound text must not be changed."""
    import ftfy

    lines = (test_data / "text/zh/sanguoyanyi.txt").read_text().split("\n")[:200]
    sound = [line[:80] for line in lines if line.strip()]
    sound += [
        "Où est l’hôtel « à côté » ?",
        "Größe, Übermaß – „so“",
        "Привет, как дела?",
        "Zażółć gęślą",
    ]
    damaged = [
        text.encode().decode(encoding, "ignore")
        for text in sound
        for encoding in ("latin-1", "cp1252", "cp1251", "cp437", "mac_roman")
    ]
    mended = [text for text in damaged if ftfy.fix_encoding(text) != text]
    assert len(mended) > 300
    assert _core.suspects_mojibake(pl.Series(mended)).mean() > 0.99
    assert not _core.suspects_mojibake(pl.Series(sound)).any()


def test_ftfy_is_only_asked_where_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import ftfy

    asked: list[str] = []
    real = ftfy.fix_encoding
    monkeypatch.setattr(ftfy, "fix_encoding", lambda text: (asked.append(text), real(text))[1])
    texts = pl.Series(["Plain.", "Un café, s’il vous plaît.", "中文。", "cafÃ©\nplain", "Ελλάδα"])
    assert normalise(texts)["text"][3] == "café\nplain"
    assert asked == ["cafÃ©"]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(MissingExtraError, match=r"internlm-core\[data\]"):
        normalise(pl.Series(["x"]))
    assert normalise(pl.Series(["x"]), mojibake=False)["text"][0] == "x"


def test_nfkc_and_citations_are_settings() -> None:
    text = "Ｗｉｄｅ ﬁsh[1][2] is true.[citation needed]\n\n`a[1]`\n```\nＷ[1]\n```"
    assert repaired(text) == text
    found = normalise(pl.Series([text]), form="nfkc", citations=True)
    assert found["text"][0] == "Wide fish is true.\n\n`a[1]`\n```\nＷ[1]\n```"
    assert found["edits"][0]["citations"] == 3
    assert found["characters"][0]["citations"] == 6 + 17
    with pytest.raises(ConfigError, match="nfd"):
        normalise(pl.Series([text]), form="nfd")


def test_bidirectional_marks_stay_in_text_that_needs_them() -> None:
    assert repaired("שלום\u200f, abc\u200e!") == "שלום\u200f, abc\u200e!"
    assert repaired("only\u200e Latin\u202e text\u202c") == "only Latin text"
