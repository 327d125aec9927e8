"""The tables in README.md and docs/results.md are what benches/results/ says."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def _row(speed: float) -> dict[str, Any]:
    side = {"seconds": {"wall": [1.0], "cpu": [1.0]}, "memory_bytes": None}
    return {
        "room": "filter",
        "task": "work",
        "unit": "MB/s",
        "clock": "wall",
        "ours": {**side, "name": "internlm-core", "speed": speed, "versions": {"a": "1"}},
        "peer": {**side, "name": "peer", "speed": 2.0, "versions": {"b": "2"}, "recall": 0.5},
        "ratio": speed / 2,
        "cpu": "chip",
        "cores": 2,
        "threads": 1,
        "python": "3",
        "commit": "c0ffee",
        "date": "2024-03-26 10:00",
    }


def test_the_pages_agree_with_the_results(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benches.table", "--check"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_result_changes_the_table() -> None:
    from benches.table import BEGIN, END, markdown, replaced

    readme = f"# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n"
    one, two = (replaced(readme, markdown([_row(speed)])) for speed in (10.0, 12.0))
    assert one != two
    assert replaced(one, markdown([_row(10.0)])) == one
    assert "| work | 10.0 MB/s | peer: 2.00 MB/s | 5.00× |  | recall 0.500 |" in one
    assert one.startswith("# Title\n")
    assert one.endswith("\n\nmore\n")
    assert "a 1, b 2" in one
    with pytest.raises(ValueError, match="needs the lines"):
        replaced("# Title\n", "table")


def test_the_headline_is_the_hardest_peer() -> None:
    from benches.table import closest, headlines

    slow, quick, other = _row(10.0), _row(6.0), _row(4.0) | {"task": "more"}
    quick["peer"] |= {"name": "rival"}
    assert closest([slow, quick, other]) == [quick, other]
    table = headlines([slow, quick, other, _row(3.0) | {"task": "work, cold"}])
    assert "cold" not in table
    assert "| work | 6.00 MB/s | rival: 2.00 MB/s | 3.00× |" in table
    assert "5.00×" not in table
