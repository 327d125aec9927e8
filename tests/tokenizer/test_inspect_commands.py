"""`tokenizer inspect` and `compare` print and draw what they promise."""

from __future__ import annotations

import itertools
import re
from html import unescape
from pathlib import Path

import polars as pl
import pytest
from internlm_core.cli import main
from internlm_core.tokenizer import Tokenizer, describe, train
from internlm_core.tokenizer.showing import coloured_text

ROWS = [
    ("the tide rises and falls", "en", "books"),
    ("潮水在月光下涨落", "zh", "webpages"),
    ("the pale moon <b>", "en", "webpages"),
    ("🙂🙃", None, "webpages"),
]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.parquet"
    pl.DataFrame(ROWS, ["text", "lang", "source"], orient="row").write_parquet(path)
    return path


def figure(shown: str, label: str) -> tuple[int, float]:
    found = re.search(
        rf"^{re.escape(label)}: ([\d,]+) tokens, ([\d.]+) bytes a token$", shown, re.M
    )
    assert found, label
    return int(found[1].replace(",", "")), float(found[2])


def test_inspect_tells_languages_and_sources_apart(
    small: Tokenizer, records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.save(tmp_path / "t.json")
    page = tmp_path / "page.html"
    arguments = ["--text", str(records), "--html", str(page)]
    assert main(["tokenizer", "inspect", str(tmp_path / "t.json"), *arguments]) == 0
    shown = capsys.readouterr().err
    for column, at in (("lang", 1), ("source", 2)):
        for name in {row[at] for row in ROWS}:
            texts = [row[0] for row in ROWS if row[at] == name]
            count = sum(small.count(text) for text in texts)
            size = sum(len(text.encode()) for text in texts)
            found = figure(shown, f"{column} {name or 'unknown'}")
            assert found == (count, pytest.approx(size / count, abs=0.005))
    assert re.search(r"^longest +\d+ bytes  b'", shown, re.M)
    assert re.search(r"^unreachable +0 of the tokens", shown, re.M)
    assert re.search(r"^coverage +[\d.]+% of the tokens occur", shown, re.M)
    assert re.search(r"^whole +[\d.]+% of the bytes", shown, re.M)
    inside = page.read_text("utf-8").split("<pre")[1].split(">", 1)[1]
    assert unescape(re.sub("<[^>]*>", "", inside)).strip() == ROWS[0][0]


def test_figures_of_texts_are_those_of_their_ids(small: Tokenizer) -> None:
    found = describe(small, {"one": ROWS[0][0], "two": "🙂"})
    ids = [*small.encode(ROWS[0][0]).tolist(), *small.encode("🙂").tolist()]
    ordinary = small.vocab_size - len(small.special_tokens)
    assert found.coverage == len(set(ids)) / ordinary
    # The emoji is not in the corpus: its four bytes are parts of a character.
    assert found.whole == 1 - 4 / (4 + len(ROWS[0][0]))
    assert found.texts["documents"].to_list() == [1, 1]
    nothing = describe(small)
    assert (nothing.coverage, nothing.texts.height) == (0, 0)


def test_every_token_of_a_text_has_another_colour_than_the_one_before(small: Tokenizer) -> None:
    text = "the tide 🙂 潮水"
    shown = coloured_text(small, text)
    assert shown.plain == text
    styles = [span.style for span in shown.spans]
    assert all(a != b for a, b in itertools.pairwise(styles))
    assert len(styles) > 3


def test_compare_prints_and_draws(
    small: Tokenizer, records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.save(tmp_path / "a.json")
    bare = train(["x"], vocab_size=265, quiet=True)
    bare.save(tmp_path / "b.json")
    (tmp_path / "code.py").write_text("the tide")
    names = [str(tmp_path / "b.json"), str(tmp_path / "a.json")]
    texts = ["--text", str(records), "--text", str(tmp_path / "code.py")]
    assert main(["tokenizer", "compare", *names, *texts, "--html", str(tmp_path / "c.html")]) == 0
    shown = capsys.readouterr().err
    ratio = 8 / small.count("the tide")
    assert f"code.py: 1.00  {ratio:.2f}  {ratio:.3f}" in shown.replace("\n", "")
    assert "lang zh: 1.00" in shown
    page = (tmp_path / "c.html").read_text("utf-8")
    assert page.count("<div style=") == 2 * (2 + 3 + 2)  # Two files, three languages, two sources.
    assert "source books" in page


def test_bad_input_is_named(
    small: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.save(tmp_path / "t.json")
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.parquet").write_bytes(b"x")
    good, none = str(tmp_path / "t.json"), str(tmp_path / "none")
    for arguments, message in (
        (["inspect", str(tmp_path / "bad.json")], "bad.json"),
        (["inspect", good, "--text", none], "none: no such file or folder"),
        (["inspect", good, "--text", str(tmp_path / "bad.parquet")], "can't be read as Parquet"),
        (["compare", good, none, "--text", good], "none"),
        (["compare", good, good, "--text", none], "none: no such file or folder"),
        (["pack", none, "--tokenizer", good, "--out", str(tmp_path / "o")], "no such file"),
        (["train", none, "--vocab-size", "300", "--out", str(tmp_path / "o.json")], "no such file"),
        (["extend", none, "--base", none, "--out", str(tmp_path / "o.json")], "none"),
    ):
        assert main(["tokenizer", *arguments]) == 1
        assert message in capsys.readouterr().err.replace("\n", "")
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").glob("shard-*"))
    assert not (tmp_path / "o.json").exists()
