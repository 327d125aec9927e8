"""The main text of HTML pages, as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.data.extraction.page import METHODS, Extracted, NoText, extract, extract_html
    from internlm_core.data.extraction.pool import PageResult, extract_pages

__all__ = [
    "METHODS",
    "Extracted",
    "NoText",
    "PageResult",
    "extract",
    "extract_html",
    "extract_pages",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "METHODS": "page",
        "Extracted": "page",
        "NoText": "page",
        "PageResult": "pool",
        "extract": "page",
        "extract_html": "page",
        "extract_pages": "pool",
    },
)
