"""Held-out loss: over all, by position in the window, and by source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from internlm_core.errors import TrainError
from internlm_core.model.scoring import token_log_probs
from internlm_core.train.sources import open_sources
from internlm_core.train.stream import IGNORE, Row, pieces_of, to_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from internlm_core.model import InternLM2
    from internlm_core.tokenizer import Shard

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Mean loss of held-out tokens, in nats a token.

    Attributes:
        loss: Over all tokens.
        tokens: How many there were.
        by_position: (first position, one past the last, loss, tokens) of each bucket of positions.
        by_source: Source → (loss, tokens).
    """

    loss: float
    tokens: int
    by_position: tuple[tuple[int, int, float, int], ...]
    by_source: dict[str, tuple[float, int]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "loss": self.loss,
            "tokens": self.tokens,
            "by_position": [list(bucket) for bucket in self.by_position],
            "by_source": {name: list(value) for name, value in self.by_source.items()},
        }


def evaluate(
    model: InternLM2,
    shards: str | Path | Mapping[str, str | Path] | Shard | dict[str, list[Shard]],
    *,
    window: int | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = 8192,
    buckets: int = 8,
) -> Evaluation:
    """Mean loss of a model on held-out shards.

    Documents are read in the order they lie in, cut to the window as in training, and never see
    each other.

    Args:
        model: Its training mode is left as it was.
        shards: As for `run`, or opened ones.
        window: Longest piece; the model's trained length when None.
        max_tokens: Stop after about so many, taken from all sources by turns.
        batch_tokens: Tokens of one forward pass (at least a window).
        buckets: Equal parts of the window that `by_position` tells apart.

    Raises:
        TrainError: No token to predict, or ids outside the model's vocabulary.
    """
    sources = _opened(shards)
    window = model.config.max_position_embeddings if window is None else window
    width = -(-window // buckets)
    position_loss, position_count = np.zeros(buckets), np.zeros(buckets, np.int64)
    source_loss: dict[str, float] = dict.fromkeys(sources, 0.0)
    source_count: dict[str, int] = dict.fromkeys(sources, 0)
    quota = None if max_tokens is None else -(-max_tokens // len(sources))
    was_training = model.training
    model.eval()
    try:
        for name, group in sources.items():
            for rows in _batches(name, group, window, max(window, batch_tokens), quota):
                ids, labels, bounds = to_arrays(rows, group)
                nll = -_log_probs(model, ids, labels, bounds)
                counted = labels != IGNORE
                place = np.arange(len(ids)) - np.repeat(bounds[:-1], np.diff(bounds))
                bucket = place[counted] // width
                position_loss += np.bincount(bucket, nll[counted], buckets)
                position_count += np.bincount(bucket, minlength=buckets)
                source_loss[name] += float(nll[counted].sum())
                source_count[name] += int(counted.sum())
    finally:
        model.train(was_training)
    tokens = int(position_count.sum())
    if not tokens:
        raise TrainError("the held-out shards have no token to predict")
    return Evaluation(
        loss=float(position_loss.sum()) / tokens,
        tokens=tokens,
        by_position=tuple(
            (i * width, min(window, (i + 1) * width), float(total / n), int(n))
            for i, (total, n) in enumerate(zip(position_loss, position_count, strict=True))
            if n
        ),
        by_source={n: (source_loss[n] / c, c) for n, c in source_count.items() if c},
    )


def _opened(shards: Any) -> dict[str, list[Shard]]:
    if isinstance(shards, dict) and all(isinstance(v, list) for v in shards.values()):
        return shards
    if hasattr(shards, "offsets"):
        return {"held-out": [shards]}
    return open_sources(shards)


def _batches(
    name: str, group: Sequence[Shard], window: int, capacity: int, quota: int | None
) -> list[list[Row]]:
    """Pieces of all documents in order, as many to a batch as fit."""
    tables = []
    for number, shard in enumerate(group):
        offsets = np.asarray(shard.offsets, np.int64)
        if quota is not None:
            # Only as many documents as the quota can need.
            offsets = offsets[: int(np.searchsorted(offsets, quota)) + 1]
        tables.append(pieces_of(number, offsets[:-1], offsets[1:], window))
    table = np.concatenate(tables)
    batches: list[list[Row]] = []
    first = filled = total = 0
    for i, size in enumerate((table[:, 2] - table[:, 1]).tolist()):
        if filled and filled + size > capacity:
            batches.append([Row(name, table[first:i])])
            first, filled = i, 0
        if quota is not None and total + size > quota and total:
            return batches + ([[Row(name, table[first:i])]] if filled else [])
        filled += size
        total += size
    return [*batches, [Row(name, table[first:])]] if filled else batches


def _log_probs(
    model: InternLM2, ids: np.ndarray, labels: np.ndarray, bounds: np.ndarray
) -> np.ndarray:
    device = model.device
    scores = token_log_probs(
        model,
        torch.from_numpy(ids)[None].to(device),
        torch.from_numpy(labels)[None].to(device),
        cu_seqlens=torch.from_numpy(bounds).to(device),
    )
    return scores[0].double().cpu().numpy()
