"""Repairs that come before any rule."""

from __future__ import annotations

import polars as pl

from internlm_core import _core

__all__ = ["normalise_texts"]


def normalise_texts(texts: pl.Series, *, threads: int = 0) -> pl.Series:
    r"""Repair what is invisible, broken or blank in texts; twice is the same as once.

    Line ends become `\n`; byte-order marks, control and zero-width characters go (not the joiners
    that scripts and emoji need); characters are composed (NFC); blanks at line ends go, but for two
    (a line break in Markdown); of long runs of blank lines two stay.

    Args:
        texts: Strings; null stays null.
        threads: 0 means all cores; the result does not depend on it.
    """
    return pl.Series(texts.name, _core.normalise_texts(texts, threads))
