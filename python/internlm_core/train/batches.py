"""A step's rows, dealt to the ranks and cut into forward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from internlm_core.train.stream import IGNORE, to_arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from internlm_core.tokenizer import Shard
    from internlm_core.train.ranks import Ranks
    from internlm_core.train.stream import Row

    Arrays = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]

__all__ = ["dealt", "micro_batches", "padded", "source_of"]


def source_of(row: Row) -> str:
    """The source of a row, whichever of its streams it is from."""
    return row.source.partition("/")[0]


def micro_batches(rows: Sequence[Row], capacity: int) -> list[list[Row]]:
    """Rows in forward passes of at most `capacity` tokens, each of a single source.

    So the loss of each source is known without looking at single tokens; it costs at most a
    half-filled pass for each source and step.
    """
    parts: list[list[Row]] = []
    room = 0
    source = None
    for row in sorted(rows, key=source_of):
        if row.tokens > room or source_of(row) != source:
            parts.append([])
            room, source = capacity, source_of(row)
        parts[-1].append(row)
        room -= row.tokens
    return parts


def dealt(rows: Sequence[Row], capacity: int, ranks: Ranks) -> list[list[Row]]:
    """This rank's forward passes; empty ones at the end make their number the same on all ranks."""
    hands = [
        micro_batches(rows[rank :: ranks.data_size], capacity) for rank in range(ranks.data_size)
    ]
    mine = hands[ranks.data_rank]
    return mine + [[] for _ in range(max(map(len, hands)) - len(mine))]


def padded(rows: Sequence[Row], shards: Sequence[Shard], multiple: int) -> Arrays:
    """`to_arrays`, with a document without labels behind it where the length needs one.

    Args:
        rows: May be empty.
        shards: As `Mixer.shards`.
        multiple: The length becomes a multiple of it, and at least one.
    """
    if rows:
        ids, labels, bounds = to_arrays(rows, shards)
    else:
        ids, labels = np.zeros(0, np.int64), np.zeros(0, np.int64)
        bounds = np.zeros(1, np.int32)
    extra = -len(ids) % multiple or (0 if len(ids) else multiple)
    if extra:
        ids = np.concatenate([ids, np.zeros(extra, np.int64)])
        labels = np.concatenate([labels, np.full(extra, IGNORE, np.int64)])
        bounds = np.append(bounds, np.int32(len(ids)))
    return ids, labels, bounds
