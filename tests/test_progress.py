"""Progress where no terminal is."""

from __future__ import annotations

import io

import pytest
from internlm_core import _progress
from rich.console import Console


def test_a_line_of_a_log_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(_progress, "console", Console(file=written, width=40))
    with _progress.Task("Training", 10) as task:
        task.advance(10, "a figure " * 10)
    assert written.getvalue().count("\n") == 1
    assert written.getvalue().startswith("Training: 10/10 a figure")


def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(_progress, "console", Console(file=written))
    with _progress.Task("Training", 10, quiet=True) as task:
        task.advance(10)
    assert not written.getvalue()
