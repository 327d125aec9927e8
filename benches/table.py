"""`python -m benches.table`: write the table of results into README.md; `--check` only compares.

The README holds no figure of its own: what stands between the two marks is made from
benches/results/*.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core._files import atomic_path, read_json

from benches.show import HEADINGS, cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["markdown", "read_rows", "replaced"]

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- benches: made by `python -m benches.table` from benches/results/ -->"
END = "<!-- benches: end -->"
_ROOMS = (
    "extraction",
    "filter",
    "language",
    "dedup",
    "tokenizer",
    "training_bpe",
    "train",
    "gpu",
)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, room by room."""
    files = [folder / f"{room}.json" for room in _ROOMS]
    return [row for file in files if file.is_file() for row in read_json(file)]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, and below it where and with what it was measured."""
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "| --- | ---: | --- | ---: | --- | --- |",
        *("| " + " | ".join(cells(row, memory=False)) + " |" for row in rows),
        "",
    ]
    versions = sorted(
        {
            f"{package} {number}"
            for row in rows
            for side in (row["ours"], row["peer"])
            for package, number in side["versions"].items()
        }
    )
    places = {
        f"Measured {row['date'][:10]} at commit {row['commit'][:12]} on {row['cpu']}, "
        f"{row['threads']} of {row['cores']} cores, Python {row['python']}, "
        f"{'processor' if row['clock'] == 'cpu' else 'wall'} time."
        for row in rows
    }
    return "\n".join([*lines, *sorted(places), f"Versions: {', '.join(versions)}."]) + "\n"


def replaced(readme: str, table: str) -> str:
    """The README with the table between its marks.

    Raises:
        ValueError: The marks are missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.table", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it differs")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    old = path.read_text("utf-8")
    new = replaced(old, markdown(read_rows(ROOT / "benches" / "results")))
    if check and old != new:
        print("README.md differs from benches/results/; run: python -m benches.table")
        return 1
    if not check:
        with atomic_path(path) as partial:
            partial.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
