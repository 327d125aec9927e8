"""After a library has picked: everything back in its place, each paragraph once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internlm_core.data.extraction.prepare import Prepared

__all__ = ["finish"]

_TRAILING = re.compile(r"[ \t\u00a0]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def finish(text: str, page: Prepared) -> str:
    """The text as it is handed out."""
    # A soft hyphen tells a browser where it may break a word.
    text = page.keep.restore(text).replace("\u00ad", "")
    return _BLANK_LINES.sub("\n\n", text).strip("\n")
