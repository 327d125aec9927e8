"""Ids to text as they come, whole characters only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._core import BpeStream

if TYPE_CHECKING:
    from internlm_core._core import BpeTokenizer

__all__ = ["DecodeStream"]


class DecodeStream:
    """Decodes one id at a time in constant time; made by `Tokenizer.stream`.

    The texts of all `push` calls and the final `flush`, joined, equal `decode` of all ids.
    """

    def __init__(self, core: BpeTokenizer) -> None:
        self._core = BpeStream(core)

    def push(self, token: int) -> str:
        """Text that is certain after this id; empty while a character is incomplete.

        Raises:
            TokenizerError: The id is outside the vocabulary.
        """
        return self._core.push(token)

    def flush(self) -> str:
        """What is left at the end: nothing, or U+FFFD for a character that was cut short."""
        return self._core.flush()
