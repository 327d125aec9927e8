"""Text of a corpus on a page: samples, folded blocks, and two versions side by side."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from internlm_core.report.numbers import count_text
from internlm_core.report.rendering import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markupsafe import Markup

__all__ = ["fold", "sample", "side_by_side"]

# Lines, and sentences of long lines, in any script's punctuation.
_PIECE = re.compile(r"[^\n.!?。！？]*(?:[.!?。！？]+[\"'”’）)]*[ \t]*|\n|$)\n?")
_WORD = re.compile(
    r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]|\w+|\s+|[^\w\s]"
)
_MOST_PIECES = 4_000
_SHOWN_AROUND = 1
# Controls would vanish, and directional overrides could reorder the page around them.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def _visible(text: str) -> str:
    """Characters that can't be seen, as `␀` or `⟨U+202E⟩`."""
    return _HIDDEN.sub(
        lambda m: chr(0x2400 + ord(m[0])) if m[0] < " " else f"⟨U+{ord(m[0]):04X}⟩",
        text.replace("\r\n", "\n"),
    )


def sample(text: str, *, caption: str = "", limit: int = 700) -> Markup:
    """A block of text as it is, cut after `limit` characters with a note of what is missing."""
    rest = len(text) - limit
    cut = f"… {count_text(rest)} more characters" if rest > 0 else ""
    return render("sample.html", text=_visible(text[:limit]), cut=cut, caption=caption)


def fold(summary: str, body: Markup, *, opened: bool = False) -> Markup:
    """A block that opens on a click."""
    return render("fold.html", summary=summary, body=body, opened=opened)


def side_by_side(
    left: str,
    right: str,
    *,
    captions: tuple[str, str] = ("", ""),
    limit: int = 40,
) -> Markup:
    """Two texts beside each other with their differences marked.

    Args:
        left: The first text.
        right: The second text.
        captions: Headings of the two.
        limit: Rows shown; long stretches without a difference are folded into one row.
    """
    rows = list(_rows(_pieces(left), _pieces(right)))
    hidden = len(rows) - limit
    more = f"… {count_text(hidden)} more rows" if hidden > 0 else ""
    return render(
        "side_by_side.html",
        rows=rows[:limit],
        captions=captions,
        more=more,
        equal=left == right,
    )


def _pieces(text: str) -> list[str]:
    return [piece for piece in _PIECE.findall(_visible(text)) if piece][:_MOST_PIECES]


def _rows(left: list[str], right: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of (marked, text) runs for each side; `skipped` counts pieces that are alike."""
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for kind, l0, l1, r0, r1 in matcher.get_opcodes():
        if kind != "equal":
            yield _changed("".join(left[l0:l1]), "".join(right[r0:r1]))
            continue
        around = _SHOWN_AROUND
        head = around if l0 or r0 else 0
        tail = around if l1 < len(left) or r1 < len(right) else 0
        if not (head or tail):
            # Nothing differs at all: show how they begin.
            head = 3
        if l1 - l0 <= head + tail + 1:
            yield _same("".join(left[l0:l1]))
            continue
        if head:
            yield _same("".join(left[l0 : l0 + head]))
        skipped = "".join(left[l0 + head : l1 - tail])
        yield {"skipped": f"{count_text(len(skipped))} characters alike", "left": [], "right": []}
        if tail:
            yield _same("".join(left[l1 - tail : l1]))


def _same(text: str) -> dict[str, Any]:
    run = [(False, text.rstrip("\n"))]
    return {"skipped": "", "left": run, "right": run}


def _changed(left: str, right: str) -> dict[str, Any]:
    """One row with the words that differ marked; texts with little in common are marked whole."""
    left, right = left.rstrip("\n"), right.rstrip("\n")
    a, b = _WORD.findall(left), _WORD.findall(right)
    if len(a) * len(b) > 1_000_000 or not a or not b:
        return {"skipped": "", "left": [(bool(a), left)], "right": [(bool(b), right)]}
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    sides: dict[str, list[tuple[bool, str]]] = {"left": [], "right": []}
    codes = matcher.get_opcodes()
    for number, (kind, a0, a1, b0, b1) in enumerate(codes):
        # A lone blank or comma that two changes share is no common ground.
        inside = 0 < number < len(codes) - 1
        marked = kind != "equal" or (inside and len("".join(a[a0:a1]).strip()) < 2)
        for side, words in (("left", a[a0:a1]), ("right", b[b0:b1])):
            if words and sides[side] and sides[side][-1][0] == marked:
                sides[side][-1] = (marked, sides[side][-1][1] + "".join(words))
            elif words:
                sides[side].append((marked, "".join(words)))
    return {"skipped": "", **sides}
