"""Small things on the parser's tree (lexbor's, through selectolax)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BLOCKS",
    "EMPHASIS",
    "INLINE",
    "flat_text",
    "outermost",
    "remove_all",
    "replace_with_block",
]

BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "center", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "nav",
    "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr",
    "ul",
))  # fmt: skip

EMPHASIS = ["b", "strong", "em", "i", "u", "font", "nobr", "small", "mark", "big", "wbr"]
INLINE = frozenset((
    "a", "abbr", "b", "bdi", "cite", "code", "em", "font", "i", "ins", "mark", "nobr", "q", "s",
    "small", "span", "strong", "sub", "sup", "u", "var", "wbr",
))  # fmt: skip


def outermost(nodes: Iterable[Any]) -> list[Any]:
    """Those that lie in none of the others. A node must not be touched once its parent is gone."""
    # By identity: an element named twice would be taken out twice.
    ids = {node.mem_id: node for node in nodes}
    found = []
    for node in ids.values():
        parent = node.parent
        while parent is not None and parent.mem_id not in ids:
            parent = parent.parent
        if parent is None:
            found.append(node)
    return found


def remove_all(nodes: Iterable[Any]) -> None:
    """Take elements out of the tree, with what they hold."""
    for node in outermost(nodes):
        node.decompose()


def replace_with_block(tree: Any, node: Any, words: str, tag: str = "p") -> None:
    """Put words in a block of their own where an element stands.

    Class and id stay: they tell a library what part of the page this is.
    """
    block = tree.create_node(tag)
    for name in ("class", "id"):
        value = node.attributes.get(name)
        if value:
            block.attrs[name] = value
    paragraph = block
    if tag != "p":
        paragraph = tree.create_node("p")
        block.insert_child(paragraph)
        paragraph = block.child
    paragraph.insert_child(words)
    node.replace_with(block)


def flat_text(node: Any, skip: frozenset[str] = frozenset()) -> str:
    """Text of an element on one line, blocks parted by blanks.

    Args:
        node: The element.
        skip: Tags of elements that are left out.
    """
    pieces: list[str] = []

    def gather(parent: Any) -> None:
        for child in parent.iter(include_text=True):
            tag = child.tag
            if tag == "-text":
                pieces.append(child.text_content or "")
            elif tag in BLOCKS:
                if tag not in skip:
                    pieces.append(" ")
                    gather(child)
                    pieces.append(" ")
            elif tag not in skip:
                gather(child)

    gather(node)
    return " ".join("".join(pieces).split())
