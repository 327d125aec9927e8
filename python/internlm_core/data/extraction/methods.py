"""Who picks the main text: trafilatura, resiliparse, or the fast one with the careful one behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from internlm_core._optional import require
from internlm_core.data.extraction.prune import prune
from internlm_core.data.extraction.tree import EMPHASIS, flat_text, replace_with_block

if TYPE_CHECKING:
    from internlm_core.data.extraction.prepare import Prepared

__all__ = ["Picked", "by_hybrid", "by_resiliparse", "by_trafilatura"]


_LITTLE_TEXT = 600
_SURE = 0.85
"""Agreement from which the fast pick is taken; one gold page in nine lies below it. Of 0.85, 0.9
and 0.95 it did best on the half of the gold pages that is for tuning."""


class Picked(NamedTuple):
    """What a library picked, with words for what was put away."""

    text: str
    method: str
    confidence: float | None = None


def by_trafilatura(page: Prepared) -> Picked:
    """The careful one."""
    return Picked(_trafilatura(page), "trafilatura")


def by_resiliparse(page: Prepared) -> Picked:
    """The fast one."""
    return Picked(_resiliparse(page.html), "resiliparse")


def by_hybrid(page: Prepared) -> Picked:
    """Fast first; the careful one where confidence is low.

    The fast one picks twice, from the pruned page and from its densest part. Two ways to the same
    text are seldom both wrong: confidence is how far the two agree.
    """
    body = page.tree.body
    densest = prune(body)
    html = page.html
    if densest is not None:
        from_page = _resiliparse(html)
        from_part = _resiliparse(str(densest.html or ""))
        confidence = _agreement(from_page, from_part)
        if confidence >= _SURE:
            return Picked(from_part, "resiliparse", confidence)
    else:
        from_page, confidence = "", 0.0
    text = _trafilatura(page)
    if text:
        return Picked(text, "trafilatura", confidence)
    return Picked(from_page or _resiliparse(html), "resiliparse", confidence)


def _agreement(one: str, other: str) -> float:
    """Sorensen and Dice's coefficient of two sets of lines, each line as heavy as it is long."""
    ours, theirs = ({line.strip() for line in text.split("\n")} for text in (one, other))
    total = sum(map(len, ours)) + sum(map(len, theirs))
    return 2 * sum(map(len, ours & theirs)) / total if total else 0.0


def _resiliparse(html: str) -> str:
    library = require("resiliparse.extract.html2text", extra="data")
    # Comments, captions of pictures and "posted by" lines are no main text.
    return str(
        library.extract_plain_text(
            html, main_content=True, comments=False, alt_texts=False, post_meta=False
        )
    )


def _trafilatura(page: Prepared) -> str:
    library = require("trafilatura", extra="data")
    # Where a page has little text, it parts a sentence at every such element.
    page.tree.unwrap_tags(EMPHASIS)
    if len(page.tree.body.text(deep=True)) < _LITTLE_TEXT:
        _headings_to_paragraphs(page)
    text = library.extract(page.html, fast=True, include_comments=False) or ""
    return "\n\n".join(map(_without_cells, text.split("\n")))


def _headings_to_paragraphs(page: Prepared) -> None:
    """Where a page has little text, trafilatura takes its paragraphs and nothing else."""
    for node in page.tree.body.css("h1, h2, h3, h4, h5, h6"):
        if words := flat_text(node):
            replace_with_block(page.tree, node, words)


def _without_cells(line: str) -> str:
    """Tables of data are put away, so what is still one lays the page out."""
    if not line.startswith("| "):
        return line
    cells = (cell.strip() for cell in line.strip("| ").split(" | "))
    return "\n\n".join(cell for cell in cells if cell)
