"""Stages that look at one record at a time: normalise, language, rules. Pure functions of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from internlm_core.data.language import add_facts, detect_language, language_facts
from internlm_core.data.ledger import undecided
from internlm_core.data.normalise import Normaliser
from internlm_core.data.records import with_ids
from internlm_core.data.rules import apply_rules, load_rules
from internlm_core.data.run_folder import flat

if TYPE_CHECKING:
    from internlm_core.data.config import PipelineConfig

__all__ = ["MapStages", "edit_columns"]

_CODE = "code"
"""The source whose records have no language of their own."""


def edit_columns(frame: pl.DataFrame) -> list[str]:
    """Columns of a part about edits of a record.

    The stage and the kind of edit (`normalise.line_end`) counts them; the same with `#characters`
    counts those.
    """
    return [name for name in frame.columns if name.startswith(("normalise.", "repeats."))]


class MapStages:
    """The map stages of a configuration.

    Args:
        config: The configuration; its rule preset is read and checked here.

    Raises:
        ConfigError: A rule preset or one of its values is unknown.
        MissingExtraError: A library that a stage needs is not installed.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._normaliser = None
        if config.normalise.enabled:
            self._normaliser = Normaliser(**config.normalise.model_dump(exclude={"enabled"}))
        self._rules = None
        if config.filter.enabled:
            self._rules = load_rules(config.filter.preset, flat(config.filter.set))

    def thresholds(self) -> dict[str, list[float]]:
        """Bounds of each statistic that the rules look at."""
        return self._rules.thresholds() if self._rules else {}

    def run(self, records: pl.DataFrame, threads: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Take one batch through the stages.

        Args:
            records: Record frame.
            threads: Threads to use, 0 for all cores; the result does not depend on it.

        Returns:
            The records with decision and edit columns, in their order, and a frame of statistics
            (first column `id`) of those that reached the rules.
        """
        records = self._normalise(records, threads)
        records = undecided(self._with_language(records, threads))
        empty = pl.col("text").str.strip_chars() == ""
        records = _drop(records, empty, "read", "empty_text", "characters", pl.lit(0.0), 1.0)
        records = self._drop_languages(records)
        return self._filter(records, threads)

    def _normalise(self, records: pl.DataFrame, threads: int) -> pl.DataFrame:
        if self._normaliser is None:
            return records
        clean = self._normaliser.run(records["text"], records["source"], threads=threads)
        records = with_ids(records.drop("id").with_columns(clean["text"]), threads)
        counts, characters = clean["edits"].struct.unnest(), clean["characters"].struct.unnest()
        # Kinds of edit that were never made would be most of a part's columns.
        made = [name for name in counts.columns if (counts[name] > 0).any()]
        columns = [counts[name].alias(f"normalise.{name}") for name in made]
        columns += [characters[name].alias(f"normalise.{name}#characters") for name in made]
        return records.with_columns(columns)

    def _with_language(self, records: pl.DataFrame, threads: int) -> pl.DataFrame:
        unknown = records["lang"].is_null() & (records["source"] != _CODE)
        if not self._config.language.enabled or not unknown.any():
            return records
        texts = records.filter(unknown)["text"]
        found = detect_language(texts, script=True, languages=True, threads=threads)
        rows = unknown.arg_true()
        lang = records["lang"].clone().scatter(rows, found["lang"])
        score = records["lang_score"].clone().scatter(rows, found["lang_score"])
        records = records.with_columns(lang, score)
        facts = language_facts(found)
        rows = rows.filter(facts.is_not_null())
        meta = add_facts(records["meta"].gather(rows), facts.drop_nulls())
        return records.with_columns(records["meta"].clone().scatter(rows, meta))

    def _drop_languages(self, records: pl.DataFrame) -> pl.DataFrame:
        config = self._config.language
        score = pl.col("lang_score").cast(pl.Float64)
        if config.keep:
            unwanted = ~pl.col("lang").is_in(config.keep).fill_null(value=False)
            unwanted &= pl.col("source") != _CODE
            records = _drop(records, unwanted, "language", "unwanted_language", "lang_score", score)
        if config.min_score > 0:
            unsure = (score < config.min_score).fill_null(value=False)
            records = _drop(
                records, unsure, "language", "uncertain_language", "lang_score", score,
                config.min_score,
            )  # fmt: skip
        return records

    def _filter(self, records: pl.DataFrame, threads: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        if self._rules is None:
            return records, pl.DataFrame(schema={"id": pl.String})
        open_rows = records["stage"].is_null()
        rows = open_rows.arg_true()
        decisions, metrics = apply_rules(
            records.filter(open_rows), self._rules, threads, compat=self._config.filter.compat
        )
        dropped = ~decisions["keep"]
        columns = {
            "stage": pl.repeat("rules", len(rows), dtype=pl.String, eager=True),
            **{name: decisions[name] for name in ("reason", "metric", "value", "threshold")},
        }
        rows = rows.filter(dropped)
        for name, values in columns.items():
            kind = records.schema[name]
            column = records[name].clone().scatter(rows, values.filter(dropped).cast(kind))
            records = records.with_columns(column)
        return records, metrics


def _drop(
    records: pl.DataFrame,
    condition: pl.Expr,
    stage: str,
    reason: str,
    metric: str,
    value: pl.Expr,
    threshold: float | None = None,
) -> pl.DataFrame:
    """Decide against open records that meet `condition`."""
    here = condition & pl.col("stage").is_null()
    columns = {
        "stage": pl.lit(stage),
        "reason": pl.lit(reason),
        "metric": pl.lit(metric),
        "value": value,
        "threshold": pl.lit(threshold, pl.Float64),
    }
    return records.with_columns(
        pl.when(here).then(expression).otherwise(pl.col(name)).alias(name)
        for name, expression in columns.items()
    )
