"""The guides show what their code prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_guide_prints_what_it_shows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (root / "docs" / "tokenizer.md").read_text("utf-8")
    _, code, rest = re.split(r"```python\n(.*?)```\n", text, maxsplit=1, flags=re.DOTALL)[:3]
    shown = re.match(r"\n((?:    .*\n)+)", rest)
    assert shown is not None
    exec(compile(code, "tokenizer.md", "exec"), {})  # our own file
    wanted = "\n".join(line[4:] for line in shown[1].rstrip().split("\n"))
    assert capsys.readouterr().out.rstrip() == wanted


def test_vocabularies_print_what_is_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (root / "docs" / "vocabulary.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)*)", text, flags=re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for code, shown in blocks:
        exec(compile(code, "vocabulary.md", "exec"), names)  # our own file
        wanted = "\n".join(line[4:] for line in shown.rstrip().split("\n"))
        assert capsys.readouterr().out.rstrip() == wanted
