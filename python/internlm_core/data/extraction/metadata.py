"""Title, author and date, where a page's head or its structured data name them."""

from __future__ import annotations

import html as entities
import re
from typing import Any

__all__ = ["read_metadata"]

_NAMES = {
    "og:title": "title",
    "twitter:title": "title",
    "dc.title": "title",
    "author": "author",
    "article:author": "author",
    "dc.creator": "author",
    "article:published_time": "date",
    "date": "date",
    "dc.date": "date",
    "pubdate": "date",
    "publishdate": "date",
    "datepublished": "date",
}
_STRUCTURED_DATE = re.compile(rb'"datePublished"\s*:\s*"([^"<>]{4,40})"')
_DAY = re.compile(r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")
_LONGEST = 500


def read_metadata(tree: Any, html: bytes) -> dict[str, str]:
    """What the page says about itself.

    Args:
        tree: The parser's tree, whole.
        html: Its source in UTF-8.

    Returns:
        Of `title`, `author`, `date` (YYYY-MM-DD) those that are found.
    """
    found: dict[str, str] = {}
    head = tree.head
    for node in head.css("meta") if head is not None else ():
        attributes = node.attributes
        name = attributes.get("property") or attributes.get("name") or attributes.get("itemprop")
        key = _NAMES.get((name or "").lower())
        value = " ".join((attributes.get("content") or "").split())
        if key and value and key not in found and len(value) <= _LONGEST:
            if key == "author" and value.startswith(("http:", "https:")):
                continue
            found[key] = value
    if "title" not in found and head is not None:
        title = head.css_first("title")
        if title is not None and (text := " ".join(title.text(deep=True).split())):
            found["title"] = text[:_LONGEST]
    day = _DAY.search(found.pop("date", ""))
    if day is None and (match := _STRUCTURED_DATE.search(html)):
        day = _DAY.search(entities.unescape(match[1].decode("utf-8", "replace")))
    if day is not None:
        found["date"] = day[0]
    return found
