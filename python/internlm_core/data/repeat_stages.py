"""Stages of a run that look at all open records at once, before near-duplicates.

Test sets, addresses, equal texts, lines and passages, in this order (`open_records.py` says how).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core._config import Config
from internlm_core._progress import Task
from internlm_core.data.contamination import ContaminationConfig
from internlm_core.data.ledger import DECISION
from internlm_core.data.open_records import (
    OpenRecords,
    edit_lines,
    edit_passages,
    find_copies,
    find_tests,
)
from internlm_core.data.readers import SourceSpec, find_files
from internlm_core.data.records import with_ids
from internlm_core.data.repeated_text import LineDedupConfig, SubstringConfig
from internlm_core.data.shards import write_parquet
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from internlm_core.data.readers import InputFile

__all__ = ["RepeatsConfig", "repeat_stages", "test_files"]

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
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as temporary:
        records = OpenRecords(parts, Path(temporary))
        with Task("Finding repeated text", sum(records.sizes), quiet=quiet) as task:
            decided = _decide(records, config, threads)
            task.advance(sum(records.sizes))
        start = 0
        for number, (part, target) in enumerate(zip(parts, targets, strict=True)):
            here = decided.slice(start, records.sizes[number])
            start += here.height
            if not target.exists():
                here = here.with_columns(records.read(number, ["text"])["text"])
                write_parquet(_entered(pl.read_parquet(part), here, threads), target)
    return targets


def _decide(records: OpenRecords, config: RepeatsConfig, threads: int) -> pl.DataFrame:
    """Decisions on all open records, what they are copies of, and edits; the texts are edited."""
    height = sum(records.sizes)
    frame = pl.select(
        pl.repeat(None, height, dtype=kind).alias(name)
        for name, kind in {**DECISION, **_DUPLICATE}.items()
    )

    def rest() -> pl.Series:
        return frame["stage"].is_null().arg_true()

    if config.tests.paths:
        rows = rest()
        found = find_tests(records, rows, config.tests, threads)
        frame = _drop(
            frame, rows, found["keep"], "test_set", "overlap", found["overlap"],
            config.tests.min_overlap, found["test_id"],
        )  # fmt: skip
    for column, reason, stage in (
        ("url", "same_url", config.urls),
        ("text", "same_text", config.exact),
    ):
        if stage.enabled:
            rows = rest()
            ignore = stage.ignore if isinstance(stage, UrlConfig) else ()
            found = find_copies(records, rows, column, ignore, threads)
            copies = found["duplicate_of"]
            frame = _drop(frame, rows, found["keep"], reason, column, None, None, copies)
    for name in ("lines", "substrings"):
        settings: LinesConfig | PassagesConfig = getattr(config, name)
        if not settings.enabled:
            continue
        rows = rest()
        if isinstance(settings, LineDedupConfig):
            found = edit_lines(records, rows, settings, threads)
        else:
            found = edit_passages(records, rows, settings, threads)
        reason = f"repeated_{name}"
        frame = _drop(frame, rows, found["keep"], reason, "cut_bytes", found["cut_bytes"], None)
        edited = found["keep"] & (found["cut"] > 0)
        where = rows.filter(edited)
        zeros = pl.repeat(0, height, dtype=pl.UInt32, eager=True)
        frame = frame.with_columns(
            zeros.clone().scatter(where, found["cut"].filter(edited)).alias(f"repeats.{reason}"),
            zeros.clone()
            .scatter(where, found["characters"].filter(edited).cast(pl.UInt32))
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


def _entered(part: pl.DataFrame, decided: pl.DataFrame, threads: int) -> pl.DataFrame:
    """The part with the decisions on its open records."""
    rows = part["stage"].is_null().arg_true()
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
