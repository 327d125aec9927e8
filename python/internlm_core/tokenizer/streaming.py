"""Ids to text as they come, whole characters only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._core import BpeStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from internlm_core._core import BpeTokenizer

__all__ = ["DecodeStream"]


class DecodeStream:
    """Decodes one id at a time in constant time; made by `Tokenizer.stream`.

    The texts of all `push` calls and the final `flush`, joined, equal `decode` of all ids.
    """

    __slots__ = ("flush", "push")

    push: Callable[[int], str]
    """Takes an id, returns the text that is certain after it: empty while a character is incomplete.

    Raises TokenizerError for an id outside the vocabulary.
    """
    flush: Callable[[], str]
    """What is left at the end: nothing, or U+FFFD for a character that was cut short."""

    def __init__(self, core: BpeTokenizer) -> None:
        # The compiled methods themselves: a call through Python would cost more than the decoding.
        stream = BpeStream(core)
        self.push, self.flush = stream.push, stream.flush
