"""Tables of data as Markdown; tables that only lay a page out are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from internlm_core.data.extraction.tree import flat_text, replace_with_block

if TYPE_CHECKING:
    from internlm_core.data.extraction.keep import Keep

__all__ = ["put_away_tables"]

_MAX_SPAN = 50
_LONG_CELL = 800
_LAYOUT = "article, section, h1, h2, form, nav"


def put_away_tables(tree: Any, nodes: list[Any], keep: Keep) -> None:
    """Put away tables of data.

    A table is taken for data when two rows or more have two cells or more, no cell holds another
    table, a section or a very long text, and less than half of its text is links.

    Args:
        tree: The parser's tree.
        nodes: `<table>` elements.
        keep: Where they go.
    """
    for node in nodes:
        # An element is among those its own selector finds.
        if node.css_first(_LAYOUT) is not None or len(node.css("table")) > 1:
            continue
        rows = [_cells(row) for row in node.css("tr")]
        rows = [row for row in rows if row]
        if sum(len(row) > 1 for row in rows) < 2:
            continue
        text = node.text(deep=True)
        linked = sum(len(link.text(deep=True)) for link in node.css("a"))
        if not text.strip() or 2 * linked > len(text):
            continue
        grid = _grid(rows, keep)
        if any(len(cell) > _LONG_CELL for row in grid for cell in row):
            continue
        caption = node.css_first("caption")
        markdown = _markdown(grid)
        if caption is not None:
            markdown = f"{keep.expand(flat_text(caption))}\n\n{markdown}".strip()
        replace_with_block(tree, node, keep.block(markdown), "div")


def _cells(row: Any) -> list[Any]:
    return [cell for cell in row.iter(include_text=False) if cell.tag in ("td", "th")]


def _span(cell: Any, name: str) -> int:
    value = cell.attributes.get(name) or "1"
    return min(max(int(value), 1), _MAX_SPAN) if value.isascii() and value.isdigit() else 1


def _grid(rows: list[list[Any]], keep: Keep) -> list[list[str]]:
    """Cells at their places: one that spans several stands in the first, the others are empty."""
    grid: list[list[str]] = []
    below: dict[int, int] = {}
    for row in rows:
        line: list[str] = []

        def skip_spanned(line: list[str] = line) -> None:
            while below.get(len(line), 0) > 0:
                below[len(line)] -= 1
                line.append("")

        for cell in row:
            skip_spanned()
            text = keep.expand(flat_text(cell)).replace("|", r"\|")
            down = _span(cell, "rowspan") - 1
            for number in range(_span(cell, "colspan")):
                if down:
                    below[len(line)] = down
                line.append("" if number else text)
        skip_spanned()
        grid.append(line)
    width = max(len(line) for line in grid)
    return [line + [""] * (width - len(line)) for line in grid]


def _markdown(grid: list[list[str]]) -> str:
    """A pipe table (GitHub Flavored Markdown 0.29, 4.10); its first row is its head."""
    lines = ["| " + " | ".join(line) + " |" for line in grid]
    lines.insert(1, "|" + " --- |" * len(grid[0]))
    return "\n".join(lines)
