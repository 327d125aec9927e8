"""Repairs that come before any rule."""

from __future__ import annotations

import polars as pl

from internlm_core import _core
from internlm_core.data.statistics import constant

__all__ = ["normalise", "normalise_texts"]


def normalise(
    texts: pl.Series, source: pl.Series | str | None = None, *, threads: int = 0
) -> pl.DataFrame:
    r"""Repair what is invisible, broken or blank in texts; twice is the same as once.

    Line ends become `\n`; byte-order marks, control and zero-width characters, soft hyphens and
    terminal colours go (not the joiners that scripts and emoji need); characters are composed
    (NFC); blanks at line ends go, but for two (a line break in Markdown); runs of blanks inside a
    line become one (not in fenced or indented blocks); of runs of blank lines two stay.

    Args:
        texts: Strings; null stays null.
        source: Source of all texts or of each; `code` gets line ends, byte-order marks and NULs
            repaired and nothing else.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        `text`, and `edits`, a struct of uint32: how often each kind of edit was made.
    """
    sources = source if isinstance(source, pl.Series) else constant(source, len(texts))
    clean, edits = _core.normalise_texts(texts, sources, threads)
    return pl.DataFrame({"text": pl.Series(clean), "edits": pl.DataFrame(edits).to_struct()})


def normalise_texts(
    texts: pl.Series, source: pl.Series | str | None = None, *, threads: int = 0
) -> pl.Series:
    """The repaired texts alone; see `normalise`."""
    return normalise(texts, source, threads=threads)["text"].alias(texts.name)
