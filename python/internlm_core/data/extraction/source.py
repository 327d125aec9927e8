"""Depth of a page, bounded before anything walks its tree."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["limit_depth"]

_ANY_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)[^<>]*>")
_GENERIC = frozenset((
    "article", "aside", "b", "big", "blockquote", "center", "dd", "div", "dl", "dt", "em",
    "fieldset", "font", "form", "i", "li", "main", "nobr", "ol", "section", "small", "span",
    "strong", "table", "tbody", "td", "tr", "u", "ul",
))  # fmt: skip
_IS_VOID = np.zeros(1 << 16, bool)
_IS_VOID[[pair[0] << 8 | pair[1] for pair in (b"br", b"hr", b"im", b"in", b"me", b"pa")]] = True
_MAX_DEPTH = 150
_SUSPECT = 400


def limit_depth(page: bytes) -> bytes:
    """Drop elements nested more than 150 deep, keeping what they hold; linear time.

    Parsers build such a tree without trouble, what walks it afterwards may not.

    Args:
        page: HTML in UTF-8.
    """
    data = np.frombuffer(page, np.uint8)
    signs = np.flatnonzero(data[:-1] == ord("<"))
    if len(signs) < _SUSPECT:
        return page
    signs = signs[signs < len(data) - 2]
    first = data[signs + 1] | 0x20
    opened = (first >= ord("a")) & (first <= ord("z"))
    # Elements without an end tag, told by two letters, are not counted; others may be missing
    # theirs, so this is a bound from above.
    opened &= ~_IS_VOID[first.astype(np.uint16) << 8 | data[signs + 2] | 0x20]
    # Scripts write an end tag as <\\/div>.
    closed = (first == ord("/")) | (first == (ord("\\") | 0x20))
    depth = np.cumsum(opened.astype(np.int32) - closed)
    if int((depth - np.minimum.accumulate(depth)).max()) < _SUSPECT:
        return page
    return _thin(page.decode()).encode()


def _thin(html: str) -> str:
    shown_of: dict[str, list[bool]] = {}
    depth = 0

    def thin(match: re.Match[str]) -> str:
        nonlocal depth
        name = match[2].lower()
        if name not in _GENERIC:
            return match[0]
        shown = shown_of.setdefault(name, [])
        if not match[1]:
            shown.append(depth < _MAX_DEPTH)
            depth += 1
            return match[0] if shown[-1] else " "
        if not shown:
            return match[0]
        depth -= 1
        return match[0] if shown.pop() else " "

    return _ANY_TAG.sub(thin, html)
