"""Generated ids to text as it may be shown: whole characters, and no part of a stop text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from internlm_core.tokenizer import Tokenizer

__all__ = ["StopMatcher", "TextWriter"]


class StopMatcher:
    """Finds the first stop text in a stream, holding back what could be the start of one.

    Args:
        stops: The texts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Take more text; returns what is safe to show.

        Once a stop text is found (`found` tells which), nothing more is given out.
        """
        if self.found is not None:
            return ""
        self._held += text
        hits = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if hits:
            at, self.found = min(hits)
            shown, self._held = self._held[:at], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """The end: what was held back is no stop text after all."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a start of `stop` (shorter than `stop`)."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class TextWriter:
    """The text of one answer, id by id.

    Args:
        tokenizer: Decodes; without one there is no text.
        hidden: Ids that are never written (control tokens).
        stops: Stop texts.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, hidden: Collection[int], stops: Sequence[str]
    ) -> None:
        self._stream = None if tokenizer is None else tokenizer.stream()
        self._hidden = hidden
        self._matcher = StopMatcher(stops)

    @property
    def stop(self) -> str | None:
        """The stop text that was found."""
        return self._matcher.found

    def push(self, token: int) -> str:
        """Add an id; returns the text that can be shown now, often empty."""
        if self._stream is None or token in self._hidden:
            return ""
        return self._matcher.push(self._stream.push(token))

    def finish(self) -> str:
        """The rest, when no more ids come; bytes that are no character become U+FFFD."""
        if self._stream is None or self._matcher.found is not None:
            return ""
        shown = self._matcher.push(self._stream.flush())
        return shown + self._matcher.flush()
