"""Pages: sections below each other, with a table of contents, in one file without any request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from internlm_core.report.rendering import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

__all__ = ["Section", "page", "paragraph", "stack"]


@dataclass(frozen=True)
class Section:
    """A titled part of a page.

    Attributes:
        title: Its heading, and its entry in the contents.
        body: Markup, as the functions of this room return it.
        lead: A sentence or two below the heading.
    """

    title: str
    body: Markup
    lead: str = ""

    @property
    def anchor(self) -> str:
        """The heading as a link target."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-") or "section"


def page(title: str, sections: Sequence[Section], *, lead: str = "", footer: str = "") -> str:
    """A whole HTML document.

    Args:
        title: Heading and window title.
        sections: Parts in order.
        lead: A sentence below the title.
        footer: A line at the end, for example the version.

    Returns:
        Text of the file: it loads nothing, runs no script, follows the reader's light or dark
        setting, and is the same for the same arguments.
    """
    style = (Path(__file__).parent / "templates" / "style.css").read_text("utf-8")
    document = render(
        "page.html", title=title, sections=sections, lead=lead, footer=footer, style=style
    )
    return f"{document}\n"


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return render("paragraph.html", text=text)


def stack(blocks: Iterable[Markup], *, columns: bool = False) -> Markup:
    """Blocks below each other, or side by side where the window is wide enough."""
    return render("stack.html", blocks=list(blocks), columns=columns)
