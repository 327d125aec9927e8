"""After a library has picked: everything back in its place, each paragraph once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internlm_core.data.extraction.prepare import Prepared

__all__ = ["finish"]

_FENCE = re.compile("`{3,}")


def finish(text: str, page: Prepared) -> str:
    """The text as it is handed out."""
    # A soft hyphen tells a browser where it may break a word.
    text = page.keep.restore(text).replace("\u00ad", "").replace("\0", "")
    return _one_blank_line(text).strip("\n") if text.strip() else ""


def _one_blank_line(text: str) -> str:
    """One blank line between parts, and no blanks around a line; code stays as it is."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        if fence:
            lines.append(line)
            fence = "" if line == fence else fence
            continue
        trimmed = line.rstrip()
        if opening := _FENCE.match(line):
            fence = opening[0]
        if trimmed or (lines and lines[-1]):
            lines.append(trimmed)
    return "\n".join(lines)
