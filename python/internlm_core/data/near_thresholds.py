"""Records nearest a threshold, on both sides of it: what a change of it would let in or out."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING

import polars as pl

from internlm_core.data.run_folder import RunFolder
from internlm_core.errors import ConfigError, DataError
from internlm_core.report.numbers import count_of, short_number

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from internlm_core.report import Section

__all__ = ["borderline", "print_borderline", "sections"]


def borderline(
    folder: str | Path,
    metric: str,
    threshold: float | None = None,
    n: int = 5,
    *,
    lang: str | None = None,
    source: str | None = None,
) -> pl.DataFrame:
    """The records of a finished run whose statistic is nearest a threshold.

    Args:
        folder: The run folder.
        metric: A statistic of `internlm_core.data.METRICS`.
        threshold: Where to look; default: the run's own bound, where it has only one.
        n: Records on each side.
        lang: Only records in this language.
        source: Only records of this source.

    Returns:
        At most `2 n` rows by rising value: `side` (`below`, or `above` for the threshold itself and
        more), `value`, `distance`, `stage` and `reason` (null for what was kept), `id`, `source`,
        `lang`, `url`, `text`. Of records as near as each other those of the smallest id, so the
        answer is the same each time.

    Raises:
        ConfigError: The run has no such statistic, or there is no threshold to tell by.
        DataError: The folder holds no finished run, or no record was judged.
    """
    where = RunFolder(folder)
    run = where.read()
    if n < 1:
        raise ConfigError(f"n = {n}: at least one record a side")
    metrics = where.scan("metrics")
    known = (
        [name for name in metrics.collect_schema() if name != "id"] if metrics is not None else []
    )
    if metrics is None or not known:
        raise DataError(f"{where.path}: no record was judged by rules, so there are no statistics")
    if metric not in known:
        names = get_close_matches(metric, known, 3) or known
        raise ConfigError(f"no statistic {metric!r} in {where.path}; there are {', '.join(names)}")
    limit = _threshold(threshold, metric, run["thresholds"].get(metric, []))
    records = _records(where).filter(
        *([pl.col("lang") == lang] if lang else []),
        *([pl.col("source") == source] if source else []),
    )
    # A text that comes twice has one value, and is one record here.
    values = metrics.select("id", pl.col(metric).cast(pl.Float64).alias("value")).filter(
        pl.col("value").is_finite()
    )
    near = (
        values.unique("id")
        .join(records.select("id").unique(), on="id", how="semi")
        .with_columns(
            side=pl.when(pl.col("value") < limit).then(pl.lit("below")).otherwise(pl.lit("above")),
            distance=(pl.col("value") - limit).abs(),
        )
    )
    picked = pl.concat(
        near.filter(pl.col("side") == side).bottom_k(n, by=["distance", "id"])
        for side in ("below", "above")
    ).collect()
    found = records.filter(pl.col("id").is_in(picked["id"].implode())).collect()
    # Of equal texts the one that stayed speaks for all.
    found = found.sort("stage", "reason", nulls_last=False).unique("id", keep="first")
    columns = (
        "side",
        "value",
        "distance",
        "stage",
        "reason",
        "id",
        "source",
        "lang",
        "url",
        "text",
    )
    result: pl.DataFrame = picked.join(found, on="id").sort("value", "id").select(columns)
    return result


def _records(where: RunFolder) -> pl.LazyFrame:
    columns = ("id", "source", "lang", "url", "text")
    sides = []
    for output in ("kept", "dropped"):
        scan = where.scan(output)
        if scan is None:
            continue
        decision = [pl.lit(None, pl.String).alias(name) for name in ("stage", "reason")]
        sides.append(
            scan.select(*columns, *(("stage", "reason") if output == "dropped" else decision))
        )
    return pl.concat(sides)


def _threshold(given: float | None, metric: str, bounds: list[float]) -> float:
    if given is not None:
        if not math.isfinite(given):
            raise ConfigError(f"threshold = {given}: expected a number")
        return given
    if len(bounds) == 1:
        return bounds[0]
    words = ", ".join(map(short_number, bounds))
    raise ConfigError(
        f"the run has {'the bounds ' + words if bounds else 'no bound'} for {metric!r}; "
        "say with --threshold where to look"
    )


def print_borderline(found: pl.DataFrame, metric: str, console: Console, limit: int = 280) -> None:
    """Show the records in a terminal, a line of facts and the start of the text each."""
    side = None
    for row in found.iter_rows(named=True):
        if row["side"] != side:
            side = row["side"]
            console.rule(f"{metric}: {side} the threshold")
        style = "green" if row["stage"] is None else "red"
        console.print(_facts(row, metric), style=style, markup=False)
        text = " ".join(row["text"].split())
        rest = len(text) - limit
        text = "".join(c if c.isprintable() else "\ufffd" for c in text[:limit])
        console.print(
            text + (f" … {count_of(rest, 'more character')}" if rest > 0 else ""), markup=False
        )
        console.print()
    if found.is_empty():
        console.print(f"no record has a value of {metric}", markup=False)


def sections(found: pl.DataFrame, metric: str) -> list[Section]:
    """The same as parts of a page (`internlm_core.report.page`)."""
    from internlm_core.report import Section, paragraph, sample, stack

    parts = []
    for side in ("below", "above"):
        rows = found.filter(pl.col("side") == side).iter_rows(named=True)
        blocks = [sample(row["text"], caption=_facts(row, metric)) for row in rows]
        body = stack(blocks) if blocks else paragraph("No record lies on this side.")
        parts.append(Section(f"{side.capitalize()} the threshold", body))
    return parts


def _facts(row: dict[str, str | float | None], metric: str) -> str:
    decision = "kept" if row["stage"] is None else f"dropped by {row['stage']}: {row['reason']}"
    value = short_number(float(row["value"] or 0))
    words = [f"{metric} = {value}", decision, row["source"], row["lang"] or "language unknown"]
    words += [row["url"], f"id {str(row['id'])[:8]}…"]
    return " · ".join(str(word) for word in words if word)
