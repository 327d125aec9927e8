"""Stages of a run that look at all open records at once, before near-duplicates.

Test sets, addresses, equal texts, lines and passages, in this order. They hold the texts in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core._config import Config
from internlm_core._progress import Task
from internlm_core.data.contamination import ContaminationConfig, decontaminate
from internlm_core.data.dedup_input import text_frame, text_frames
from internlm_core.data.exact_duplicates import dedup_exact, dedup_urls
from internlm_core.data.ledger import DECISION
from internlm_core.data.readers import SourceSpec, find_files
from internlm_core.data.records import with_ids
from internlm_core.data.repeated_text import (
    LineDedupConfig,
    SubstringConfig,
    cut_lines,
    cut_substrings,
)
from internlm_core.data.shards import write_parquet
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from internlm_core.data.readers import InputFile

__all__ = ["RepeatsConfig", "repeat_stages", "test_files"]

_COLUMNS = ("id", "text", "source", "url", "snapshot")
_DUPLICATE: dict[str, type[pl.DataType]] = {"duplicate_of": pl.String, "cluster": pl.String}


class TestSetsConfig(ContaminationConfig):
    """Records that hold items of test sets go."""

    paths: tuple[str, ...] = ()
    """Files, folders or patterns with the items, a record each; relative to where the command is run.
    None: no test sets."""


class UrlConfig(Config):
    """Of records with one address one stays."""

    enabled: bool = False
    ignore: tuple[str, ...] = ()
    """Query parameters that do not tell pages apart."""


class ExactConfig(Config):
    """Of equal texts one stays. Near-duplicates include them: for runs without these."""

    enabled: bool = False


class LinesConfig(LineDedupConfig):
    """Lines or paragraphs that another record has are cut."""

    enabled: bool = False


class PassagesConfig(SubstringConfig):
    """Passages that stand elsewhere are cut."""

    enabled: bool = False


class RepeatsConfig(Config):
    """What goes before near-duplicates are looked for; nothing by default."""

    tests: TestSetsConfig = TestSetsConfig()
    urls: UrlConfig = UrlConfig()
    exact: ExactConfig = ExactConfig()
    lines: LinesConfig = LinesConfig()
    substrings: PassagesConfig = PassagesConfig()

    @property
    def enabled(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.tests.paths) or any(
            stage.enabled for stage in (self.urls, self.exact, self.lines, self.substrings)
        )


def test_files(config: RepeatsConfig) -> list[InputFile]:
    """The files with test sets; a changed one makes another run.

    Raises:
        DataError: A path leads to nothing.
    """
    files: list[InputFile] = []
    for path in config.tests.paths:
        found = find_files([SourceSpec(path)]).files
        if not found:
            raise DataError(
                f"{path}: no file with a test set there; check repeats.tests.paths, which are "
                "relative to where the command is run"
            )
        files += found
    return files


def repeat_stages(
    config: RepeatsConfig, parts: list[Path], folder: Path, threads: int = 0, *, quiet: bool = False
) -> list[Path]:
    """Make of each part of a run one in which these stages have decided and cut.

    A record whose text was cut gets the id of what is left of it. Of one that is left empty the text
    stays whole, for it goes to the dropped ones.

    Args:
        config: The stages.
        parts: Record frames with decisions, as the map stages leave them.
        folder: Where the new parts go; those that are there are left alone.
        threads: 0 means all cores; the outcome does not depend on it.
        quiet: Show no progress.

    Returns:
        The new parts, in the order of the old ones.

    Raises:
        DataError: A test set can't be read, or the disk is full.
    """
    targets = [folder / part.name for part in parts]
    if all(target.exists() for target in targets):
        return targets
    folder.mkdir(parents=True, exist_ok=True)
    frames = [pl.read_parquet(part, columns=[*_COLUMNS, "stage"]) for part in parts]
    whole = pl.concat(frames)
    open_rows = whole["stage"].is_null()
    with Task("Finding repeated text", whole.height, quiet=quiet) as task:
        decided = _decide(whole.filter(open_rows).select(_COLUMNS), config, threads)
        task.advance(whole.height)
    start = 0
    for part, target, old in zip(parts, targets, frames, strict=True):
        here = old["stage"].is_null()
        new = decided.slice(start, int(here.sum()))
        start += new.height
        if not target.exists():
            write_parquet(_entered(pl.read_parquet(part), here, new, threads), target)
    return targets


def _decide(frame: pl.DataFrame, config: RepeatsConfig, threads: int) -> pl.DataFrame:
    """The open records with decisions, what they are copies of, edits, and texts that are left."""
    frame = frame.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in {**DECISION, **_DUPLICATE}.items()
    )

    def rest() -> tuple[pl.Series, pl.DataFrame]:
        rows = frame["stage"].is_null().arg_true()
        return rows, frame[rows.to_list()].select(_COLUMNS)

    if config.tests.paths:
        tests = pl.concat(
            [
                part.select("id", "text")
                for path in config.tests.paths
                for part in text_frames(path, 1 << 25)
            ]
        )
        rows, records = rest()
        settings = config.tests.model_dump(exclude={"paths"})
        found = decontaminate(records, tests, threads=threads, **settings)
        frame = _drop(
            frame, rows, found["keep"], "test_set", "overlap", found["overlap"],
            config.tests.min_overlap, found["test_id"],
        )  # fmt: skip
    if config.urls.enabled:
        rows, records = rest()
        found = dedup_urls(records, ignore=config.urls.ignore, threads=threads)
        copies = found["duplicate_of"]
        frame = _drop(frame, rows, found["keep"], "same_url", "url", None, None, copies)
    if config.exact.enabled:
        rows, records = rest()
        found = dedup_exact(records, threads=threads)
        copies = found["duplicate_of"]
        frame = _drop(frame, rows, found["keep"], "same_text", "text", None, None, copies)
    for name, stage in (("lines", config.lines), ("substrings", config.substrings)):
        if not stage.enabled:
            continue
        rows, records = rest()
        texts = text_frame(records)
        if isinstance(stage, LineDedupConfig):
            found = cut_lines(texts, stage, threads)
        else:
            found = cut_substrings(texts, stage, threads)
        reason = f"repeated_{name}"
        frame = _drop(frame, rows, found["keep"], reason, "cut_bytes", found["cut_bytes"], None)
        edited = found["keep"] & (found["cut"] > 0)
        characters = records["text"].str.len_chars() - found["text"].str.len_chars()
        where = rows.filter(edited)
        zeros = pl.repeat(0, frame.height, dtype=pl.UInt32, eager=True)
        frame = frame.with_columns(
            frame["text"].scatter(where, found["text"].filter(edited)),
            zeros.clone().scatter(where, found["cut"].filter(edited)).alias(f"repeats.{reason}"),
            zeros.clone()
            .scatter(where, characters.filter(edited).cast(pl.UInt32))
            .alias(f"repeats.{reason}#characters"),
        )
    return frame


def _drop(
    frame: pl.DataFrame,
    rows: pl.Series,
    keep: pl.Series,
    reason: str,
    metric: str,
    value: pl.Series | None,
    threshold: float | None,
    copy_of: pl.Series | None = None,
) -> pl.DataFrame:
    """Decide against those of the records at `rows` that are not kept."""
    gone = ~keep
    where, count = rows.filter(gone), int(gone.sum())
    ones = pl.repeat(1.0, len(keep), dtype=pl.Float64, eager=True)
    measured = ones if value is None else value.cast(pl.Float64)
    entered: dict[str, Any] = {
        "stage": pl.repeat("repeats", count, dtype=pl.String, eager=True),
        "reason": pl.repeat(reason, count, dtype=pl.String, eager=True),
        "metric": pl.repeat(metric, count, dtype=pl.String, eager=True),
        "value": measured.filter(gone),
        "threshold": pl.repeat(threshold, count, dtype=pl.Float64, eager=True),
    }
    if copy_of is not None:
        entered |= dict.fromkeys(_DUPLICATE, copy_of.filter(gone).cast(pl.String))
    return frame.with_columns(
        frame[name].clone().scatter(where, values).alias(name) for name, values in entered.items()
    )


def _entered(
    part: pl.DataFrame, here: pl.Series, decided: pl.DataFrame, threads: int
) -> pl.DataFrame:
    """The part with the decisions on its open records."""
    rows = here.arg_true()
    part = part.with_columns(pl.lit(None, kind).alias(name) for name, kind in _DUPLICATE.items())
    edits = [name for name in decided.columns if name.startswith("repeats.")]
    made = [name for name in edits if (decided[name] > 0).any()]
    part = part.with_columns(pl.lit(0, pl.UInt32).alias(name) for name in made)
    part = part.with_columns(
        part[name].clone().scatter(rows, decided[name])
        for name in (*DECISION, *_DUPLICATE, "text", *made)
    )
    # The id is a hash of what is stored.
    return part.with_columns(with_ids(part.drop("id"), threads)["id"]) if made else part
