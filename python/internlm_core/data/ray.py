"""The map stages and near-duplicates on a Ray cluster, where one machine is not enough (extra `ray`).

`dedup` is that of `internlm_core.data`, over a Ray dataset. `map_batches` puts the stages into a Ray Data pipeline of one's own, as a pure function of an Arrow
table. `run` makes a run folder, byte for byte that of `Pipeline.run`: the workers read the files and
make the parts, in any order; deduplication and the shards come after, in this process.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import orjson
import polars as pl

from internlm_core._optional import require
from internlm_core.data.config import PipelineConfig
from internlm_core.data.ledger import DECISION
from internlm_core.data.map_stages import MapStages, edit_columns
from internlm_core.data.parts import Parts
from internlm_core.data.ray_dedup import dedup
from internlm_core.data.records import SCHEMA, RecordDefaults, repair_text, with_ids
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    import ray.data as ray_data

    from internlm_core.data.pipeline import Pipeline, RunSummary
    from internlm_core.data.readers import InputGroup

__all__ = ["dedup", "map_batches", "map_table", "run"]


def map_table(
    table: pa.Table, config: PipelineConfig, defaults: RecordDefaults | None = None
) -> pa.Table:
    """Take a table of records through normalise, language and filter; a pure function.

    Args:
        table: A column `text` of strings, and any of the other columns of a record
            (`internlm_core.data.SCHEMA`); further columns are left out.
        config: The configuration; of it the settings of the three stages are used.
        defaults: What a record gets whose table does not say; the source is then `corpus`.

    Returns:
        The records in their order with `stage`, `reason`, `metric`, `value` and `threshold` (null
        for what is kept), `edits` (JSON object of the edits that were made, by kind, or null) and
        `metrics` (a struct of the statistics, null where the rules did not get to see the record).

    Raises:
        DataError: There is no column `text` of strings.
    """
    frame = _records(table, defaults or RecordDefaults("corpus"))
    stages = _stages(config.model_dump_json())
    decided, metrics = stages.run(frame, 1)
    result = decided.select([*SCHEMA, *DECISION]).with_columns(_edits(decided))
    if metrics.width > 1:
        # Rows that the rules did not see are those that an earlier stage decided.
        seen = (decided["stage"].is_null() | (decided["stage"] == "rules")).arg_true()
        names = metrics.columns[1:]
        struct = metrics.select(pl.struct(names).alias("metrics")).with_columns(row=seen)
        result = (
            result.with_row_index("row")
            .join(struct.cast({"row": pl.UInt32}), on="row", how="left", maintain_order="left")
            .drop("row")
        )
    return result.to_arrow(compat_level=pl.CompatLevel.oldest())


def map_batches(
    dataset: ray_data.Dataset,
    config: PipelineConfig,
    *,
    defaults: RecordDefaults | None = None,
    batch_size: int = 4_096,
    **options: Any,
) -> ray_data.Dataset:
    """`map_table` over a Ray dataset, batch by batch on the cluster's workers.

    Args:
        dataset: Rows with a column `text`.
        config: The configuration.
        defaults: As for `map_table`.
        batch_size: Rows in a batch; the result does not depend on it.
        **options: Further ones of `ray.data.Dataset.map_batches`, such as `concurrency`.
    """
    require("ray", extra="ray")
    return dataset.map_batches(
        # With more arguments than a batch, as `fn_args` is for, which Ray's own types leave out.
        cast("Any", _map_batch),
        batch_format="pyarrow",
        batch_size=batch_size,
        fn_args=(config.model_dump_json(), defaults),
        **{"num_cpus": 1, **options},
    )


def run(pipeline: Pipeline, out: str | Path, *, quiet: bool = False, **options: Any) -> RunSummary:
    """`Pipeline.run` with reading and map stages on the workers of a Ray cluster.

    A file is one task, so give the corpus in some times as many files as there are workers. Inputs
    and run folder must lie where every worker finds them under the same path. A run that was
    stopped goes on, by this call or by `Pipeline.run`.

    Args:
        pipeline: The configuration and its sources.
        out: The run folder.
        quiet: Show no progress of ours; Ray's own is set by its `DataContext`.
        **options: Of `ray.data.Dataset.map_batches`.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError, DataError, FolderBusyError: As for `Pipeline.run`.
    """
    data = require("ray.data", extra="ray")
    config = pipeline.config.model_dump_json()

    def make_parts(parts: Parts, groups: dict[int, InputGroup]) -> None:
        items = [{"number": number} for number in groups]
        tasks = data.from_items(items, override_num_blocks=len(items)).map_batches(
            _make_group,
            batch_format="pyarrow",
            batch_size=1,
            fn_args=(config, parts.folder.resolve(), _absolute(groups)),
            **{"num_cpus": 1, **options},
        )
        for _ in tasks.iter_batches(batch_format="pyarrow"):
            pass

    return pipeline.run(out, quiet=quiet, map_engine=make_parts)


def _make_group(
    table: pa.Table, config: str, folder: Path, groups: dict[int, InputGroup]
) -> pa.Table:
    limits = PipelineConfig.model_validate_json(config).limits()
    for number in table["number"].to_pylist():
        Parts(folder).make_groups([(number, groups[number])], limits, _stages(config), 1)
    return table


def _map_batch(table: Any, config: str, defaults: RecordDefaults | None) -> Any:
    return map_table(table, PipelineConfig.model_validate_json(config), defaults)


def _absolute(groups: dict[int, InputGroup]) -> dict[int, InputGroup]:
    """The same files under paths that hold in any working folder."""
    return {
        number: replace(
            group, files=[replace(file, path=file.path.resolve()) for file in group.files]
        )
        for number, group in groups.items()
    }


@lru_cache(maxsize=4)
def _stages(config: str) -> MapStages:
    return MapStages(PipelineConfig.model_validate_json(config))


def _records(table: pa.Table, defaults: RecordDefaults) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(table))
    if frame.schema.get("text") != pl.String:
        found = ", ".join(f"{name}: {kind}" for name, kind in frame.schema.items())
        raise DataError(f"expected a column 'text' of strings, the table has {found or 'nothing'}")
    columns = []
    for name, kind in SCHEMA.items():
        column = (
            pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, kind).alias(name)
        )
        default = getattr(defaults, name, None)
        columns.append(column if default is None else column.fill_null(default))
    frame = frame.select(columns).with_columns(pl.col("text").fill_null(""))
    frame, _ = repair_text(frame)
    # An id of the table's own is kept in `meta`, as the readers keep it.
    return with_ids(frame if frame["id"].null_count() < frame.height else frame.drop("id"), 1)


def _edits(frame: pl.DataFrame) -> pl.Series:
    """The edits of each record as JSON, for a column whose type depends on no batch."""
    names = edit_columns(frame)
    rows = frame.select(names).iter_rows() if names else [()] * frame.height
    made = ({n: c for n, c in zip(names, row, strict=True) if c} for row in rows)
    texts = [orjson.dumps(edits).decode() if edits else None for edits in made]
    return pl.Series("edits", texts, dtype=pl.String)
