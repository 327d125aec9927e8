"""Rows of whole documents: best-fit packing, and an order that is a function of the seed alone."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]

__all__ = ["best_fit", "cut", "shuffled"]


def cut(starts: IntArray, stops: IntArray, window: int) -> IntArray:
    """Cut documents longer than `window` into pieces of at most `window` tokens.

    The rest of a long document is a piece of its own: no token is lost (report §3.3.1).

    Args:
        starts: First token of each document, int64 `[n]`.
        stops: One past its last token, int64 `[n]`.
        window: Most tokens a piece may have.

    Returns:
        int64 `[pieces, 3]`: the document's number, first token, one past the last token.
    """
    counts = -(-(stops - starts) // window)
    document = np.repeat(np.arange(len(starts), dtype=np.int64), counts)
    # Number of each piece within its document: 0, 1, 2, …
    ordinal = np.arange(len(document), dtype=np.int64) - np.repeat(
        np.cumsum(counts) - counts, counts
    )
    first = starts[document] + ordinal * window
    last = np.minimum(first + window, stops[document])
    return np.stack([document, first, last], axis=1)


def best_fit(lengths: IntArray, capacity: int) -> list[list[int]]:
    """Group pieces into rows of at most `capacity` tokens, each where it leaves the least room.

    Best-fit decreasing: longest pieces first, ties by number, so the result depends on the lengths
    alone. It needs at most 11/9 of the fewest rows possible (Johnson 1973); with many short
    documents the rows are all but full.

    Returns:
        Rows, each a list of indices into `lengths`.

    Raises:
        ValueError: A length is below 1 or above `capacity`.
    """
    if len(lengths) and (int(lengths.min()) < 1 or int(lengths.max()) > capacity):
        raise ValueError(f"lengths must be from 1 to {capacity}")
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # room left → rows with that room
    rooms: list[int] = []  # the keys of `open_rows`, rising
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        at = bisect_left(rooms, length)
        if at == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[at]
            row = open_rows[room].pop()
            if not open_rows[room]:
                del open_rows[room]
                del rooms[at]
        rows[row].append(index)
        room -= length
        if room:
            if room not in open_rows:
                insort(rooms, room)
                open_rows[room] = []
            open_rows[room].append(row)
    return rows


def shuffled(n: int, *key: int) -> IntArray:
    """A permutation of 0 … n−1 that depends on `n` and `key` alone, on every machine and version.

    Sorted by SplitMix64 of the index (Steele, Lea & Flood 2014), whose state the key sets.
    """
    state = np.uint64(0)
    for part in key:
        state = _mix(np.array([state + np.uint64(part & (2**64 - 1))]))[0]
    with np.errstate(over="ignore"):
        marks = _mix(np.arange(n, dtype=np.uint64) + state)
    return np.argsort(marks, kind="stable").astype(np.int64)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
