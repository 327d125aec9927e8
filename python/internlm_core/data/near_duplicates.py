"""Near-duplicates by MinHash LSH, confirmed by the exact similarity of shingle sets."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import ByteSize, Field, model_validator

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.data.dedup_input import code_rows, keep_keys, text_frame, text_frames
from internlm_core.data.dedup_on_disk import dedup_streamed
from internlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = [
    "DedupConfig",
    "candidate_probability",
    "curve_in_words",
    "dedup",
    "find_duplicates",
    "s_curve",
    "signatures",
]


class DedupConfig(Config):
    """How near-duplicates are found; the report names 128 functions, 5-grams and 0.7 (§3.1.1)."""

    threshold: float = Field(0.7, gt=0, le=1)
    """Smallest Jaccard similarity of shingle sets at which two documents are duplicates."""
    ngram: int = Field(5, ge=1, le=256)
    """Units a shingle: words, or characters where a script does not write words apart."""
    permutations: int = Field(128, ge=1)
    """Hash functions, slots of a signature."""
    bands: int = Field(25, ge=1)
    """Documents that agree in all rows of one band are compared."""
    rows: int = Field(5, ge=1)
    """25 × 5 finds 99 % of the pairs at 0.7; the usual 16 × 8 finds 61 %. See `s_curve`."""
    verify: Literal["exact", "signature"] = "exact"
    """Confirm by the shingle sets themselves, or by the share of equal slots."""
    clusters: Literal["greedy", "components"] = "greedy"
    """`greedy`: each removed document is similar to a kept one. `components`: to a chain of them."""
    unit: Literal["auto", "text", "code"] = "auto"
    """`code`: identifiers, numbers and punctuation, layout does not count. `auto`: code where the
    column `source` says "code", else text."""
    fold: bool = True
    """Case, width and composition of letters, punctuation and spacing do not count. Without it
    every byte of prose does, and of code all but the layout."""
    seed: int = Field(1, ge=0, lt=2**64)
    """Fixes the hash functions."""
    max_candidates: int = Field(256, ge=1)
    """Most documents that one document is compared with: those that share most bands with it."""
    max_memory: ByteSize | None = Field(None, ge=1_000_000)
    """Bytes to work in, such as "256MB": what does not fit is sorted on disk, with the same outcome.
    None: all in memory."""

    @model_validator(mode="after")
    def _enough_slots(self) -> DedupConfig:
        if self.bands * self.rows > self.permutations:
            raise ValueError(
                f"bands × rows = {self.bands} × {self.rows} needs {self.bands * self.rows} "
                f"permutations, there are {self.permutations}"
            )
        return self

    @property
    def unused_slots(self) -> int:
        """Slots of a signature that are in no band."""
        return self.permutations - self.bands * self.rows

    def options(self) -> dict[str, Any]:
        """As the core takes them."""
        return {
            **self.model_dump(include=_CORE_OPTIONS),
            "exact": self.verify == "exact",
            "greedy": self.clusters == "greedy",
        }


_CORE_OPTIONS = {
    "ngram",
    "permutations",
    "bands",
    "rows",
    "threshold",
    "seed",
    "fold",
    "max_candidates",
}


def dedup(
    data: pl.Series | pl.DataFrame | pl.LazyFrame | Sequence[str] | str | Path | Any,
    threshold: float = 0.7,
    *,
    ngram: int = 5,
    permutations: int = 128,
    bands: int = 25,
    rows: int = 5,
    verify: Literal["exact", "signature"] = "exact",
    clusters: Literal["greedy", "components"] = "greedy",
    unit: Literal["auto", "text", "code"] = "auto",
    fold: bool = True,
    seed: int = 1,
    max_candidates: int = 256,
    max_memory: int | str | None = None,
    folder: str | Path | None = None,
    threads: int = 0,
) -> pl.DataFrame:
    """Find near-duplicates and say which to keep.

    Of duplicates the one of the newest `snapshot` stays, then of the highest `score`, then the
    longest, then the smallest `id`; the outcome is the same for any order of rows and any number of
    threads. Documents without letters or digits match nothing.

    Args:
        data: Texts, or a frame with `text` and optionally `id`, `snapshot` (the last in sorting
            order is the newest), `score` and `source`: of polars, or anything that exports Arrow
            (pyarrow, pandas, DuckDB). A row's place is its identity: repeated ids are reported by
            a warning and cost no row. Or a file, folder or pattern of records in any readable
            format, whose ids are the records' own.
        threshold: See `DedupConfig`, as for all settings down to `max_memory`.
        ngram: Units a shingle.
        permutations: Slots of a signature.
        bands: Bands of slots.
        rows: Slots a band.
        verify: `exact` or `signature`.
        clusters: `greedy` or `components`.
        unit: `auto`, `text` or `code`.
        fold: Whether case, width, composition, punctuation and spacing do not count.
        seed: Fixes the hash functions.
        max_candidates: Most comparisons a document.
        max_memory: Bytes to work in, beside `data` and the outcome, such as "256MB": what does not
            fit is sorted on disk. A query or path is then never in memory as a whole.
        folder: Where the temporary files of `max_memory` go; default: the system's own place.
        threads: 0 means all cores.

    Returns:
        One row a document, in input order: `id` (the row number where the input has none),
        `cluster` (id of the document that is kept of it), `keep`, `jaccard` (similarity to
        `duplicate_of`) and `duplicate_of` (id of the kept document); the last two are null where
        the document is kept.

    Raises:
        ConfigError: A setting is unknown or out of range.
        DataError: There is no column `text`, or it holds no strings; a disk is full.
    """
    given = {name: value for name, value in locals().items() if name in DedupConfig.model_fields}
    config = load_config(DedupConfig, given)
    if config.unused_slots >= config.rows:
        warnings.warn(
            f"bands × rows = {bands} × {rows} leaves {config.unused_slots} of {permutations} slots "
            f"unused; bands={permutations // rows} would use them",
            stacklevel=2,
        )
    if config.max_memory is not None:
        if isinstance(data, (str, os.PathLike, pl.LazyFrame)):
            frames = text_frames(data, config.max_memory // 16, threads)
            return dedup_streamed(frames, config, folder, threads)
        return dedup_streamed(text_frame(data), config, folder, threads)
    if isinstance(data, (str, os.PathLike)):
        frames = text_frames(data, 1 << 25, threads, lines_at_once=1 << 28)
        return _find(pl.concat(frames), config, threads)
    frame = text_frame(data)
    repeated = frame.height - frame["id"].n_unique()
    if repeated:
        first = frame["id"].filter(frame["id"].is_duplicated())[0]
        warnings.warn(
            f"{repeated} rows repeat the id of another one ({first!r} is the first such id); "
            "rows are told apart by their place",
            stacklevel=2,
        )
    return _find(frame, config, threads)


def find_duplicates(
    data: pl.Series | pl.DataFrame | pl.LazyFrame, config: DedupConfig, threads: int = 0
) -> pl.DataFrame:
    """As `dedup`, with a typed configuration and without warnings."""
    return _find(text_frame(data), config, threads)


def _find(frame: pl.DataFrame, config: DedupConfig, threads: int) -> pl.DataFrame:
    rank = _core.dedup_keep_order(frame["text"], keep_keys(frame), threads)
    keep, duplicate_of, jaccard, _ = _core.find_duplicates(
        frame["text"], code_rows(frame, config.unit), rank, config.options(), threads
    )
    # Of one piece: rows are looked up in it.
    ids, kept = frame["id"].rechunk(), pl.Series(keep)
    cluster = ids.gather(pl.Series(duplicate_of))
    return pl.DataFrame(
        {
            "id": ids,
            "cluster": cluster,
            "keep": kept,
            "jaccard": pl.Series(jaccard).set(kept, None),
            "duplicate_of": cluster.set(kept, None),
        }
    )


def signatures(
    texts: pl.Series | Sequence[str] | Any, *, threads: int = 0, **settings: Any
) -> npt.NDArray[np.uint32]:
    """MinHash signatures, uint32 `[len(texts), permutations]`; the same on every machine.

    A text without letters or digits has the largest number in every slot.

    Args:
        texts: Strings, or a frame as for `dedup`.
        threads: 0 means all cores.
        **settings: Fields of `DedupConfig`.

    Raises:
        ConfigError: A setting is unknown or out of range.
        DataError: These are no strings.
    """
    config, frame = load_config(DedupConfig, settings), text_frame(texts)
    code = code_rows(frame, config.unit)
    return _core.minhash_signatures(frame["text"], code, config.options(), threads)


def candidate_probability(similarity: float, bands: int = 25, rows: int = 5) -> float:
    """How likely a pair of this similarity is compared: 1 − (1 − sʳ)ᵇ.

    Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, §3.4.2.

    Raises:
        ConfigError: The similarity is not from 0 to 1, or a count is below 1.
    """
    if not 0 <= similarity <= 1:
        raise ConfigError(f"similarity must be from 0 to 1, got {similarity}")
    if bands < 1 or rows < 1:
        raise ConfigError(f"bands and rows must be at least 1, got {bands} and {rows}")
    return _core.candidate_probability(similarity, bands, rows)


def s_curve(bands: int = 25, rows: int = 5) -> pl.DataFrame:
    """`candidate_probability` by hundredths.

    Returns:
        `similarity` from 0 to 1, `probability`.
    """
    similarity = [step / 100 for step in range(101)]
    probability = [candidate_probability(s, bands, rows) for s in similarity]
    return pl.DataFrame({"similarity": similarity, "probability": probability})


def curve_in_words(bands: int = 25, rows: int = 5) -> str:
    """One line that says what a split into bands promises, for the log of a run."""
    points = [f"{s / 10:g}: {candidate_probability(s / 10, bands, rows):.1%}" for s in range(3, 10)]
    return f"{bands} bands of {rows} rows compare, of pairs at Jaccard {', '.join(points)}"
