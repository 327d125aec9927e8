"""`python -m benches.table`: write the tables of results; `--check` only compares.

docs/results.md has every row, README.md each task once, beside the peer that comes closest. Neither
holds a figure of its own: what stands between the two marks is made from benches/results/*.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internlm_core._files import atomic_path, read_json

from benches import ROOMS
from benches.show import HEADINGS, cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["closest", "headlines", "markdown", "read_rows", "replaced"]

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- benches: made by `python -m benches.table` from benches/results/ -->"
END = "<!-- benches: end -->"


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, room by room."""
    files = [folder / f"{room}.json" for room in ROOMS]
    return [row for file in files if file.is_file() for row in read_json(file)]


def closest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each task the row whose peer comes closest to ours, or is ahead of it."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = row["room"], row["task"]
        if key not in best or row["ratio"] < best[key]["ratio"]:
            best[key] = row
    return list(best.values())


def headlines(rows: Sequence[Mapping[str, Any]]) -> str:
    """The README's table: without the tokenizers' rows of cold caches and of texts seen before."""
    some = [row for row in closest(rows) if not row["task"].endswith((", cold", ", repeated"))]
    return "\n".join([*_table(some), "", *_places(rows)]) + "\n"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """All rows, a table for each room, and below where and with what it was measured."""
    lines = []
    for room in dict.fromkeys(row["room"] for row in rows):
        title = f"## {room.replace('_', ' ').capitalize()}"
        lines += [title, "", *_table([row for row in rows if row["room"] == room]), ""]
    versions = sorted(
        {
            f"{package} {number}"
            for row in rows
            for side in (row["ours"], row["peer"])
            for package, number in side["versions"].items()
        }
    )
    return "\n".join([*lines, *_places(rows), f"Versions: {', '.join(versions)}."]) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "| " + " | ".join(HEADINGS) + " |",
        "| --- | ---: | --- | ---: | --- | --- |",
        *("| " + " | ".join(cells(row, memory=False)) + " |" for row in rows),
    ]


def _places(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """When, where and by which clock."""
    return sorted(
        {
            f"Measured {row['date'][:10]} at commit {row['commit'][:12]} on {row['cpu']}, "
            f"{row['threads']} of {row['cores']} cores, Python {row['python']}, "
            f"{'processor' if row['clock'] == 'cpu' else 'wall'} time."
            for row in rows
        }
    )


def replaced(page: str, table: str) -> str:
    """The page with the table between its marks.

    Raises:
        ValueError: The marks are missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.table", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it differs")
    check = parser.parse_args().check
    rows = read_rows(ROOT / "benches" / "results")
    differ = []
    for name, table in (("README.md", headlines(rows)), ("docs/results.md", markdown(rows))):
        path = ROOT / name
        old = path.read_text("utf-8")
        new = replaced(old, table)
        if old == new:
            continue
        differ.append(name)
        if not check:
            with atomic_path(path) as partial:
                partial.write_text(new, "utf-8")
    if check and differ:
        print(f"{', '.join(differ)}: not what benches/results/ says; run: python -m benches.table")
    return 1 if check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
