"""docs/model.md and docs/kernels.md print what they show."""

from __future__ import annotations

import re

import pytest


@pytest.mark.parametrize(("page", "count"), [("model.md", 4), ("kernels.md", 1)])
def test_the_guide_prints_what_it_shows(root, capsys, page, count):
    text = (root / "docs" / page).read_text("utf-8")
    pattern = r"(?<!no-run -->\n)```python\n(.*?)```\n\n((?: {4}[^\n]*\n)*)"
    blocks = re.findall(pattern, text, flags=re.DOTALL)
    assert len(blocks) == count
    names: dict[str, object] = {}
    for code, shown in blocks:
        exec(compile(code, page, "exec"), names)  # our own file
        assert capsys.readouterr().out == re.sub(r"^ {4}", "", shown, flags=re.MULTILINE)
