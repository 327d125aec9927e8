"""Near-duplicates by MinHash LSH, confirmed by the exact similarity of shingle sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, ValidationInfo, field_validator

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DedupConfig", "dedup", "find_duplicates", "s_curve", "signatures"]


class DedupConfig(Config):
    """How near-duplicates are found; the report names 128 functions, 5-grams and 0.7 (§3.1.1)."""

    threshold: float = Field(0.7, gt=0, le=1)
    """Smallest Jaccard similarity of shingle sets at which two documents are duplicates."""
    ngram: int = Field(5, ge=1)
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
    unit: Literal["text", "code"] = "text"
    """`code`: identifiers, numbers and operators; layout does not count."""
    fold: bool = True
    """Whether upper and lower case are the same."""
    seed: int = Field(1, ge=0)
    """Fixes the hash functions."""
    max_candidates: int = Field(1000, ge=1)
    """Most documents that one document is compared with."""

    @field_validator("rows")
    @classmethod
    def _slots(cls, rows: int, info: ValidationInfo) -> int:
        bands, permutations = info.data.get("bands", 1), info.data.get("permutations", rows)
        if bands * rows > permutations:
            raise ValueError(
                f"bands × rows = {bands} × {rows} needs {bands * rows} permutations, "
                f"there are {permutations}"
            )
        return rows

    def options(self) -> dict[str, Any]:
        """As the core takes them."""
        names = (
            "ngram",
            "permutations",
            "bands",
            "rows",
            "threshold",
            "seed",
            "fold",
            "max_candidates",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "code": self.unit == "code",
            "exact": self.verify == "exact",
            "greedy": self.clusters == "greedy",
        }


def dedup(
    data: pl.Series | pl.DataFrame | pl.LazyFrame, *, threads: int = 0, **settings: Any
) -> pl.DataFrame:
    """Find near-duplicates and say which to keep.

    Of duplicates the one of the newest `snapshot` stays, then of the highest `score`, then the
    longest, then the smallest `id`; the outcome is the same for any order of rows and any number of
    threads. Documents without letters or digits match nothing.

    Args:
        data: Texts, or a frame with `text` and optionally `id`, `snapshot` (the last in string
            order is the newest) and `score`. A row's place is its identity: repeated ids cost no
            row.
        threads: 0 means all cores.
        **settings: Fields of `DedupConfig`.

    Returns:
        One row a document, in input order: `id` (the row number where the input has none),
        `cluster` (id of its first member), `keep`, `jaccard` (similarity to `duplicate_of`, null
        where it is kept) and `duplicate_of` (id of the kept document, null where it is kept).

    Raises:
        ConfigError: A setting is unknown or out of range.
        DataError: The frame has no column `text`.
    """
    return find_duplicates(data, load_config(DedupConfig, settings), threads)


def find_duplicates(
    data: pl.Series | pl.DataFrame | pl.LazyFrame, config: DedupConfig, threads: int = 0
) -> pl.DataFrame:
    """As `dedup`, with a typed configuration."""
    frame = _frame(data)
    ids = frame["id"]
    keep, duplicate_of, cluster, jaccard, _ = _core.find_duplicates(
        frame["text"], _keep_order(frame), config.options(), threads
    )
    removed = ~keep
    return pl.DataFrame(
        {
            "id": ids,
            "cluster": ids.gather(cluster),
            "keep": keep,
            "jaccard": pl.Series(jaccard).set(pl.Series(keep), None),
            "duplicate_of": ids.gather(duplicate_of).zip_with(
                pl.Series(removed), pl.Series([None], dtype=ids.dtype).new_from_index(0, len(ids))
            ),
        }
    )


def _frame(data: pl.Series | pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    if isinstance(data, pl.Series):
        frame = pl.DataFrame({"text": data})
    else:
        frame = data.collect() if isinstance(data, pl.LazyFrame) else data
    if "text" not in frame.columns:
        raise DataError(f"no column 'text'; the frame has {', '.join(frame.columns)}")
    if "id" not in frame.columns:
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("id"))
    return frame


def _keep_order(frame: pl.DataFrame) -> npt.NDArray[np.uint32]:
    """Rank of each row in keep order: newest snapshot, best score, longest, smallest id, text."""
    keys: list[tuple[pl.Expr, bool]] = []
    if "snapshot" in frame.columns:
        keys.append((pl.col("snapshot"), True))
    if "score" in frame.columns:
        keys.append((pl.col("score"), True))
    keys.append((pl.col("text").str.len_bytes(), True))
    keys.append((pl.col("id"), False))
    # Rows alike so far are told apart by their text, and equal texts may stand for each other.
    keys.append((pl.col("text"), False))
    expressions, descending = zip(*keys, strict=True)
    order = frame.select(
        pl.arg_sort_by(
            expressions, descending=list(descending), nulls_last=True, maintain_order=True
        )
    ).to_series()
    rank = np.empty(frame.height, np.uint32)
    rank[order.to_numpy()] = np.arange(frame.height, dtype=np.uint32)
    return rank


def signatures(texts: pl.Series, *, threads: int = 0, **settings: Any) -> npt.NDArray[np.uint32]:
    """MinHash signatures, uint32 `[len(texts), permutations]`; the same on every machine.

    Args:
        texts: Strings.
        threads: 0 means all cores.
        **settings: Fields of `DedupConfig`.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    config = load_config(DedupConfig, settings)
    return _core.minhash_signatures(texts, config.options(), threads)


def s_curve(bands: int = 25, rows: int = 5) -> pl.DataFrame:
    """How likely a pair of each similarity is compared: 1 − (1 − sʳ)ᵇ.

    Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, §3.4.2.

    Returns:
        `similarity` from 0 to 1 by hundredths, `probability`.
    """
    similarity = [step / 100 for step in range(101)]
    probability = [_core.candidate_probability(s, bands, rows) for s in similarity]
    return pl.DataFrame({"similarity": similarity, "probability": probability})
