"""What surely is not main text, taken out; and the part of a page where the text is densest."""

from __future__ import annotations

import itertools
import re
from typing import Any, NamedTuple

from internlm_core.data.extraction.tree import INLINE, remove_all

__all__ = ["Densest", "find_densest", "prune"]

# Words, and words that follow each other, by which pages name what stands around an article.
_AROUND = frozenset((
    "ad", "ads", "advert", "adverts", "advertisement", "advertisements", "advertising",
    "breadcrumb", "breadcrumbs", "byline", "caption", "captions", "comment", "comments",
    "consent", "cookie", "cookies", "copyright", "credit", "credits", "disqus", "donate",
    "donation", "editsection", "footer", "gdpr", "login", "menu", "menus", "modal", "nav",
    "navbar", "navigation", "newsletter", "newsletters", "outbrain", "overlay", "pager",
    "pagination", "paywall", "popular", "popup", "promo", "promos", "promoted", "promotion",
    "readmore", "recommend", "recommendation", "recommendations", "recommended", "related",
    "share", "shares", "sharing", "sidebar", "signin", "signup", "skiplink", "social", "sponsor",
    "sponsored", "sponsors", "subscribe", "subscriber", "subscription", "taboola", "tag",
    "taglist", "tags", "teaser", "teasers", "toolbar", "trending", "widget", "widgets",
))  # fmt: skip
_AROUND_PAIRS = frozenset((
    "authorbio", "authorbox", "authorinfo", "jumplink", "morefrom", "morenews", "moreon",
    "morestories", "mostpopular", "mostread", "mostviewed", "printonly", "readmore", "readnext",
    "sidebar", "signup", "skiplink",
))  # fmt: skip
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_TAGS_AROUND = frozenset((
    "nav", "aside", "footer", "figure", "figcaption", "button", "label",
))  # fmt: skip
_NAMED = frozenset(
    ("dl", "div", "form", "h2", "h3", "h4", "h5", "h6", "header", "li", "ol", "section", "ul")
)
_HOLDS_LONE_LINK = frozenset(("div", "h2", "h3", "h4", "h5", "p", "span"))
_BLOCK_OF_TEXT = frozenset(["blockquote", "dd", "h2", "h3", "li", "p", "pre", "td"])
_LONG_TEXT = 25
_SHORTEST = 13
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_WIDE_WEIGHT = 2
_LEVELS = 3


class Densest(NamedTuple):
    """Where the text is.

    Attributes:
        node: The element; None where no text is long enough.
        total: Characters of long text on the page.
    """

    node: Any
    total: int


def find_densest(body: Any) -> Densest:
    """The element with most running text.

    Each text node of 25 characters or more outside links counts for the element around its
    paragraph, half for the one around that, a quarter for the next, as Readability's score does
    (Arc90, 2009). A Chinese or Japanese character counts twice, for it says as much as two letters.

    Args:
        body: The tree's body.
    """
    scores: dict[int, float] = {}
    nodes: dict[int, Any] = {}
    total = 0
    for text in body.traverse(include_text=True):
        if text.tag != "-text":
            continue
        content = text.text_content or ""
        size = len(content)
        # Most text nodes are a few blanks.
        if size < _SHORTEST or (size := len(content.strip())) < _SHORTEST:
            continue
        if not content.isascii() and size < 1000:
            size += (_WIDE_WEIGHT - 1) * len(_WIDE.findall(content))
        if size < _LONG_TEXT:
            continue
        parent, linked = text.parent, False
        while parent is not None and parent.tag in INLINE:
            linked = linked or parent.tag == "a"
            parent = parent.parent
        if linked or parent is None:
            continue
        if parent.tag in _BLOCK_OF_TEXT:
            parent = parent.parent
        total += size
        share = float(size)
        for _ in range(_LEVELS):
            if parent is None or parent.tag == "html":
                break
            key = parent.mem_id
            nodes[key] = parent
            scores[key] = scores.get(key, 0.0) + share
            share /= 2
            parent = parent.parent
    if not scores:
        return Densest(None, 0)
    # The first of equals, as they stand in the page.
    return Densest(nodes[max(scores, key=scores.__getitem__)], total)


def prune(body: Any) -> Any:
    """Take out parts whose tag, class or id say that they stand around the text, and lone links.

    A name can lie: what holds the densest part, or a third of the page's running text, stays.

    Args:
        body: The tree's body; changed.

    Returns:
        The densest part, as `find_densest` names it; None where there is none.
    """
    densest, total = find_densest(body)
    whole = total or len(body.text(deep=True))
    keep: set[int] = set()
    parent = densest
    while parent is not None:
        keep.add(parent.mem_id)
        parent = parent.parent
    verdicts: dict[str, bool] = {" ": False}
    sizes: dict[int, int] = {}
    around: list[Any] = []
    for node in body.traverse(include_text=False):
        tag = node.tag
        if tag == "a":
            parent = node.parent
            if parent.tag in _HOLDS_LONE_LINK and parent.mem_id not in keep:
                size = sizes.get(parent.mem_id)
                if size is None:
                    size = sizes[parent.mem_id] = len(parent.text(deep=True).strip())
                if size < whole / 5 and size <= len(node.text(deep=True).strip()) + 12:
                    around.append(parent)
        elif (
            (tag in _TAGS_AROUND or (tag in _NAMED and _is_around(node, verdicts)))
            and node.mem_id not in keep
            and len(node.text(deep=True)) < whole / 3
        ):
            around.append(node)
    remove_all(around)
    return densest


def _is_around(node: Any, verdicts: dict[str, bool]) -> bool:
    attributes = node.attributes
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    verdict = verdicts.get(names)
    if verdict is None:
        words = [word.lower() for word in _WORD.findall(names)]
        verdict = verdicts[names] = not _AROUND.isdisjoint(words) or any(
            one + other in _AROUND_PAIRS for one, other in itertools.pairwise(words)
        )
    return verdict
