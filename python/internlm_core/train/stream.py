"""Rows of training tokens from shards, in an order that is a function of seed and position alone.

A stream is one source (or short pieces or the long documents of it), cut to the window. Each epoch
visits the pieces in a new order, so that the parts of a book lie far apart; a buffer of pieces at a
time is packed into rows by best fit, and the rows are shuffled. The state of a stream is four
numbers, so a run resumes where it stopped without replaying what went before.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from internlm_core.errors import TrainError
from internlm_core.train.packing import best_fit, cut, shuffled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from internlm_core.tokenizer import Shard
    from internlm_core.train.config import PhaseConfig

    IntArray = npt.NDArray[np.int64]

__all__ = ["IGNORE", "Mixer", "Row", "SourceOver", "Stream", "pieces_of", "to_arrays"]

IGNORE = -100
"""Label of a position without loss."""

_BUFFER_WINDOWS = 256
"""Windows of tokens packed at a time: best fit leaves well under 1 % of room in that many."""


class SourceOver(Exception):  # noqa: N818 - an event that ends a loop, not an error
    """A source with `on_exhausted = "stop"` has come to its end."""


@dataclass(frozen=True)
class Row:
    """Pieces of documents that share a window.

    Attributes:
        source: Name of the stream it comes from.
        pieces: int64 `[n, 4]`: shard, first token, one past the last, end of the document.
    """

    source: str
    pieces: IntArray

    @property
    def tokens(self) -> int:
        """Tokens in the row."""
        return int((self.pieces[:, 2] - self.pieces[:, 1]).sum())


class Stream:
    """Endless rows of one source.

    Args:
        name: Of the source; a part of the order's key.
        shards: Its token shards.
        window: Most tokens of a row.
        seed: Key of the order.
        longer_than: Take only documents of more tokens than this.
        piece: Longest piece; the window when not given.
        repeat: Start over at the end, in another order.
    """

    def __init__(
        self,
        name: str,
        shards: Sequence[Shard],
        window: int,
        seed: tuple[int, ...],
        *,
        longer_than: int = 0,
        piece: int | None = None,
        repeat: bool = True,
    ) -> None:
        self.name, self.window, self._repeat = name, window, repeat
        self._key = (*seed, zlib.crc32(name.encode()))
        tables = [np.zeros((0, 4), np.int64)]
        for number, shard in enumerate(shards):
            offsets = np.asarray(shard.offsets, dtype=np.int64)
            # A document of one token has nothing to predict, but its token still counts as read.
            taken = np.flatnonzero(np.diff(offsets) > longer_than)
            longest = min(window, piece or window)
            tables.append(pieces_of(number, offsets[:-1][taken], offsets[1:][taken], longest))
        self._pieces = np.concatenate(tables)
        self._sizes = self._pieces[:, 2] - self._pieces[:, 1]
        self.epoch_tokens = int(self._sizes.sum())
        self.epoch = self.tokens = 0
        self._first = self._taken = 0  # first piece of the buffer, rows taken from it
        self._rows: list[IntArray] | None = None
        self._next = 0  # first piece after the buffer
        self._order_of: tuple[int, IntArray] | None = None

    def next(self) -> Row:
        """The next row.

        Raises:
            SourceOver: The epoch is over and the source does not repeat.
            TrainError: The stream has no documents.
        """
        if not len(self._pieces):
            raise TrainError(f"source {self.name!r} has no documents for this phase")
        rows = self._packed()
        while self._taken >= len(rows):
            if self._next >= len(self._pieces):
                if not self._repeat:
                    raise SourceOver(self.name)
                self.epoch, self._next = self.epoch + 1, 0
            self._first, self._taken, self._rows = self._next, 0, None
            rows = self._packed()
        row = Row(self.name, rows[self._taken])
        self._taken += 1
        self.tokens += row.tokens
        return row

    def state(self) -> dict[str, int]:
        """Where the stream stands."""
        return {
            "epoch": self.epoch,
            "piece": self._first,
            "row": self._taken,
            "tokens": self.tokens,
        }

    def load(self, state: Mapping[str, int]) -> None:
        """Go to a place that `state` told."""
        self.epoch, self.tokens = int(state["epoch"]), int(state["tokens"])
        self._first, self._taken = int(state["piece"]), int(state["row"])
        self._rows = None

    def _packed(self) -> list[IntArray]:
        if self._rows is None:
            order = self._order()
            # No buffer has more pieces than tokens, so only that many sizes are looked at.
            coming = order[self._first : self._first + _BUFFER_WINDOWS * self.window]
            filled = np.cumsum(self._sizes[coming])
            chosen = coming[: int(np.searchsorted(filled, _BUFFER_WINDOWS * self.window)) + 1]
            self._next = self._first + len(chosen)
            rows = best_fit(self._sizes[chosen], self.window)
            mixed = shuffled(len(rows), *self._key, self.epoch, self._first)
            self._rows = [self._pieces[chosen[rows[i]]] for i in mixed]
        return self._rows

    def _order(self) -> IntArray:
        if self._order_of is None or self._order_of[0] != self.epoch:
            self._order_of = (self.epoch, shuffled(len(self._pieces), *self._key, self.epoch))
        return self._order_of[1]


def pieces_of(shard: int, starts: IntArray, stops: IntArray, window: int) -> IntArray:
    """Documents cut to the window, as `Row.pieces` holds them."""
    pieces = cut(starts, stops, window)
    owner = np.full(len(pieces), shard, np.int64)
    return np.stack([owner, pieces[:, 1], pieces[:, 2], stops[pieces[:, 0]]], axis=1)


class Mixer:
    """The rows of one phase: always from the stream that is furthest behind its share.

    Args:
        sources: Name → shards.
        phase: Window, mixture, share of short documents.
        number: The phase's number, a part of the order's key.
        seed: The run's seed.
        short_length: Longest short piece, where the phase has a `short_fraction`.

    Raises:
        TrainError: The mixture names an unknown source, or a stream has no documents.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Shard]],
        phase: PhaseConfig,
        number: int,
        seed: int,
        short_length: int,
    ) -> None:
        unknown = sorted(set(phase.mixture) - set(sources))
        if unknown:
            raise TrainError(
                f"phase {phase.name!r}: mixture names {', '.join(unknown)}; the shards have"
                f" {', '.join(sorted(sources))}"
            )
        self.shards = [shard for group in sources.values() for shard in group]
        first = 0
        groups: dict[str, tuple[float, list[int]]] = {}
        for name, group in sources.items():
            numbers = list(range(first, first + len(group)))
            first += len(group)
            if not phase.mixture:
                groups.setdefault("all", (1.0, []))[1].extend(numbers)
            elif phase.mixture.get(name, 0) > 0:
                groups[name] = (phase.mixture[name], numbers)
        # Suffix → documents longer than this, longest piece, share.
        parts = {"": (0, phase.sequence_length, 1.0)}
        if phase.short_fraction is not None:
            parts = {
                "/short": (0, short_length, phase.short_fraction),
                "/long": (short_length, phase.sequence_length, 1 - phase.short_fraction),
            }
        self.streams: dict[str, Stream] = {}
        self._weights: dict[str, float] = {}
        self._numbers: dict[str, list[int]] = {}
        whole = sum(weight for weight, _ in groups.values())
        for name, (weight, numbers) in groups.items():
            for suffix, (longer_than, piece, share) in parts.items():
                if share == 0:
                    continue
                stream = Stream(
                    name + suffix,
                    [self.shards[i] for i in numbers],
                    phase.sequence_length,
                    (seed, number),
                    longer_than=longer_than,
                    piece=piece,
                    repeat=phase.on_exhausted == "repeat",
                )
                if not stream.epoch_tokens:
                    raise TrainError(
                        f"phase {phase.name!r}: source {name!r} has no documents of"
                        f" {longer_than + 1} tokens or more; change mixture, short_fraction or"
                        " short_length"
                    )
                self.streams[stream.name] = stream
                self._weights[stream.name] = weight / whole * share
                self._numbers[stream.name] = numbers

    @property
    def epoch_tokens(self) -> int:
        """Tokens of one pass over all documents that the phase selects."""
        return sum(stream.epoch_tokens for stream in self.streams.values())

    @property
    def tokens(self) -> int:
        """Tokens given so far."""
        return sum(stream.tokens for stream in self.streams.values())

    def until_exhausted(self) -> int:
        """Tokens until the first source has been read once, the shares being kept."""
        return min(
            int(stream.epoch_tokens / self._weights[name]) for name, stream in self.streams.items()
        )

    def next(self) -> Row:
        """The next row; its shards are numbered over all sources, as in `shards`.

        Raises:
            SourceOver: Every source is over.
        """
        total, left = self.tokens, set(self.streams)
        while True:
            if not left:
                raise SourceOver
            # Names break ties, so that the choice depends on the counts alone.
            name = max(
                sorted(left), key=lambda n: self._weights[n] * (total + 1) - self.streams[n].tokens
            )
            try:
                row = self.streams[name].next()
            except SourceOver:
                left.remove(name)
            else:
                break
        pieces = row.pieces.copy()
        pieces[:, 0] = np.asarray(self._numbers[name], np.int64)[pieces[:, 0]]
        return Row(name, pieces)

    def state(self) -> dict[str, Any]:
        """Where every stream stands."""
        return {name: stream.state() for name, stream in self.streams.items()}

    def load(self, state: Mapping[str, Mapping[str, int]]) -> None:
        """Go to a place that `state` told."""
        if set(state) != set(self.streams):
            raise TrainError(
                f"the checkpoint's streams {', '.join(sorted(state))} are not this run's"
                f" {', '.join(sorted(self.streams))}"
            )
        for name, stream in self.streams.items():
            stream.load(state[name])


