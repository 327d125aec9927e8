"""Rules: a statistic and the range it must lie in; the first that fails is the reason of a drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import polars as pl
from pydantic import Field, field_validator, model_validator

from internlm_core import _core
from internlm_core._config import Config, load_config
from internlm_core.data.compat import words_of
from internlm_core.data.statistics import METRICS, constant
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from internlm_core.data.compat import Compat

__all__ = ["DECISIONS", "Rule", "RuleSet", "apply_rules", "filter", "filter_frame", "load_rules"]

DECISIONS = {
    "id": pl.String,
    "keep": pl.Boolean,
    "reason": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
}
"""Columns of a table of decisions."""


class Rule(Config):
    """One rule; a text fails it when the statistic is below `min` or above `max`."""

    reason: str = Field(min_length=1)
    """Stable name, for example `gopher.word_count`."""
    metric: str
    """A statistic of `internlm_core.data.METRICS`."""
    min: float | None = None
    max: float | None = None

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"unknown statistic; expected one of {', '.join(METRICS)}")
        return metric

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class RuleSet(Config):
    """Rules by kind of text, each list in the order in which it is asked."""

    words: tuple[Rule, ...] = ()
    """For text in scripts that write words apart."""
    characters: tuple[Rule, ...] = ()
    """For Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese and Tibetan."""
    code: tuple[Rule, ...] = ()
    """For records whose source is `code`."""

    def profiles(self) -> tuple[tuple[Rule, ...], ...]:
        """The three lists, numbered as the core numbers them."""
        return (self.words, self.characters, self.code)

    def thresholds(self) -> dict[str, list[float]]:
        """Bounds of each statistic over all lists, for drawing."""
        bounds: dict[str, set[float]] = {}
        for rule in (rule for profile in self.profiles() for rule in profile):
            for bound in (rule.min, rule.max):
                if bound is not None:
                    bounds.setdefault(rule.metric, set()).add(bound)
        return {metric: sorted(values) for metric, values in bounds.items()}


def load_rules(
    source: str | Path | Mapping[str, Any] = "report",
    overrides: Iterable[str] | Mapping[str, Any] = (),
) -> RuleSet:
    """Read rules.

    Args:
        source: The preset `report`, `gopher`, `c4`, `fineweb` or `wanjuan`, a .toml file, or a
            mapping.
        overrides: New bounds by reason: `gopher.word_count.min=20`, or a mapping with such keys.

    Raises:
        ConfigError: An unknown preset, statistic, reason or bound.
    """
    rules = load_config(RuleSet, source, package="internlm_core.data")
    if isinstance(overrides, str):
        overrides = [overrides]
    pairs = (
        [f"{key}={value}" for key, value in overrides.items()]
        if not isinstance(overrides, (list, tuple)) and hasattr(overrides, "items")
        else list(overrides)
    )
    values = rules.model_dump()
    for pair in pairs:
        _rebound(values, pair)
    return load_config(RuleSet, values)


def _rebound(values: dict[str, Any], pair: str) -> None:
    from internlm_core.errors import ConfigError

    key, _, text = pair.partition("=")
    reason, _, bound = key.strip().rpartition(".")
    matching = [rule for profile in values.values() for rule in profile if rule["reason"] == reason]
    if bound not in ("min", "max") or not matching:
        known = sorted({rule["reason"] for profile in values.values() for rule in profile})
        raise ConfigError(
            f"{pair!r}: expected REASON.min=NUMBER or REASON.max=NUMBER with one of the reasons "
            f"{', '.join(known)}"
        )
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(f"{pair!r}: {text!r} is no number") from None
    for rule in matching:
        rule[bound] = number


def apply_rules(
    frame: pl.DataFrame, rules: RuleSet, threads: int = 0, *, compat: Compat = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Judge records, measuring each text once.

    Args:
        frame: Records with `text` and optionally `id`, `lang`, `source`. The source `code` is
            judged by the code rules, else the language decides, or the script where the language is
            not known.
        rules: The rules.
        threads: 0 means all cores; the result does not depend on it.
        compat: Decide as datatrove 0.10 does, by the rules for words whatever the language: over
            spaCy's English words, as datatrove itself (True), or over those between blanks (`blanks`).

    Returns:
        The decisions (`DECISIONS`; reason, metric, value and threshold are null for what is kept)
        and the statistics, both with `id` first and rows as in `frame`.

    Raises:
        DataError: The frame has no column `text`.
        ConfigError: `compat` names words that are not offered.
    """
    if "text" not in frame.columns:
        raise DataError(f"no column 'text'; the frame has {', '.join(frame.columns)}")

    def column(name: str) -> pl.Series:
        # A column without any value has a type of its own.
        return (
            frame[name].cast(pl.String) if name in frame.columns else constant(None, frame.height)
        )

    failed, profile, value, threshold, measured = _core.text_rules(
        frame["text"],
        column("lang"),
        column("source"),
        orjson.dumps(_plain(rules)).decode(),
        words_of(compat),
        threads,
    )
    ids = frame["id"] if "id" in frame.columns else pl.Series(range(frame.height)).cast(pl.String)
    lookup = pl.DataFrame(
        [
            (number, index, rule.reason, rule.metric)
            for number, profile_rules in enumerate(rules.profiles())
            for index, rule in enumerate(profile_rules)
        ],
        schema={"profile": pl.UInt8, "rule": pl.Int32, "reason": pl.String, "metric": pl.String},
        orient="row",
    )
    verdicts = pl.DataFrame(
        {"profile": profile, "rule": failed, "value": value, "threshold": threshold}
    ).join(lookup, on=["profile", "rule"], how="left", maintain_order="left")
    decisions = verdicts.select(
        ids.alias("id"),
        (pl.col("rule") < 0).alias("keep"),
        "reason",
        "metric",
        pl.col("value").fill_nan(None),
        pl.col("threshold").fill_nan(None),
    )
    return decisions, pl.DataFrame({"id": ids, **measured})


def filter_frame(
    frame: pl.DataFrame,
    preset: str | Path | RuleSet = "report",
    *,
    compat: Compat = False,
    threads: int = 0,
) -> pl.DataFrame:
    """Judge records by a preset; `internlm_core.data.filter`.

    Args:
        frame: Records with `text` and optionally `id`, `lang`, `source`.
        preset: A preset's name, a .toml file or rules.
        compat: Decide as datatrove 0.10 does, over spaCy's English words (True) or over those between
            blanks (`blanks`); docs/filters.md says what is covered.
        threads: 0 means all cores.

    Returns:
        One row a record, in order: `id`, `keep`, and for what is dropped `reason`, `metric`,
        `value` and the `threshold` it passed over.
    """
    rules = preset if isinstance(preset, RuleSet) else load_rules(preset)
    return apply_rules(frame, rules, threads, compat=compat)[0]


filter = filter_frame  # noqa: A001  (public as `internlm_core.data.filter`)


def _plain(rules: RuleSet) -> dict[str, Any]:
    return {
        name: [rule.model_dump() for rule in getattr(rules, name)] for name in RuleSet.model_fields
    }
