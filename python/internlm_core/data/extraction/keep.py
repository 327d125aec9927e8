"""Words that stand for formulas, code, tables and lists while a library picks the main text."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Keep"]

_PAD_CHARACTERS = 400


@dataclass(frozen=True)
class _Kept:
    text: str
    block: bool


class Keep:
    """What was taken out of one page.

    Extraction libraries escape formulas, flatten code and drop lists. So such parts leave the page
    before, each for a word that no library has a reason to touch, and come back after.

    Args:
        html: The page; the words are made of letters that do not occur in it.
    """

    def __init__(self, html: bytes) -> None:
        salt = "qxzk"
        while salt.encode() in html:
            # Depends on the page alone, so that the same page always gives the same text.
            salt += "q"
        self._salt = salt
        self._kept: list[_Kept] = []
        self.line_break = f"{salt}breakz"
        self._word = re.compile(rf"{salt}(\d+)z(?:[ ,]+{salt}\1z)*")
        self._heading = re.compile(rf"^[ \t#>*-]*{salt}h([1-6])z[ \t]*", re.MULTILINE)
        self._break = re.compile(
            rf"[ \t\n]*{self.line_break}(?:[ \t\n]+{self.line_break})*[ \t\n]*"
        )

    def inline(self, text: str) -> str:
        """Word for a part of a sentence."""
        self._kept.append(_Kept(text, block=False))
        return f"{self._salt}{len(self._kept) - 1}z"

    def block(self, text: str, weight: int | None = None) -> str:
        """Words for a part that stands alone.

        The word is repeated, because libraries judge a part by its length.

        Args:
            text: Markdown.
            weight: Characters of text that it stands for; those of `text` if not given.
        """
        self._kept.append(_Kept(text, block=True))
        word = f"{self._salt}{len(self._kept) - 1}z"
        length = min(len(text) if weight is None else weight, _PAD_CHARACTERS)
        return " ".join([word] * max(1, length // (len(word) + 1)))

    def heading(self, level: int) -> str:
        """Word to put before a heading's text."""
        return f"{self._salt}h{level}z "

    def restore(self, text: str) -> str:
        """Put everything back.

        Args:
            text: What a library made of the page.
        """
        if self._salt not in text:
            return text
        text = self._break.sub(self._broken, text)
        text = self._heading.sub(lambda match: "\n" + "#" * int(match[1]) + " ", text)
        # What was put away may hold what was put away before it, never after.
        for _ in range(8):
            text, count = self._word.subn(self._back, text)
            if not count:
                break
        # A word that lost its place at a line's start is no heading any more.
        text = re.sub(rf"{self._salt}h[1-6]z ?", "", text)
        return re.sub(rf"[ \t]*{self.line_break}[ \t]*", "\n", text)

    def expand(self, text: str) -> str:
        """Put back what stands within a table's cell: one line."""
        return " ".join(self.restore(text).split())

    def restore_plain(self, text: str) -> str:
        """Put back what stands within code: a formula there was never one.

        Line breaks stay.
        """
        for _ in range(8):
            text, count = self._word.subn(lambda match: self._kept[int(match[1])].text, text)
            if not count:
                break
        return text

    def _back(self, match: re.Match[str]) -> str:
        number = int(match[1])
        if number >= len(self._kept):
            return ""
        kept = self._kept[number]
        return f"\n\n{kept.text}\n\n" if kept.block else kept.text

    def _broken(self, match: re.Match[str]) -> str:
        return "\n" if match[0].count(self.line_break) == 1 else "\n\n"
