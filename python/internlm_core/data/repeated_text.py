"""What several documents have in common: lines, paragraphs and passages, cut from all but one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import ByteSize, Field

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.data.dedup_input import code_rows, keep_keys, text_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

__all__ = ["LineDedupConfig", "SubstringConfig", "dedup_lines", "dedup_substrings"]

_HAS_TEXT = r"[\p{L}\p{N}]"


class LineDedupConfig(Config):
    """Which lines or paragraphs are cut."""

    piece: Literal["line", "paragraph"] = "line"
    """A paragraph is a run of lines between blank ones, and goes as a whole."""
    min_chars: int = Field(40, ge=1)
    """Letters and digits a piece has at least; a character of a script without spaces counts three.
    Without a bound short lines go that are equal by nature: headings, answers, lines of verse."""
    min_documents: int = Field(2, ge=2)
    """Documents that have a piece before it is cut. A quotation is in a few, a notice in many."""
    fold: bool = True
    """Case, composition, punctuation and spacing do not count."""
    lists: bool = False
    """Cut list items and rows of tables too."""
    code: bool = False
    """Cut documents whose `source` is "code" too; fenced code in other documents always stays."""


class SubstringConfig(Config):
    """Which passages are cut."""

    min_length: int = Field(200, ge=1)
    """Shortest passage. Lee et al. 2021, §4.1, cut 50 tokens, which are some 200 bytes of English."""
    unit: Literal["bytes", "characters"] = "bytes"
    """What `min_length` counts; a Chinese character has three bytes."""
    keep: Literal["first", "none"] = "first"
    """`first`: the passage stays in its first place. `none`: every place loses it."""
    max_memory: ByteSize = Field(ByteSize(4_000_000_000), ge=1_000)
    """Bytes to work in, beside the texts: 10 a byte of text, or the corpus is searched in pairs of
    blocks that fit, with the same outcome and in time that grows with the square of their number.
    One document may have a twentieth of it."""


def dedup_lines(
    data: pl.Series | pl.DataFrame | pl.LazyFrame | Sequence[str] | Any,
    *,
    piece: Literal["line", "paragraph"] = "line",
    min_chars: int = 40,
    min_documents: int = 2,
    fold: bool = True,
    lists: bool = False,
    code: bool = False,
    threads: int = 0,
) -> pl.DataFrame:
    """Cut lines (or paragraphs) that another document has already; the first document keeps them.

    The first is that which `dedup` would keep: newest `snapshot`, highest `score`, longest, smallest
    `id`. Lines that are repeated within one document only are left alone. Memory beside the texts:
    24 bytes a piece that is long enough. Pieces are told apart by a 128-bit hash (xxh3).

    Args:
        data: As for `dedup`, but for paths.
        piece: See `LineDedupConfig`, as for all settings.
        min_chars: Letters and digits a piece has at least.
        min_documents: Documents that have a piece before it is cut.
        fold: Whether case, punctuation and spacing do not count.
        lists: Whether list items and tables are cut.
        code: Whether code is cut.
        threads: 0 means all cores.

    Returns:
        One row a document, in input order: `id`, `text` (what is left), `keep` (false where nothing
        is left), `cut` (pieces), `cut_bytes`, `reason` (`repeated_lines`, where it is not kept).

    Raises:
        ConfigError: A setting is out of range.
        DataError: There is no column `text`, or it holds no strings.
    """
    given = {
        name: value for name, value in locals().items() if name in LineDedupConfig.model_fields
    }
    return cut_lines(text_frame(data), load_config(LineDedupConfig, given), threads)


def cut_lines(frame: pl.DataFrame, config: LineDedupConfig, threads: int = 0) -> pl.DataFrame:
    """As `dedup_lines`, of a frame as of `text_frame` and a typed configuration."""
    rank = _core.dedup_keep_order(frame["text"], keep_keys(frame), threads)
    edited, pieces = _core.dedup_lines(
        frame["text"],
        None if config.code else code_rows(frame, "auto"),
        rank,
        config.piece == "paragraph",
        config.min_chars,
        config.min_documents,
        config.fold,
        config.lists,
        threads,
    )
    return _outcome(frame, edited, pieces, "repeated_lines")


def dedup_substrings(
    data: pl.Series | pl.DataFrame | pl.LazyFrame | Sequence[str] | Any,
    *,
    min_length: int = 200,
    unit: Literal["bytes", "characters"] = "bytes",
    keep: Literal["first", "none"] = "first",
    max_memory: int | str = 4_000_000_000,
    threads: int = 0,
) -> pl.DataFrame:
    """Cut passages that stand elsewhere, in the same document or another, byte by byte.

    Found by a suffix array. A run of `min_length` bytes (from the start of a character) is a copy
    if an equal one stands earlier, in keep order and place, and does not overlap it; the union of
    all copies is cut, at whole characters. A passage never spans two documents.

    Args:
        data: As for `dedup`, but for paths.
        min_length: See `SubstringConfig`, as for all settings.
        unit: `bytes` or `characters`.
        keep: `first` or `none`.
        max_memory: Bytes to work in, such as "2GB".
        threads: For the keep order alone; the search takes one.

    Returns:
        As `dedup_lines`; the reason is `repeated_substrings`, and `cut` counts passages.

    Raises:
        ConfigError: A setting is out of range, or a document is too large for the memory.
        DataError: There is no column `text`, or it holds no strings.
    """
    given = {
        name: value for name, value in locals().items() if name in SubstringConfig.model_fields
    }
    return cut_substrings(text_frame(data), load_config(SubstringConfig, given), threads)


def cut_substrings(frame: pl.DataFrame, config: SubstringConfig, threads: int = 0) -> pl.DataFrame:
    """As `dedup_substrings`, of a frame as of `text_frame` and a typed configuration."""
    rank = _core.dedup_keep_order(frame["text"], keep_keys(frame), threads)
    edited, pieces = _core.dedup_substrings(
        frame["text"],
        rank,
        config.min_length,
        config.unit == "characters",
        config.keep == "first",
        int(config.max_memory),
        threads,
    )
    return _outcome(frame, edited, pieces, "repeated_substrings")


def _outcome(
    frame: pl.DataFrame, edited: Any, pieces: npt.NDArray[np.uint32], reason: str
) -> pl.DataFrame:
    before, cut = frame["text"], pl.Series(pieces)
    after = pl.select(pl.coalesce(pl.Series(edited, dtype=pl.String), before)).to_series()
    # What was empty before is no business of this stage.
    keep = (cut == 0) | after.str.contains(_HAS_TEXT).fill_null(value=False)
    left = after.str.len_bytes().cast(pl.Int64)
    return pl.DataFrame(
        {
            "id": frame["id"],
            "text": after,
            "keep": keep,
            "cut": cut,
            "cut_bytes": (before.str.len_bytes().cast(pl.Int64) - left).fill_null(0),
            "reason": pl.select(pl.when(~keep).then(pl.lit(reason))).to_series(),
        }
    )
