"""Statistics: values worked out by hand, and an independent slow twin for every script."""

from __future__ import annotations

import math
import sysconfig
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internlm_core.data import METRICS, metrics

OWN_WORD = ("HIRAGANA", "KATAKANA", "CJK", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def one(text: str, lang: str | None = "en", **options: Any) -> dict[str, Any]:
    return metrics(pl.Series([text]), lang, **options).row(0, named=True)


def is_unit(char: str) -> bool:
    """A letter or digit of a script that parts no words."""
    return char.isalnum() and unicodedata.name(char, "").startswith(OWN_WORD)


def twin_tokens(text: str) -> list[str]:
    """Tokens, character by character."""
    tokens: list[str] = []
    open_token = after_unit = False
    for char in text:
        mark = unicodedata.category(char).startswith("M")
        if char.isspace():
            open_token = after_unit = False
        elif is_unit(char):
            tokens.append(char)
            open_token, after_unit = False, True
        elif (after_unit and mark) or open_token:
            tokens[-1] += char
        else:
            tokens.append(char)
            open_token, after_unit = True, False
    return tokens


def twin(text: str) -> dict[str, float]:
    tokens = twin_tokens(text)
    words = [t for t in tokens if any(c.isalnum() for c in t)]
    solid = [c for c in text if not c.isspace()]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    paragraphs: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            paragraphs[-1].append(line.strip())
        elif paragraphs[-1]:
            paragraphs.append([])
    paragraphs = [p for p in paragraphs if p]
    seen: set[Any] = set()
    repeated = [p for p in paragraphs if tuple(p) in seen or seen.add(tuple(p))]  # type: ignore[func-returns-value]
    counts = Counter(words)
    entropy = -sum(c / len(words) * math.log2(c / len(words)) for c in counts.values())
    return {
        "words": len(words),
        "symbol_words": len(tokens) - len(words),
        "unique_words": len(counts),
        "word_entropy": entropy,
        "mean_word_length": sum(map(len, words)) / max(1, len(words)),
        "alpha_word_share": sum(any(c.isalpha() for c in t) for t in tokens) / max(1, len(tokens)),
        "unit_share": sum(is_unit(w[0]) for w in words) / max(1, len(words)),
        "letter_share": sum(c.isalpha() for c in solid) / max(1, len(solid)),
        "han_share": sum(unicodedata.name(c, "").startswith("CJK UNI") for c in solid)
        / max(1, len(solid)),
        "lines": len(lines),
        "paragraphs": len(paragraphs),
        "duplicate_paragraph_share": len(repeated) / max(1, len(paragraphs)),
    }


def check(text: str) -> None:
    got = one(text)
    for name, want in twin(text).items():
        assert got[name] == pytest.approx(want, abs=1e-9), (name, text[:80])


def test_equal_the_twin_on_real_text(test_data: Path) -> None:
    novel = (test_data / "text/zh/sanguoyanyi.txt").read_text()
    plays = sorted((test_data / "text/en/shakespeare_md").rglob("*.md"))[:3]
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    texts = [novel[at : at + 4000] for at in range(0, 40_000, 4000)]
    texts += [play.read_text()[:20_000] for play in plays]
    texts += [(stdlib / name).read_text()[:20_000] for name in ("locale.py", "heapq.py")]
    for text in texts:
        check(text)


@settings(max_examples=200, deadline=None)
@given(
    st.text("ab é\n 中国カ한글กำ\u0e31。，.!-\u3000\u00a0\u2003𠀀ñ①", max_size=150),
    st.integers(0, 130),
)
def test_equal_the_twin_wherever_characters_fall(text: str, shift: int) -> None:
    """The core reads 64 bytes at a time; a shift moves every boundary."""
    check("x" * shift + " " + text)


def test_values_worked_out_by_hand() -> None:
    got = one("The cat sat. The cat ran!\n\nWHO sat?\n- the cat\n")
    want = {
        "chars": 46,
        "words": 10,
        "symbol_words": 1,
        "unique_words": 7,  # The, cat, sat., ran!, WHO, sat?, the
        "sentences": 4,  # three marks, and the list item without one
        "lines": 3,
        "paragraphs": 2,
        "stop_words": 1,
        "stop_word_share": 3 / 10,
        "capital_word_share": 1 / 10,
        "bullet_line_share": 1 / 3,
        "terminal_line_share": 2 / 3,
        "short_line_share": 1.0,
        "newlines_per_word": 4 / 11,
        "longest_newline_run": 2,
        "longest_line": 25,
        "upper_share": 5 / 30,
        # "The cat" twice is 12 of the 34 characters in tokens.
        "top_2gram_share": 12 / 34,
        "top_3gram_share": 0.0,
    }
    for name, value in want.items():
        assert got[name] == pytest.approx(value), name


def test_every_value_is_finite_and_shares_are_shares() -> None:
    texts = ["", " ", "\n\n", "\u200b", "!!! ???", "\x00", "a", "。", "a a a a a a", "\ufffd" * 9]
    for text in texts:
        for compat in (False, True, "blanks"):
            for name, value in one(text, compat=compat).items():
                assert math.isfinite(value), (text, name)
                if name.endswith("_share") and not compat:
                    assert 0 <= value <= 1, (text, name)


@settings(max_examples=200, deadline=None)
@given(st.text("ab c\n.#<&>é中。-•…{", max_size=120))
def test_shares_stay_between_zero_and_one(text: str) -> None:
    for name, value in one(text).items():
        assert not name.endswith("_share") or 0 <= value <= 1 + 1e-12, (text, name)


def test_duplicate_grams_worked_out_by_hand() -> None:
    block = "one two three four five six"
    got = one(f"{block} seven {block} eight")
    chars = len(block.replace(" ", "")) * 2 + 10
    assert got["duplicate_5gram_share"] == pytest.approx(22 / chars)
    assert got["duplicate_6gram_share"] == pytest.approx(22 / chars)
    assert got["duplicate_7gram_share"] == 0
    # Every character once: "a" repeated is covered from the second token of a 5-gram's repetition on.
    assert one("a " * 20)["duplicate_5gram_share"] == pytest.approx(19 / 20)


def test_c4_phrases() -> None:
    line = "This is a sound sentence of the page."
    got = one("\n".join([line] * 3 + ["Please enable JavaScript to go on.", "Our Privacy Policy."]))
    assert got["boilerplate_lines"] == 2
    assert got["prose_sentences"] == 3
    assert one("Lorem ipsum dolor sit amet.")["lorem_ipsum"] == 1
    assert one("if (x) { y }")["curly_brackets"] == 1


def test_sentences_of_any_script() -> None:
    for text, want in {
        "今天下雨。我们在家。你呢？好的！他来了。我们走。": 6,
        "यह है। वह है।": 2,
        "هل تسمع؟ نعم.": 2,
        "Pi is 3.14 in v1.2 of it.": 1,
        "See e.g. this by J. Smith. Done.": 2,
        "No mark at all": 1,
        "": 0,
    }.items():
        assert one(text)["sentences"] == want, text


def test_compat_counts_words_between_blanks() -> None:
    assert one("中国 人民", compat="blanks")["words"] == 2
    assert one("中国 人民")["words"] == 4
    # datatrove takes a gram that occurs once for the most frequent one.
    assert one("aa bb cc", compat="blanks")["top_2gram_share"] == pytest.approx(5 / 8)
    assert one("aa bb cc")["top_2gram_share"] == 0


def test_table_of_names() -> None:
    names = [name for name in METRICS if name != "compression_ratio"]
    assert metrics(pl.Series(["a"])).columns == names
    assert metrics(pl.Series(["a"]), compression=True).columns == list(METRICS)
    assert all(meaning.endswith(".") for meaning in METRICS.values())
