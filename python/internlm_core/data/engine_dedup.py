"""Deduplication in the steps that an engine of several machines runs: pure functions of tables.

    sign         texts → name and place in keep order of each row, identity, band keys
    first_rows   rows of equal identities → which of them comes first in keep order
    bucket_edges first rows by band key → edges that join each bucket to one of it
    components   edges → the smallest node that each one is joined with
    decide       texts of whole components → which of them go, and for whom
    finish       rows and what goes → what `dedup` returns

Between two steps the engine brings together what belongs together, as each function says. What a
component keeps, the core decides as on one machine, so the outcome is the same.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from internlm_core import _core
from internlm_core.data.dedup_input import COLUMNS, code_rows, keep_keys, text_frame
from internlm_core.data.dedup_on_disk import dedup_streamed
from internlm_core.data.near_duplicates import find_duplicates
from internlm_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from internlm_core.data.near_duplicates import DedupConfig

__all__ = [
    "both_ways",
    "bucket_edges",
    "components",
    "decide",
    "distinct",
    "finish",
    "first_rows",
    "large_star",
    "lookup",
    "named",
    "nodes",
    "read_table",
    "require_id",
    "sign",
    "small_star",
]

IN_MEMORY = 1 << 30
"""Bytes of text of a worker's components up to which it decides them in memory by default."""

IDENTITY = ("shingles", "low", "high")

