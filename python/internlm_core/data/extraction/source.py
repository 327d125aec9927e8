"""Depth of a page, bounded before anything walks its tree."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["limit_depth"]

_ANY_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)(?:\"[^\"]*\"|'[^']*'|[^'\"<>])*>")
_GENERIC = frozenset(
    [
        "article",
        "aside",
        "b",
        "big",
        "blockquote",
        "center",
        "dd",
        "div",
        "dl",
        "dt",
        "em",
        "fieldset",
        "font",
        "form",
        "i",
        "li",
        "main",
        "nobr",
        "ol",
        "section",
        "small",
        "span",
        "strong",
        "table",
        "tbody",
        "td",
        "tr",
        "u",
        "ul",
    ]
)
_MAX_DEPTH = 150
_SUSPECT = 400


def limit_depth(html: str) -> str:
    """Drop elements nested more than 150 deep, keeping what they hold; linear time.

    Parsers build such a tree without trouble, what walks it afterwards may not.
    """
    if html.count("<") < _SUSPECT:
        return html
    data = np.frombuffer(html.encode("utf-8", "replace"), np.uint8)
    after = data[np.flatnonzero(data[:-1] == ord("<")) + 1]
    letters = ((after | 0x20) >= ord("a")) & ((after | 0x20) <= ord("z"))
    steps = letters.astype(np.int32) - (after == ord("/"))
    # A bound from above: elements that have no end tag are counted as open.
    depth = np.cumsum(steps)
    if not depth.size or int((depth - np.minimum.accumulate(depth)).max()) < _SUSPECT:
        return html
    return _thin(html)


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
