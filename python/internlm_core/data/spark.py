"""Near-duplicates on a Spark cluster, where the data already lies there (extra `spark`).

The texts are signed and decided by `mapInArrow`; all between is Spark's own SQL: window functions for
copies and buckets, joins for components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from internlm_core._config import load_config
from internlm_core._optional import require
from internlm_core.data import engine_dedup as steps
from internlm_core.data.dedup_input import COLUMNS
from internlm_core.data.near_duplicates import DedupConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa
    from pyspark.sql import DataFrame

__all__ = ["dedup"]


def dedup(
    frame: DataFrame,
    threshold: float = 0.7,
    *,
    partitions: int | None = None,
    reliable: bool = False,
    **settings: Any,
) -> DataFrame:
    """`internlm_core.data.dedup` over a Spark frame: the same rows with the same decisions.

    Components of documents that share bands are found by joins (alternating stars, Kiveris et al.
    2014) until nothing changes, then decided by one task each, as `dedup` does. The frame is
    read twice, so its rows must not differ from one reading to the next.

    Args:
        frame: Columns `id` and `text`, and optionally `snapshot`, `score` and `source`. Ids should
            differ: a row is told from another one by these columns alone.
        threshold: Smallest Jaccard similarity of shingle sets at which two documents are duplicates.
        partitions: Parts into which components are put to be decided; as many as Spark's shuffles
            have by default. The outcome does not depend on it.
        reliable: Store intermediate tables in the checkpoint folder of the SparkContext, so that the
            loss of an executor does not end the job; otherwise on the executors' disks.
        **settings: Further ones of `internlm_core.data.dedup`; `max_memory` bounds what a task takes
            to decide, the rest goes to its disk; a GiB of texts by default.

    Returns:
        A row for each of the input, in no order: `id`, `cluster`, `keep`, `jaccard`, `duplicate_of`,
        as `internlm_core.data.dedup`.

    Raises:
        MissingExtraError: Spark is not installed.
        ConfigError: A setting is unknown or out of range.
        DataError: There is no column `id` or `text`.
    """
    functions: Any = require("pyspark.sql.functions", extra="spark")
    window: Any = require("pyspark.sql.window", extra="spark").Window
    config = load_config(DedupConfig, {"threshold": threshold, **settings})
    steps.require_id(frame.columns)
    col = functions.col
    texts = frame.select(*(name for name in COLUMNS if name in frame.columns))
    told = config.model_dump_json()

    def stored(table: DataFrame) -> DataFrame:
        return table.checkpoint() if reliable else table.localCheckpoint()

    signed = stored(texts.mapInArrow(_signer(told), _signed_schema(texts)))
    nothing = col("shingles") == 0
    same = window.partitionBy("shingles", "low", "high", functions.when(nothing, col("row")))
    ordered = same.orderBy("order", col("keys").isNull())
    rows = stored(
        signed.select(
            "id",
            "row",
            "node",
            "keys",
            functions.first("row").over(ordered).alias("leader"),
            functions.first("id").over(ordered).alias("leader_id"),
            (nothing | (functions.row_number().over(ordered) == 1)).alias("first"),
            (~nothing).alias("compared"),
        )
    )
    members = rows.where(col("first") & col("compared")).select(
        "node", functions.explode("keys").alias("key")
    )
    lowest = functions.min("node").over(window.partitionBy("key"))
    edges = members.select(col("node").alias("u"), lowest.alias("v")).where("u <> v").distinct()
    stars = _components(edges, functions, stored)
    labels = stars.select(col("u").alias("node"), col("v").alias("label")).union(
        stars.select(col("v").alias("node"), col("v").alias("label")).distinct()
    )
    named = texts.mapInArrow(_namer(), _named_schema(texts)).join(labels, "node").drop("node")
    together = named.repartition(partitions, "label") if partitions else named.repartition("label")
    gone = together.drop("label").mapInArrow(_decider(told), _gone_schema(texts))
    joined = rows.join(gone, "leader", "left").select(
        "id",
        "first",
        functions.coalesce("target", functions.when(~col("first"), col("leader_id"))).alias(
            "duplicate_of"
        ),
        functions.coalesce("jaccard", functions.when(~col("first"), functions.lit(1.0))).alias(
            "jaccard"
        ),
    )
    keep = col("first") & col("jaccard").isNull()
    cluster = functions.when(keep, col("id")).otherwise(col("duplicate_of"))
    return stored(
        joined.select("id", cluster.alias("cluster"), keep.alias("keep"), "jaccard", "duplicate_of")
    )


def _components(edges: DataFrame, functions: Any, stored: Callable[[DataFrame], DataFrame]) -> Any:
    """Edges from each node to the smallest one of its component, which has none."""
    col, least = functions.col, functions.least
    edges = stored(edges)
    while True:
        # Larger neighbours of each node go to its smallest one, or to itself.
        both = edges.union(edges.select(col("v").alias("u"), col("u").alias("v"))).distinct()
        low = both.groupBy("u").agg(
            functions.min("v").alias("low"), functions.count("v").alias("count")
        )
        low = low.select("u", least("u", "low").alias("low"), "count")
        larger = both.join(low, "u")
        settled = larger.where("low < u and count > 1").isEmpty()
        if settled:
            return edges
        edges = stored(
            larger.where("v > u").select(col("v").alias("u"), col("low").alias("v")).distinct()
        )
        # Smaller neighbours of each node, and itself, go to the smallest.
        low = edges.groupBy("u").agg(functions.min("v").alias("low"))
        smaller = edges.join(low, "u").select(col("v").alias("u"), col("low").alias("v"))
        edges = stored(
            smaller.union(low.select("u", col("low").alias("v"))).where("u <> v").distinct()
        )


# --- tasks -----------------------------------------------------------------------------------------


def _signer(config: str) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def sign(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        settings = DedupConfig.model_validate_json(config)
        for batch in batches:
            signed = steps.sign(_read(batch), settings)
            yield from _batches(signed.with_columns(steps.nodes(signed["row"])), batch)

    return sign


def _namer() -> Callable[[Iterator[Any]], Iterator[Any]]:
    def name(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            named = steps.distinct(steps.named(_read(batch))).drop("order")
            yield from _batches(named.with_columns(steps.nodes(named["row"])), batch)

    return name


def _decider(config: str) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        settings = DedupConfig.model_validate_json(config)
        first = next(batches, None)
        if first is None:
            return

        def frames() -> Iterator[pl.DataFrame]:
            yield _read(first)
            yield from map(_read, batches)

        yield from _batches(steps.decide(frames(), settings), first)

    return decide


def _read(batch: pa.RecordBatch) -> pl.DataFrame:
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    frame = steps.read_table(table)
    if "row" in table.column_names:
        frame = frame.with_columns(pl.Series("row", pl.from_arrow(table["row"]), dtype=pl.Binary))
    return frame


def _batches(frame: pl.DataFrame, like: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """As Spark wants them: with its own types of strings, and ids of the type that they came with."""
    import pyarrow as pa

    kinds = {
        pl.Binary: pa.binary(),
        pl.String: pa.string(),
        pl.List(pl.Int64): pa.list_(pa.int64()),
    }
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    given = {field.name: field.type for field in like.schema}
    fields = []
    for name, kind in frame.schema.items():
        own = given.get("id" if name == "target" else name)
        fields.append(pa.field(name, own or kinds.get(kind) or table.schema.field(name).type))
    yield from table.cast(pa.schema(fields)).to_batches()


def _signed_schema(texts: DataFrame) -> Any:
    types: Any = require("pyspark.sql.types", extra="spark")
    long, binary = types.LongType(), types.BinaryType()
    schema = types.StructType([texts.schema["id"]])
    for name in ("row", "order"):
        schema = schema.add(name, binary)
    for name in ("shingles", "low", "high"):
        schema = schema.add(name, long)
    return schema.add("keys", types.ArrayType(long)).add("node", long)


def _named_schema(texts: DataFrame) -> Any:
    types: Any = require("pyspark.sql.types", extra="spark")
    order = [name for name in COLUMNS if name in texts.columns]
    schema = types.StructType([texts.schema[name] for name in order])
    return schema.add("row", types.BinaryType()).add("node", types.LongType())


def _gone_schema(texts: DataFrame) -> Any:
    types: Any = require("pyspark.sql.types", extra="spark")
    schema = types.StructType().add("leader", types.BinaryType())
    return schema.add("target", texts.schema["id"].dataType).add("jaccard", types.DoubleType())