def to_arrays(
    rows: Sequence[Row], shards: Sequence[Shard]
) -> tuple[IntArray, IntArray, npt.NDArray[np.int32]]:
    """Read the tokens of rows into one flat batch.

    The label of a position is the next token of its document, also across a cut; a document's last
    token has none. In a shard with `supervised` flags, only flagged tokens are labels.

    Returns:
        ids int64 `[tokens]`, labels int64 `[tokens]` with -100 where there is no loss, and the
        bounds of the pieces, int32 `[pieces + 1]`.
    """
    pieces = np.concatenate([row.pieces for row in rows])
    sizes = pieces[:, 2] - pieces[:, 1]
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    ids = np.empty(int(bounds[-1]), np.int64)
    labels = np.full(len(ids), IGNORE, np.int64)
    for (owner, first, last, end), at in zip(pieces.tolist(), bounds.tolist(), strict=False):
        shard = shards[owner]
        ids[at : at + last - first] = shard.tokens[first:last]
        known = min(last + 1, end) - (first + 1)
        following = shard.tokens[first + 1 : first + 1 + known].astype(np.int64)
        if shard.supervised is not None:
            learnt = shard.supervised[first + 1 : first + 1 + known]
            following = np.where(learnt != 0, following, IGNORE)
        labels[at : at + known] = following
    return ids, labels, bounds
