"""Tables and tiles of figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internlm_core.report.rendering import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

__all__ = ["Tile", "table", "tiles"]


@dataclass(frozen=True)
class Tile:
    """One figure that matters.

    Attributes:
        label: What it is.
        value: The figure as it reads.
        note: A second line, such as a share.
    """

    label: str
    value: str
    note: str = ""


def tiles(items: Sequence[Tile]) -> Markup:
    """Figures beside each other."""
    return render("tiles.html", tiles=items)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Sequence[int] = (),
    caption: str = "",
) -> Markup:
    """A table.

    Args:
        columns: Headings.
        rows: Cells; text is escaped, markup stays.
        numbers: Indices of columns that are set to the right.
        caption: A line above it.
    """
    return render(
        "table.html", columns=columns, rows=rows, numbers=frozenset(numbers), caption=caption
    )
