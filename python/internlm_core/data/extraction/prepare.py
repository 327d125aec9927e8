"""A page's tree made ready for a library: hidden parts out, what it would damage put away."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from internlm_core._optional import require
from internlm_core.data.extraction.code import put_away_code, put_away_inline_code
from internlm_core.data.extraction.keep import Keep
from internlm_core.data.extraction.lists import put_away_lists
from internlm_core.data.extraction.mathml import formula_source
from internlm_core.data.extraction.source import limit_depth
from internlm_core.data.extraction.tables import put_away_tables
from internlm_core.data.extraction.tree import EMPHASIS, outermost, remove_all
from internlm_core.data.extraction.words import (
    HAS_WIDE,
    holds_tex,
    join_chinese_lines,
    put_away_tex,
    tex,
)

__all__ = ["Prepared", "prepare"]

_NO_TEXT = [
    "style", "noscript", "template", "svg", "iframe", "object", "canvas", "audio", "video", "select",
    "textarea",
]  # fmt: skip
_MAYBE_HIDDEN = '[hidden], [aria-hidden="true" i], [style*="none" i], [style*="hidden" i]'
_HIDING_STYLE = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))\b", re.IGNORECASE
)
_RENDERED_MATH = ".MathJax, .MathJax_Preview, .MathJax_Display, .MathJax_SVG, .MathJax_CHTML"
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_TEX_CLASSES = frozenset(("tex", "latex"))


@dataclass
class Prepared:
    """A page ready for extraction.

    Attributes:
        tree: The parser's tree.
        keep: What was put away.
        meta: What the page's head says about it.
    """

    tree: Any
    keep: Keep
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def html(self) -> str:
        """The tree as HTML."""
        return str(self.tree.html or "")


def prepare(html: bytes) -> Prepared | None:
    """Parse a page and make it ready.

    Args:
        html: The page in UTF-8.

    Returns:
        None where it has no visible text.
    """
    parser = require("selectolax.lexbor", extra="data").LexborHTMLParser
    keep = Keep(html)
    tree = parser(limit_depth(html))
    body = tree.body
    if body is None:
        return None
    from internlm_core.data.extraction.metadata import read_metadata

    meta = read_metadata(tree, html)
    _put_away_formulas(body, html, keep)
    tree.strip_tags(["script", *_NO_TEXT], recursive=True)
    _remove_hidden(body)
    text = body.text(deep=True)
    if not text.strip():
        return None
    if b"<pre" in html or b"<PRE" in html:
        put_away_code(tree, body, keep)
    if holds_tex(text):
        put_away_tex(_texts(body), keep)
    if not text.isascii() and HAS_WIDE.search(text):
        # Resiliparse drops an inline element that holds one such character, as if it were an icon.
        tree.unwrap_tags([*EMPHASIS, "span"])
        for link in body.css("a"):
            if len(link.text(deep=True).strip()) == 1:
                link.unwrap()
        body.merge_text_nodes()
        join_chinese_lines(_texts(body))
    _mark(tree, body, keep)
    return Prepared(tree, keep, meta)


def _mark(tree: Any, body: Any, keep: Keep) -> None:
    """Put away code spans, tables and lists, mark line breaks and headings; found in one walk."""
    breaks, headings, codes, tables, lists, images = [], [], [], [], [], []
    for node in body.traverse(include_text=False):
        tag = node.tag
        if tag == "br":
            breaks.append(node)
        elif tag in ("ul", "ol"):
            lists.append(node)
        elif tag in _HEADINGS:
            headings.append(node)
        elif tag == "img":
            images.append(node)
        elif tag == "code":
            codes.append(node)
        elif tag == "table":
            tables.append(node)
    for node in breaks:
        node.replace_with(f" {keep.line_break} ")
    for node in images:
        _put_away_image(node, keep)
    put_away_inline_code(outermost(codes), keep)
    for node in headings:
        first = node.child
        # Right before the text: libraries part a link from what is beside it in a heading.
        while first is not None and first.tag in ("a", "b", "em", "i", "span", "strong"):
            first = first.child
        if first is not None:
            first.insert_before(keep.heading(int(node.tag[1])))
    if tables:
        put_away_tables(tree, tables, keep)
        # Those in the tables are gone.
        lists = body.css("ul, ol")
    put_away_lists(tree, outermost(lists), keep)


def _texts(body: Any) -> list[Any]:
    """Text nodes outside code spans, in the page's order."""
    return [
        node
        for node in body.traverse(include_text=True)
        if node.tag == "-text" and node.parent.tag != "code"
    ]


def _remove_hidden(body: Any) -> None:
    """Remove what a browser does not show, by attributes; style sheets are not read."""
    nodes = [node for node in body.css(_MAYBE_HIDDEN) if _hides(node.attributes)]
    if not nodes:
        return
    whole = len(body.text(deep=True))
    # Most of a page is hidden only until its script shows it.
    remove_all(
        node
        for node in nodes
        if node.tag != "body"
        and (node.tag in ("p", "span") or 2 * len(node.text(deep=True)) < whole)
    )


def _hides(attributes: dict[str, str | None]) -> bool:
    if "hidden" in attributes and attributes["hidden"] != "until-found":
        return True
    if (attributes.get("aria-hidden") or "").lower() == "true":
        return True
    return bool(_HIDING_STYLE.search(attributes.get("style") or ""))


def _put_away_formulas(body: Any, html: bytes, keep: Keep) -> None:
    # One search: each is a good part of a page's time.
    if b"math" not in html:
        return
    if b"math/tex" in html:
        remove_all(body.css(_RENDERED_MATH))
        for node in body.css('script[type^="math/tex"]'):
            display = "display" in (node.attributes.get("type") or "")
            node.replace_with(tex(node.text(deep=True), keep, display=display))
    if b"<math" in html:
        for node in outermost(body.css("math")):
            formula = formula_source(node)
            whole, display = _formula_element(node)
            if formula:
                whole.replace_with(tex(formula, keep, display=display))


def _put_away_image(node: Any, keep: Keep) -> None:
    """Formulas that older pages show as pictures have their TeX as alternative text."""
    attributes = node.attributes
    if not _TEX_CLASSES.isdisjoint((attributes.get("class") or "").split()):
        formula = (attributes.get("alt") or "").strip().strip("$")
        if formula:
            node.replace_with(tex(formula, keep, display=False))


def _formula_element(node: Any) -> tuple[Any, bool]:
    """The element that holds all forms of the same formula, and whether it is a display formula."""
    display = (node.attributes.get("display") or "") == "block"
    whole, parent = node, node.parent
    for _ in range(4):
        if parent is None or parent.tag not in (
            "span",
            "mjx-container",
            "mjx-assistive-mml",
            "div",
        ):
            break
        name = parent.attributes.get("class") or ""
        known = parent.tag.startswith("mjx") or re.search(r"katex|mwe-math|MathJax|mjx", name)
        if not known and not _hides(parent.attributes):
            break
        display = display or "display" in name or (parent.attributes.get("display") or "") == "true"
        whole, parent = parent, parent.parent
    return whole, display
