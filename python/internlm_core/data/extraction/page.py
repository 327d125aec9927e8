"""One page: from its bytes to its main text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from internlm_core.data.charset import decode
from internlm_core.data.extraction.clean import finish
from internlm_core.data.extraction.methods import by_hybrid, by_resiliparse, by_trafilatura
from internlm_core.data.extraction.prepare import prepare
from internlm_core.errors import DataError

__all__ = ["METHODS", "Extracted", "Method", "NoText", "extract", "extract_html"]

Method = Literal["hybrid", "trafilatura", "resiliparse"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class Extracted:
    """The main text of a page.

    Attributes:
        text: Markdown: headings, lists, tables, fenced code, formulas between dollars; paragraphs
            are parted by a blank line.
        method: The library that picked the text: `trafilatura` or `resiliparse`.
        confidence: For `hybrid`, how sure the fast pick was (0 to 1); None for other methods.
        meta: Of `title`, `author`, `date` (YYYY-MM-DD) those that the page names.
        encoding: How the bytes were decoded; None for a page given as text.
        replaced: How many characters U+FFFD stand for bytes that were no text.
    """

    text: str
    method: str
    confidence: float | None = None
    meta: dict[str, str] = field(default_factory=dict)
    encoding: str | None = None
    replaced: int = 0


@dataclass(frozen=True)
class NoText:
    """Why a page gives no text.

    Attributes:
        reason: `empty_page` (no visible text at all) or `no_main_text` (only menus, footers, …).
    """

    reason: str


def extract_html(
    html: bytes | str,
    *,
    url: str | None = None,
    charset: str | None = None,
    method: str = "hybrid",
) -> Extracted | None:
    """The main text of a page as Markdown, or None where it has none.

    The result depends on the arguments alone, not on what was extracted before.

    Args:
        html: The page; bytes are decoded as browsers do it.
        url: Address of the page, where known.
        charset: `charset` of the HTTP header, for bytes.
        method: `trafilatura` (careful), `resiliparse` (fast), or `hybrid`: fast, and the careful
            one where the fast pick looks doubtful.

    Raises:
        DataError: Unknown method.
        MissingExtraError: The extra `data` is not installed.
    """
    found = extract(html, url=url, charset=charset, method=method)
    return found if isinstance(found, Extracted) else None


def extract(
    html: bytes | str,
    *,
    url: str | None = None,
    charset: str | None = None,
    method: str = "hybrid",
) -> Extracted | NoText:
    """As `extract_html`, but saying why there is no text."""
    del url  # No method needs it; it is in the signature because readers know it.
    if method not in METHODS:
        raise DataError(f"extraction method {method!r}: expected one of {', '.join(METHODS)}")
    encoding, replaced = None, 0
    if isinstance(html, bytes):
        text, encoding, replaced, _ = decode(html, charset)
        # Most pages are UTF-8 as they come.
        plain = encoding == "utf-8" and not replaced
        source = html.removeprefix(b"\xef\xbb\xbf") if plain else text.encode()
    else:
        source = html.encode("utf-8", "replace")
    page = prepare(source)
    if page is None:
        return NoText("empty_page")
    pick = {"trafilatura": by_trafilatura, "resiliparse": by_resiliparse, "hybrid": by_hybrid}
    picked = pick[method](page)
    text = finish(picked.text, page)
    if not text:
        return NoText("no_main_text")
    return Extracted(text, picked.method, picked.confidence, page.meta, encoding, replaced)
