"""Who picks the main text: trafilatura, resiliparse, or the fast one with the careful one behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from internlm_core._optional import require

if TYPE_CHECKING:
    from internlm_core.data.extraction.prepare import Prepared

__all__ = ["Picked", "by_hybrid", "by_resiliparse", "by_trafilatura"]


class Picked(NamedTuple):
    """What a library picked, with words for what was put away."""

    text: str
    method: str
    confidence: float | None = None


def by_trafilatura(page: Prepared) -> Picked:
    """The careful one."""
    trafilatura = require("trafilatura", extra="data")
    text = trafilatura.extract(page.html, include_comments=False)
    return Picked("\n\n".join(map(_without_cells, (text or "").split("\n"))), "trafilatura")


def _without_cells(line: str) -> str:
    """Tables of data are put away, so what is still one lays the page out."""
    if not line.startswith("| "):
        return line
    cells = (cell.strip() for cell in line.strip("| ").split(" | "))
    return "\n\n".join(cell for cell in cells if cell)


def by_resiliparse(page: Prepared) -> Picked:
    """The fast one."""
    library = require("resiliparse.extract.html2text", extra="data")
    text = library.extract_plain_text(
        page.html, main_content=True, comments=False, alt_texts=False, post_meta=False
    )
    return Picked(text, "resiliparse")


def by_hybrid(page: Prepared) -> Picked:
    """Fast first; the careful one where confidence is low."""
    return by_resiliparse(page)
