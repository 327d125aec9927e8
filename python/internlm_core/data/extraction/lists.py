"""Lists as Markdown, with their nesting; menus are left to the library to drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from internlm_core.data.extraction.tree import flat_text, replace_with_block

if TYPE_CHECKING:
    from internlm_core.data.extraction.keep import Keep

__all__ = ["put_away_lists"]

_NESTED = frozenset(("ul", "ol"))
_LAYOUT = frozenset(
    ["article", "section", "h1", "h2", "h3", "h4", "h5", "h6", "table", "form", "nav", "figure"]
)


def put_away_lists(tree: Any, nodes: list[Any], keep: Keep) -> None:
    """Put away lists of text: those where less than half of the text is links.

    Args:
        tree: The parser's tree.
        nodes: Lists that lie in no other.
        keep: Where they go.
    """
    for node in nodes:
        if not _is_text(node):
            continue
        markdown = "\n".join(_lines(node, 0))
        if markdown:
            replace_with_block(tree, node, keep.block(markdown), "div")


def _is_text(node: Any) -> bool:
    size = len(node.text(deep=True).strip())
    if not size:
        return False
    linked = 0
    for inner in node.traverse(include_text=False):
        tag = inner.tag
        if tag == "a":
            linked += len(inner.text(deep=True))
            if 2 * linked > size:
                return False
        elif tag in _LAYOUT:
            return False
    return True


def _lines(node: Any, depth: int) -> list[str]:
    lines: list[str] = []
    number = 0
    start = node.attributes.get("start") or "1"
    first = int(start) if start.isascii() and start.isdigit() else 1
    for item in node.iter(include_text=False):
        if item.tag in _NESTED:
            # A list right in a list, as careless pages have it.
            lines += _lines(item, depth + 1)
            continue
        text = flat_text(item, skip=_NESTED)
        if text:
            mark = f"{first + number}." if node.tag == "ol" else "-"
            lines.append(f"{'    ' * depth if node.tag == 'ol' else '  ' * depth}{mark} {text}")
            number += 1
        for nested in item.css("ul, ol"):
            if _parent_list(nested) == node.mem_id:
                lines += _lines(nested, depth + 1)
    return lines


def _parent_list(node: Any) -> int | None:
    parent = node.parent
    while parent is not None and parent.tag not in _NESTED:
        parent = parent.parent
    return None if parent is None else parent.mem_id
