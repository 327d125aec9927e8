"""What several documents have in common: lines, paragraphs and passages, cut from all but one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import ByteSize, Field

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.data.dedup_input import code_rows, keep_keys, text_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    max_memory: ByteSize = Field(ByteSize(4_000_000_000), ge=1_000)
    """Bytes to count pieces in, beside the texts and some 40 a piece that is repeated: where there are
    more, the texts are gone through several times, with the same outcome."""


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
    max_memory: int | str = 4_000_000_000,
    threads: int = 0,
) -> pl.DataFrame:
    """Cut lines (or paragraphs) that another document has already; the first document keeps them.

    The first is that which `dedup` would keep: newest `snapshot`, highest `score`, longest, smallest
    `id`. Lines that are repeated within one document only are left alone. Pieces are told apart by
    a 128-bit hash (xxh3).

    Args:
        data: As for `dedup`, but for paths.
        piece: See `LineDedupConfig`, as for all settings.
        min_chars: Letters and digits a piece has at least.
        min_documents: Documents that have a piece before it is cut.
        fold: Whether case, punctuation and spacing do not count.
        lists: Whether list items and tables are cut.
        code: Whether code is cut.
        max_memory: Bytes to count pieces in, such as "2GB".
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
    frame = text_frame(data)
    cutter = LineCutter(load_config(LineDedupConfig, given), text_bytes(frame), threads)
    rank = _core.dedup_keep_order(frame["text"], keep_keys(frame), threads)
    for share in range(cutter.shares):
        cutter.count(frame, rank, share)
        cutter.settle()
    return cutter.cut(frame, rank)


class LineCutter:
    """`dedup_lines` in steps, of frames as of `text_frame`, for texts that are never there at once.

    Each share is counted over all frames and settled; then frames are cut.

    Args:
        config: Which pieces are cut.
        text_bytes: Bytes of all texts.
        threads: 0 means all cores.

    Attributes:
        shares: How often all frames are to be counted, by `config.max_memory`.
    """

    def __init__(self, config: LineDedupConfig, text_bytes: int, threads: int = 0) -> None:
        self._config, self._threads = config, threads
        self._lines = _core.RepeatedLines(
            config.piece == "paragraph",
            config.min_chars,
            config.min_documents,
            config.fold,
            config.lists,
        )
        self.shares = self._lines.shares(text_bytes, int(config.max_memory))

    def count(self, frame: pl.DataFrame, rank: npt.NDArray[np.uint32], share: int) -> None:
        """Count the pieces of some documents; `rank` is their place in keep order among all."""
        text, skip = frame["text"], self._skip(frame)
        self._lines.count(text, skip, rank, share, self.shares, self._threads)

    def settle(self) -> None:
        """End a share."""
        self._lines.settle(self._threads)

    def cut(self, frame: pl.DataFrame, rank: npt.NDArray[np.uint32]) -> pl.DataFrame:
        """What `dedup_lines` returns, of some documents."""
        skip = self._skip(frame)
        edited, pieces = self._lines.cut(frame["text"], skip, rank, self._threads)
        return _outcome(frame, edited, pieces, "repeated_lines")

    def _skip(self, frame: pl.DataFrame) -> npt.NDArray[np.bool_] | None:
        return None if self._config.code else code_rows(frame, "auto")


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
    frame = text_frame(data)
    rank = _core.dedup_keep_order(frame["text"], keep_keys(frame), threads)
    config = load_config(SubstringConfig, given)
    return cut_substrings(frame, rank, config, threads)(0, frame.height)


def cut_substrings(
    frame: pl.DataFrame, rank: npt.NDArray[np.uint32], config: SubstringConfig, threads: int = 0
) -> Callable[[int, int], pl.DataFrame]:
    """`dedup_substrings` of a frame as of `text_frame`, whose keep order is known.

    Returns:
        What `dedup_substrings` says of as many rows as asked for, from one on.
    """
    repeated = _core.RepeatedSpans(
        frame["text"],
        rank,
        config.min_length,
        config.unit == "characters",
        config.keep == "first",
        int(config.max_memory),
        threads,
    )

    def cut(start: int, count: int) -> pl.DataFrame:
        some = frame.slice(start, count)
        edited, pieces = repeated.cut(some["text"], start)
        return _outcome(some, edited, pieces, "repeated_substrings")

    return cut


def text_bytes(frame: pl.DataFrame) -> int:
    """Bytes of all texts."""
    return int(frame["text"].str.len_bytes().cast(pl.Int64).sum())


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
