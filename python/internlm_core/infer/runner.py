"""What computes a step: the Rust decoder on a CPU, torch with Triton on other devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["PAGE", "Batch", "Result", "Runner", "Segment"]

PAGE = 16
"""Tokens a block of the cache; the Rust decoder's pages are as long as its vectors."""


@dataclass(frozen=True)
class Segment:
    """New tokens of one sequence.

    Attributes:
        start: Its tokens in the cache already.
        count: The new ones.
        table: Its blocks, room for all of them.
    """

    start: int
    count: int
    table: list[int]


@dataclass
class Batch:
    """New tokens of many sequences, and what is wanted of them.

    Attributes:
        ids: Those of all segments, one after the other.
        segments: Where they belong.
        rows: Places in `ids` after which logits are wanted.
        scored: Places after which the log-probability of a label is wanted.
        labels: Those labels.
    """

    ids: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """What a step gave.

    Attributes:
        logits: fp32 `[rows, V]`.
        log_sums: `[rows]`: log Σ e^logit.
        scores: `[scored]`: log p of the labels, nats.
    """

    logits: npt.NDArray[np.float32]
    log_sums: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


class Runner(Protocol):
    """Reads tokens into its cache and tells what may follow them."""

    def step(self, batch: Batch) -> Result:
        """Read new tokens."""
        ...
