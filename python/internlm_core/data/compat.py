"""datatrove's words, for decisions that must be its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl

from internlm_core import _core
from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Compat", "spacy_words", "words_of"]

Compat: TypeAlias = bool | Literal["spacy", "blanks"]
"""Whether to decide as datatrove 0.10 does, and over whose words: True is `spacy`."""


def words_of(compat: object) -> str | None:
    """The words that a `compat` setting counts: `spacy`, `blanks`, or None where it is off.

    Raises:
        ConfigError: Any other value, the languages of datatrove's other word cutters among them.
    """
    if isinstance(compat, bool):
        return "spacy" if compat else None
    if compat in ("spacy", "blanks"):
        return str(compat)
    raise ConfigError(
        f"compat {compat!r}: expected true or 'spacy' (English words as spaCy cuts them, what "
        "datatrove's filters count unless told otherwise), 'blanks' (words parted by blanks) or "
        "false; datatrove's words for other languages (jieba for cmn, spaCy's other languages, stanza, "
        "…) are not reproduced"
    )


def spacy_words(texts: pl.Series | Sequence[str], threads: int = 0) -> pl.DataFrame:
    """English words and sentences as spaCy 3.8 cuts them (`spacy.blank("en")`, sentencizer).

    Args:
        texts: Strings; null counts as empty.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        One row a text: `words`, its tokens in order without those that are blanks, and `sentences`,
        how many the rule-based sentencizer finds (1 for an empty text, as datatrove counts).
    """
    rows = _core.spacy_words(pl.Series(texts, dtype=pl.String), threads)
    return pl.DataFrame(
        {"words": [row[0] for row in rows], "sentences": [row[1] for row in rows]},
        schema={"words": pl.List(pl.String), "sentences": pl.UInt32},
    )
