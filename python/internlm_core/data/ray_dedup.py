"""Near-duplicates on a Ray cluster; see `internlm_core.data.ray.dedup`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from internlm_core._config import load_config
from internlm_core._optional import require
from internlm_core.data import engine_dedup as steps
from internlm_core.data.near_duplicates import DedupConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    import ray.data as ray_data

__all__ = ["dedup"]

_ONE_WORKER = 20_000_000
"""Edges up to which components are found by one worker: 320 MB, and some times that to work in."""


def dedup(
    dataset: ray_data.Dataset,
    threshold: float = 0.7,
    *,
    partitions: int | None = None,
    threads: int = 1,
    **settings: Any,
) -> ray_data.Dataset:
    """`internlm_core.data.dedup` over a Ray dataset: the same rows with the same decisions.

    Workers sign batches; Ray's shuffle brings rows of one identity and keys of one band together;
    components of documents that share bands are decided by one worker each, as `dedup` does.
    The dataset is read twice, the second time for the texts of such documents alone.

    Args:
        dataset: Rows with `id` and `text`, and optionally `snapshot`, `score` and `source`. Ids
            should differ: a row is told from another one by these columns alone.
        threshold: Smallest Jaccard similarity of shingle sets at which two documents are duplicates.
        partitions: Parts of each shuffle; four a CPU of the cluster by default. The outcome does
            not depend on it. A part must fit in the memory of a worker.
        threads: CPUs, and threads, of a worker that signs or decides.
        **settings: Further ones of `internlm_core.data.dedup`; `max_memory` bounds what a worker
            takes to decide, beside the texts that Ray hands it.

    Returns:
        A materialised dataset, a row for each of the input, in no order: `id`, `cluster`, `keep`,
        `jaccard`, `duplicate_of`, as `internlm_core.data.dedup`.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: A setting is unknown or out of range.
        DataError: There is no column `id` or `text`.
    """
    ray = require("ray", extra="ray")
    data = require("ray.data", extra="ray")
    config = load_config(DedupConfig, {"threshold": threshold, **settings})
    schema = dataset.schema()
    if schema is not None:
        steps.require_id(schema.names)
    if schema is None or not dataset.limit(1).count():
        # Blocks without rows never reach a step, so nobody would name their columns.
        return cast("ray_data.Dataset", data.from_arrow([_empty()]))
    parts = partitions or max(1, 4 * int(ray.cluster_resources().get("CPU", 1)))
    told, work = config.model_dump_json(), _Work(parts, threads)
    signed = work.texts(dataset, _sign, told, parts, threads)
    rows = work.shuffle(signed, _first_rows).materialize()
    edges = work.shuffle(work.map(rows, _members, parts), _bucket_edges).materialize()
    decided = work.map(rows, _slim, parts)
    if edges.count():
        # Each machine has these once, in shared memory.
        labels = ray.put(_components(work, edges))
        texts = work.texts(dataset, _labelled, parts, threads, [labels])
        gone = work.shuffle(texts, _decide, told, threads, num_cpus=threads).materialize()
        if gone.count():
            decided = decided.union(work.map(gone, _as_rows, parts))
    return cast("ray_data.Dataset", work.shuffle(decided, _finish).materialize())


@dataclass(frozen=True)
class _Work:
    """How steps are put on the cluster."""

    parts: int
    threads: int

    def texts(self, dataset: ray_data.Dataset, step: Callable[..., Any], *more: Any) -> Any:
        """The step over batches of rows with texts."""
        return dataset.map_batches(
            # With more arguments than a batch, as `fn_args` is for, which Ray's own types leave out.
            cast("Any", step),
            batch_format="pyarrow",
            batch_size=4_096,
            fn_args=more,
            num_cpus=self.threads,
        )

    def map(self, dataset: Any, step: Callable[..., Any], *more: Any) -> Any:
        """The step over blocks without texts."""
        return dataset.map_batches(
            step, batch_format="pyarrow", batch_size=None, fn_args=more, num_cpus=1
        )

    def shuffle(self, dataset: Any, step: Callable[..., Any], *more: Any, num_cpus: int = 1) -> Any:
        """The step over all rows with one number in the column `part`."""
        groups = dataset.groupby("part", num_partitions=self.parts)
        return groups.map_groups(step, batch_format="pyarrow", fn_args=more, num_cpus=num_cpus)


def _components(work: _Work, edges: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Nodes in order, and the smallest one that each is joined with."""
    if edges.count() <= _ONE_WORKER:
        table = work.shuffle(work.map(edges, _together), _all_components)
    else:
        table = _components_by_shuffles(work, edges)
    blocks = [_frame(block) for block in _tables(table) if block.num_rows]
    stars = pl.concat([block.select("u", "v") for block in blocks])
    roots = stars.select(u="v", v="v").unique()
    sorted_nodes = pl.concat([stars, roots]).sort("u")
    return sorted_nodes["u"].to_numpy(), sorted_nodes["v"].to_numpy()


