"""Statistics of texts, as a public table to filter on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from internlm_core import _core
from internlm_core.data.compat import words_of

if TYPE_CHECKING:
    from internlm_core.data.compat import Compat

__all__ = ["COUNTS", "METRICS", "metrics"]

METRICS: dict[str, str] = {name: meaning for name, _, meaning in _core.metric_table()}
"""Name → meaning of every statistic, in the order of the columns."""

COUNTS = frozenset(name for name, is_count, _ in _core.metric_table() if is_count)
"""Those that are whole numbers (uint32; the others are float64)."""


def metrics(
    texts: pl.Series,
    lang: pl.Series | str | None = None,
    *,
    compat: Compat = False,
    compression: bool = False,
    threads: int = 0,
) -> pl.DataFrame:
    """All statistics of each text; `METRICS` says what they mean.

    Words follow the script: where words are not written apart (Chinese, Japanese, Korean, Thai, …)
    each character is one. Every value is finite, for an empty text too.

    Args:
        texts: Strings; null counts as empty.
        lang: ISO 639-1 code of all texts or of each, which chooses the stop words; without it stop
            words are not counted.
        compat: Count as datatrove 0.10 does, over spaCy's English words (True) or those between blanks
            (`blanks`); docs/filters.md says where that differs; `lang` is then taken as English.
        compression: Measure `compression_ratio` too, which about doubles the time.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        One row a text, one column a statistic (`compression_ratio` last, where asked for): uint32
        for counts, float64 for ratios.
    """
    langs = lang if isinstance(lang, pl.Series) else constant(lang, len(texts))
    return pl.DataFrame(_core.text_metrics(texts, langs, words_of(compat), compression, threads))


def constant(value: str | None, length: int) -> pl.Series:
    """A string column that holds one value everywhere."""
    return pl.Series([value], dtype=pl.String).new_from_index(0, length)
