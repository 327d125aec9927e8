"""What surely is not main text, taken out; and the part of a page where the text is densest."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from internlm_core.data.extraction.tree import INLINE, outermost

__all__ = ["Densest", "find_densest", "prune"]

# Words in class and id by which pages name what stands around an article.
_AROUND = re.compile(
    r"(?:^|[\s_-])(?:ads?|advert\w*|sponsor\w*|promo\w*|related\w*|recommend\w*|outbrain|taboola"
    r"|newsletter\w*|subscri\w*|sign-?up|cookie\w*|consent|gdpr|share|sharing|social\w*|comments?"
    r"|disqus|side-?bar|breadcrumbs?|menu|nav|navbar|navigation|footer|copyright|byline"
    r"|author-?(?:bio|info|box)|caption\w*|credits?|most-?(?:read|popular|viewed)|trending|popular"
    r"|more-?(?:stories|news|from|on)|read-?(?:more|next)|tags?|tag-?list|toolbar|widgets?|modal"
    r"|popup|overlay|pagination|pager|signin|login|donat\w*|teaser\w*|print-only|paywall"
    r"|(?:jump|skip)-?link|(?:mw-)?editsection)(?:$|[\s_-])",
    re.IGNORECASE,
)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TAGS_AROUND = frozenset(("nav", "aside", "footer", "figure", "figcaption", "button", "label"))
_NEVER = frozenset(["a", "article", "body", "h1", "html", "main", "p", "span", "table", "tbody", "td", "tr"])
_LONE_LINKS = "p > a, div > a, h2 > a, h3 > a, h4 > a, h5 > a, span > a"
_BLOCK_OF_TEXT = frozenset(["blockquote", "dd", "h2", "h3", "li", "p", "pre", "td"])
_LONG_TEXT = 25
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
        content = (text.text_content or "").strip()
        size = len(content)
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


def prune(body: Any) -> None:
    """Take out parts whose tag, class or id say that they stand around the text, and lone links.

    A name can lie: what holds the densest part, or a third of the page's running text, stays.

    Args:
        body: The tree's body; changed.
    """
    densest, total = find_densest(body)
    whole = total or len(body.text(deep=True))
    keep: set[int] = set()
    while densest is not None:
        keep.add(densest.mem_id)
        densest = densest.parent
    named = [node for node in body.traverse(include_text=False) if _is_around(node)]
    _remove(named, keep, whole / 3)
    links = []
    for link in body.css(_LONE_LINKS):
        parent = link.parent
        if len(parent.text(deep=True).strip()) <= len(link.text(deep=True).strip()) + 12:
            links.append(parent)
    _remove(links, keep, whole / 5)


def _is_around(node: Any) -> bool:
    tag = node.tag
    if tag in _TAGS_AROUND:
        # A figure may hold code or a table, which are words of their own by now.
        return True
    if tag in _NEVER:
        return False
    attributes = node.attributes
    if "class" not in attributes and "id" not in attributes:
        return False
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    return _AROUND.search(_HUMP.sub("-", names)) is not None


def _remove(nodes: list[Any], keep: set[int], most: float) -> None:
    small = [n for n in nodes if n.mem_id not in keep and len(n.text(deep=True)) < most]
    for node in outermost(small):
        node.decompose()