def _components_by_shuffles(work: _Work, edges: Any) -> Any:
    while True:
        edges = work.shuffle(work.map(edges, _both_ways, work.parts), _large_star).materialize()
        if not edges.max("open"):
            return edges
        edges = work.shuffle(work.map(edges, _down, work.parts), _small_star).materialize()


def _tables(dataset: Any) -> Sequence[Any]:
    ray = require("ray", extra="ray")
    return cast("Sequence[Any]", ray.get(dataset.to_arrow_refs()))


# --- steps, as Ray calls them: an Arrow table, and what else they need -----------------------------


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def _table(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _empty() -> pa.Table:
    kinds = {"id": pl.String, "cluster": pl.String, "keep": pl.Boolean, "jaccard": pl.Float64}
    return _table(pl.DataFrame(schema={**kinds, "duplicate_of": pl.String}))


def _part(numbers: pl.Series, parts: int) -> pl.Series:
    """Remainders that are never negative: of the bits as they are."""
    return (numbers.reinterpret(signed=False) % parts).cast(pl.Int64).alias("part")


def _sign(table: pa.Table, config: str, parts: int, threads: int) -> pa.Table:
    settings = DedupConfig.model_validate_json(config)
    signed = steps.sign(steps.read_table(table), settings, threads)
    # Rows without shingles are no crowd: each goes by its own name.
    place = pl.select(
        pl.when(signed["shingles"] == 0).then(steps.nodes(signed["row"])).otherwise(signed["low"])
    ).to_series()
    return _table(signed.with_columns(_part(place, parts)))


def _first_rows(table: pa.Table) -> pa.Table:
    return _table(steps.first_rows(_frame(table)))


def _members(table: pa.Table, parts: int) -> pa.Table:
    rows = _frame(table).filter(pl.col("keys").is_not_null())
    members = rows.select(steps.nodes(rows["row"]), key="keys").explode("key")
    return _table(members.with_columns(_part(members["key"], parts)))


def _bucket_edges(table: pa.Table) -> pa.Table:
    return _table(steps.bucket_edges(_frame(table)))


def _together(table: pa.Table) -> pa.Table:
    return _table(_frame(table).with_columns(part=pl.lit(0, pl.Int64)))


def _all_components(table: pa.Table) -> pa.Table:
    return _table(steps.components(_frame(table).select("u", "v")))


def _both_ways(table: pa.Table, parts: int) -> pa.Table:
    edges = steps.both_ways(_frame(table))
    return _table(edges.with_columns(_part(edges["u"], parts)))


def _large_star(table: pa.Table) -> pa.Table:
    return _table(steps.large_star(_frame(table).select("u", "v")))


def _down(table: pa.Table, parts: int) -> pa.Table:
    edges = _frame(table)
    return _table(edges.with_columns(_part(edges["u"], parts)))


def _small_star(table: pa.Table) -> pa.Table:
    return _table(steps.small_star(_frame(table)))


def _labelled(table: pa.Table, parts: int, threads: int, labels: list[Any]) -> pa.Table:
    """Rows that share a band with another one, by component."""
    frame = steps.distinct(steps.named(steps.read_table(table), threads)).drop("order")
    label = steps.lookup(steps.nodes(frame["row"]), *require("ray", extra="ray").get(labels[0]))
    there = label.is_not_null()
    return _table(frame.filter(there).with_columns(_part(label.filter(there), parts)))


def _decide(table: pa.Table, config: str, threads: int) -> pa.Table:
    settings = DedupConfig.model_validate_json(config)
    return _table(steps.decide(_frame(table), settings, threads))


def _slim(table: pa.Table, parts: int) -> pa.Table:
    rows = _frame(table).drop("keys", "row")
    none = (
        pl.lit(None, rows.schema["id"]).alias("target"),
        pl.lit(None, pl.Float64).alias("jaccard"),
    )
    return _table(rows.with_columns(*none, _part(steps.nodes(rows["leader"]), parts)))


def _as_rows(table: pa.Table, parts: int) -> pa.Table:
    """What goes, in the columns of the rows, so that both can be brought together."""
    gone = _frame(table)
    none = [pl.lit(None, gone.schema["target"]).alias(name) for name in ("id", "leader_id")]
    rows = gone.with_columns(*none, pl.lit(None, pl.Boolean).alias("first"))
    columns = ("id", "leader", "leader_id", "first", "target", "jaccard")
    return _table(rows.select(*columns, _part(steps.nodes(gone["leader"]), parts)))


def _finish(table: pa.Table) -> pa.Table:
    frame = _frame(table)
    rows = frame.filter(pl.col("first").is_not_null()).drop("target", "jaccard", "part")
    gone = frame.filter(pl.col("first").is_null()).select("leader", "target", "jaccard")
    return _table(steps.finish(rows, gone))
