"""docs/model.md prints what it shows."""

from __future__ import annotations

import re


def test_the_guide_prints_what_it_shows(root, capsys):
    text = (root / "docs" / "model.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n\n((?: {4}[^\n]*\n)*)", text, flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for code, shown in blocks:
        exec(compile(code, "model.md", "exec"), names)  # our own file
        assert capsys.readouterr().out == re.sub(r"^ {4}", "", shown, flags=re.MULTILINE)
