"""The language of texts."""

from __future__ import annotations

import polars as pl

from internlm_core import _core

__all__ = ["detect_language"]


def detect_language(texts: pl.Series, *, threads: int = 0) -> pl.DataFrame:
    """Tell the language of each text by its first 4 KiB.

    The script decides where it can (Chinese, Japanese, Korean); the models of the crates whichlang
    and whatlang decide between the rest.

    Args:
        texts: Strings.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        `lang`: ISO 639-1, or `und` where there are too few letters to tell; `lang_score`: float32
        from 0 to 1.
    """
    langs, scores = _core.detect_languages(texts, threads)
    return pl.DataFrame({"lang": pl.Series(langs), "lang_score": scores})
