"""Decontamination: training records that hold items of test sets, whole, in part or edited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import Field

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.data.dedup_input import code_rows, text_frame
from internlm_core.data.near_duplicates import DedupConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ContaminationConfig", "decontaminate"]


class ContaminationConfig(Config):
    """When a record counts as holding an item of a test set."""

    ngram: int = Field(8, ge=1, le=256)
    """Units a gram: words, or characters where words are not written apart. 8 in PaLM (Chowdhery et
    al. 2022, §8), 13 in GPT-3 (Brown et al. 2020, appendix C)."""
    min_overlap: float = Field(0.7, ge=0, le=1)
    """Share of the item's grams that the record has. 0.7 in PaLM; 0, any gram at all, in GPT-3."""
    min_units: int = Field(5, ge=1)
    """Items of fewer units are matched with whole records only: "42 apples" is in many by chance."""
    unit: Literal["auto", "text", "code"] = "auto"
    """`auto`: items are cut as code for records whose `source` is "code", else as text."""
    fold: bool = True
    """Case, width, composition, punctuation and spacing do not count."""
    seed: int = Field(1, ge=0, lt=2**64)
    """Fixes the hash."""


def decontaminate(
    data: pl.Series | pl.DataFrame | pl.LazyFrame | Sequence[str] | Any,
    tests: pl.Series | pl.DataFrame | pl.LazyFrame | Sequence[str] | Any,
    *,
    ngram: int = 8,
    min_overlap: float = 0.7,
    min_units: int = 5,
    unit: Literal["auto", "text", "code"] = "auto",
    fold: bool = True,
    seed: int = 1,
    threads: int = 0,
) -> pl.DataFrame:
    """Find records that hold a test item, of the same shingles as near-duplicates.

    The overlap is the share of an item's n-grams that the record has, so a short item is found in a
    long record. It is never below the Jaccard similarity: with `ngram=5`, every record that `dedup`
    would take for a near-copy of an item at 0.7 is found. An item shorter than n units is looked
    for as the run of all of them. Every item is compared: nothing is sampled or banded.

    Args:
        data: Records, as for `dedup`, but for paths.
        tests: Items, likewise: questions, or questions with their answers. `id` names them.
        ngram: See `ContaminationConfig`, as for all settings.
        min_overlap: Share of the item's grams from which a record is not kept.
        min_units: Items of fewer units are matched with whole records only.
        unit: `auto`, `text` or `code`.
        fold: Whether case, width, composition, punctuation and spacing do not count.
        seed: Fixes the hash.
        threads: 0 means all cores.

    Returns:
        One row a record, in input order: `id`, `test_id` (the item it has most of; null where no gram
        is shared), `overlap`, `jaccard`, `keep`.

    Raises:
        ConfigError: A setting is out of range.
        DataError: There is no column `text`, or it holds no strings.
    """
    given = {
        name: value for name, value in locals().items() if name in ContaminationConfig.model_fields
    }
    config = load_config(ContaminationConfig, given)
    frame, items = text_frame(data), text_frame(tests)
    options = DedupConfig(ngram=config.ngram, fold=config.fold, seed=config.seed).options()
    item, overlap, jaccard = _core.find_contamination(
        items["text"],
        frame["text"],
        code_rows(frame, config.unit),
        options,
        config.min_units,
        threads,
    )
    found = pl.Series(item)
    shared = found >= 0
    return pl.DataFrame(
        {
            "id": frame["id"],
            "test_id": items["id"].gather(found.set(~shared, None)),
            "overlap": overlap,
            "jaccard": jaccard,
            "keep": ~(shared & (pl.Series(overlap) >= config.min_overlap)),
        }
    )