_BAND = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiples of it differ: keys of different bands are told apart by one column."""


def require_id(names: Any) -> None:
    """Raise a `DataError` unless there are the columns `id` and `text`."""
    missing = [name for name in ("id", "text") if name not in names]
    if missing:
        raise DataError(
            f"no column {missing[0]!r}; the frame has {', '.join(names) or 'no columns'}. An engine "
            "keeps no order of rows, so each needs an id of its own"
        )


def read_table(table: Any) -> pl.DataFrame:
    """An Arrow table as frame with those of `COLUMNS` that it has.

    Raises:
        DataError: There is no column `id` or `text`, or the text is none.
    """
    frame = pl.DataFrame(pl.from_arrow(table))
    require_id(frame.columns)
    frame = text_frame(frame)
    # Batches without a value have a type of their own; others of the same table do not.
    empty = [name for name in COLUMNS if frame.schema.get(name) == pl.Null]
    return frame.with_columns(
        pl.col(name).cast(pl.Float64 if name == "score" else pl.String) for name in empty
    )


def named(frame: pl.DataFrame, threads: int = 1) -> pl.DataFrame:
    """The frame with `order` (bytes that sort in keep order) and `row` (16 bytes, their hash)."""
    order, row = _core.dedup_order_keys(frame["text"], keep_keys(frame), threads)
    return frame.with_columns(
        pl.Series("order", order, dtype=pl.Binary), pl.Series("row", row, dtype=pl.Binary)
    )


def nodes(rows: pl.Series) -> pl.Series:
    """The first eight bytes of the names of rows, as numbers to join by."""
    data = b"".join(rows.to_list())
    return pl.Series("node", np.frombuffer(data, ">i8")[::2].astype(np.int64))


def sign(frame: pl.DataFrame, config: DedupConfig, threads: int = 1) -> pl.DataFrame:
    """What is compared of each document, without its text.

    Returns:
        `id`, `row`, `order`, the identity (`shingles`, `low`, `high`; equal ones are copies, one
        without shingles is like nothing) and `keys`, a list of a number for each band; null where
        another row of the frame with the same identity comes before this one.
    """
    identities, keys = _core.minhash_band_keys(
        frame["text"], code_rows(frame, config.unit), config.options(), threads
    )
    told = keys ^ (np.arange(1, keys.shape[1] + 1, dtype=np.uint64) * _BAND)
    parts = np.ascontiguousarray(identities.T).view(np.int64)
    signed = named(frame, threads).select(
        "id",
        "row",
        "order",
        pl.Series("shingles", parts[0]),
        pl.Series("low", parts[1]),
        pl.Series("high", parts[2]),
        pl.Series("keys", told.view(np.int64), dtype=pl.Array(pl.Int64, config.bands)).cast(
            pl.List(pl.Int64)
        ),
    )
    # Of a page that stands there a million times, few rows then carry keys through a shuffle.
    place = pl.int_range(pl.len())
    first = signed.with_columns(place=place).sort("order", "place").unique(IDENTITY, keep="first")
    is_first = place.is_in(first["place"].implode())
    return signed.with_columns(keys=pl.when(is_first).then("keys"))


def first_rows(signed: pl.DataFrame) -> pl.DataFrame:
    """Which row is the first of those with one identity; all of an identity must be there.

    Returns:
        `id` and `row`; `leader` and `leader_id`, those of the first row; `first`, whether this is
        it; and `keys`, null but for first rows with shingles.
    """
    nothing = pl.col("shingles") == 0
    without = pl.col("keys").is_null()
    ordered = signed.sort("order", without, maintain_order=True).with_columns(
        leader=pl.col("row").first().over(IDENTITY),
        leader_id=pl.col("id").first().over(IDENTITY),
        first=pl.int_range(pl.len()).over(IDENTITY) == 0,
    )
    return ordered.select(
        "id",
        "row",
        leader=pl.when(nothing).then("row").otherwise("leader"),
        leader_id=pl.when(nothing).then("id").otherwise("leader_id"),
        first=nothing | pl.col("first"),
        keys=pl.when(pl.col("first") & ~nothing).then("keys"),
    )


def distinct(frame: pl.DataFrame) -> pl.DataFrame:
    """One row of each name: rows that nothing tells apart need not be carried more than once."""
    return frame.unique("row", keep="first", maintain_order=True)


def bucket_edges(members: pl.DataFrame) -> pl.DataFrame:
    """Edges `u`, `v` from each `node` to the smallest of its bucket; all of a `key` must be there.

    A star, so that a crowd costs its size: whom a document is compared with is decided later.
    """
    centre = members.with_columns(v=pl.col("node").min().over("key"))
    edges = centre.filter(pl.col("node") != pl.col("v")).select(u="node", v="v")
    return edges.unique(maintain_order=True)


def both_ways(edges: pl.DataFrame) -> pl.DataFrame:
    """Each edge from either end."""
    return pl.concat([edges.select("u", "v"), edges.select(u="v", v="u")])


def large_star(edges: pl.DataFrame) -> pl.DataFrame:
    """Join the larger neighbours of each node to its smallest one; all edges of a `u` must be there.

    Source: Kiveris et al. 2014, "Connected Components in MapReduce and Beyond". Edges come both ways.

    Returns:
        `u`, `v`, and `open`, true somewhere unless these are stars already: every node has either
        larger neighbours alone, or one neighbour, which is smaller.
    """
    by_node = edges.unique().with_columns(
        low=pl.min_horizontal("u", pl.col("v").min().over("u")), count=pl.len().over("u")
    )
    opened = (pl.col("low") < pl.col("u")) & (pl.col("count") > 1)
    by_node = by_node.with_columns(open=opened)
    larger = by_node.filter(pl.col("v") > pl.col("u")).select(u="v", v="low", open="open")
    # Where no edge is left to carry the mark, a loop does; the next step drops it.
    marks = by_node.filter("open").select(u="u", v="u", open="open")
    return pl.concat([larger, marks]).group_by("u", "v").agg(pl.col("open").any())


def small_star(edges: pl.DataFrame) -> pl.DataFrame:
    """Join smaller neighbours of each node and itself to the smallest; all of a `u` must be there.

    Edges lead from the larger to the smaller node.
    """
    low = (
        edges.filter(pl.col("u") > pl.col("v"))
        .select("u", "v")
        .unique()
        .with_columns(low=pl.col("v").min().over("u"))
    )
    joined = pl.concat([low.select(u="v", v="low"), low.select(u="u", v="low")])
    return joined.filter(pl.col("u") != pl.col("v")).unique()


def components(edges: pl.DataFrame) -> pl.DataFrame:
    """Components of all edges, here: `u`, and in `v` the smallest node that it is joined with.

    Smallest nodes have no row of their own.
    """
    while True:
        edges = large_star(both_ways(edges))
        if not edges["open"].any():
            return edges.select("u", "v")
        edges = small_star(edges)


def decide(
    frames: pl.DataFrame | Iterator[pl.DataFrame], config: DedupConfig, threads: int = 1
) -> pl.DataFrame:
    """Who goes of whole components; rows as `named` has them.

    Within `config.max_memory`, or else `IN_MEMORY`: what exceeds it is decided on disk.

    Returns:
        `leader` (the name of a row that goes), `target` (id of the kept document) and `jaccard`.
    """
    names: list[pl.Series] = []

    def texts() -> Iterator[pl.DataFrame]:
        for frame in [frames] if isinstance(frames, pl.DataFrame) else frames:
            rows = distinct(frame)
            names.append(rows["row"])
            yield text_frame(rows)

    held: list[pl.DataFrame] = []
    rest, size = texts(), 0
    if config.max_memory is None:
        for rows in rest:
            held.append(rows)
            size += int(rows["text"].str.len_bytes().sum())
            if size > IN_MEMORY:
                break
    if size > IN_MEMORY or config.max_memory is not None:
        bounded = config.model_copy(update={"max_memory": config.max_memory or IN_MEMORY})
        found = dedup_streamed(chain(_handed(held), rest), bounded, None, threads)
    else:
        found = find_duplicates(pl.concat(held), config, threads)
    decided = found.with_columns(leader=pl.concat(names))
    gone = decided.filter(~pl.col("keep"))
    # Rows of one name are equal in all that counts: if one stays, their first one does.
    gone = gone.join(decided.filter("keep"), on="leader", how="anti").unique("leader")
    return gone.select("leader", target="duplicate_of", jaccard="jaccard")


def _handed(held: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Those held, each let go of once it is taken."""
    while held:
        yield held.pop(0)


def finish(rows: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    """What `dedup` returns, of rows as of `first_rows` and what `decide` said of their leaders."""
    copy = ~pl.col("first")
    joined = rows.join(gone, on="leader", how="left", maintain_order="left").with_columns(
        target=pl.coalesce("target", pl.when(copy).then("leader_id")),
        jaccard=pl.coalesce("jaccard", pl.when(copy).then(1.0)),
        keep=pl.col("jaccard").is_null() & pl.col("first"),
    )
    return joined.select(
        "id",
        cluster=pl.when("keep").then("id").otherwise("target"),
        keep="keep",
        jaccard="jaccard",
        duplicate_of="target",
    )


def lookup(
    found: pl.Series, known: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> pl.Series:
    """Label of each node, null for one that is not among the sorted `known`."""
    if not len(known):
        return pl.repeat(None, len(found), dtype=pl.Int64, eager=True)
    numbers = found.to_numpy()
    place = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return pl.Series(labels[place]).set(pl.Series(known[place] != numbers), None)
