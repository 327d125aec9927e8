"""The language of texts."""

from __future__ import annotations

import polars as pl

from internlm_core import _core

__all__ = ["detect_language"]


def detect_language(texts: pl.Series, *, script: bool = False, threads: int = 0) -> pl.DataFrame:
    """Tell the language of each text by 4 KiB from all over it.

    The script decides where it can, by shares of bytes (Chinese, Japanese, Korean); the models of
    the crates whichlang (16 languages) and whatlang (70) decide between the rest. Code is told by a
    record's source, not here.

    Args:
        texts: Strings.
        script: Add the column `script`.
        threads: 0 means all cores; the result does not depend on it.

    Returns:
        `lang`: ISO 639-1, or `und` where there are too few letters to tell; `lang_score`: float32
        from 0 to 1, low for few letters; on request `script`, `Hans` or `Hant` for Chinese that
        shows which, else null.
    """
    langs, scores, scripts = _core.detect_languages(texts, threads)
    found = pl.DataFrame({"lang": pl.Series(langs), "lang_score": scores})
    return found.with_columns(script=pl.Series(scripts)) if script else found
