"""Held-out loss: over all, by position in the window, and by source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from internlm_core.errors import TrainError
from internlm_core.model.scoring import token_log_probs
from internlm_core.train.batches import padded
from internlm_core.train.parallel import token_losses
from internlm_core.train.sources import open_sources
from internlm_core.train.stream import IGNORE, Row, pieces_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from internlm_core.model import InternLM2
    from internlm_core.tokenizer import Shard
    from internlm_core.train.ranks import Ranks

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
    ranks: Ranks | None = None,
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
        ranks: Those that share the model; all of them must call this, and all get the result.

    Raises:
        TrainError: No token to predict, or ids outside the model's vocabulary.
    """
    sources = _opened(shards)
    window = model.config.max_position_embeddings if window is None else window
    width = -(-window // buckets)
    names = list(sources)
    quota = None if max_tokens is None else -(-max_tokens // len(sources))
    work: list[tuple[int, list[Row]]] = [
        (number, rows)
        for number, name in enumerate(names)
        for rows in _batches(name, sources[name], window, max(window, batch_tokens), quota)
    ]
    # Rows: loss, tokens; columns: positions, then sources.
    sums = np.zeros((2, buckets + len(names)))
    was_training = model.training
    model.eval()
    try:
        for number, rows in work if ranks is None else _share(work, ranks):
            ids, labels, bounds = padded(
                rows, sources[names[number]], 1 if ranks is None else ranks.plan.sequence
            )
            nll = _losses(model, ids, labels, bounds, ranks)
            place = np.arange(len(ids)) - np.repeat(bounds[:-1], np.diff(bounds))
            if ranks is not None:
                place, labels = (ranks.own_tokens(torch.from_numpy(x)[None])[0].numpy()
                                 for x in (place, labels))  # fmt: skip
            counted = labels != IGNORE
            bucket = place[counted] // width
            sums[0, :buckets] += np.bincount(bucket, nll[counted], buckets)
            sums[1, :buckets] += np.bincount(bucket, minlength=buckets)
            sums[:, buckets + number] += float(nll[counted].sum()), int(counted.sum())
    finally:
        model.train(was_training)
        if ranks is not None and ranks.world > 1:
            # Without a backward pass, some parameters would stay gathered.
            units: Any = [*model.layers, model]
            for unit in units:
                unit.reshard()
    if ranks is not None and ranks.world > 1:
        # Ranks that split matrices have seen the same tokens.
        shared = torch.from_numpy(sums).to(model.device)
        sums = (ranks.sum(shared) / ranks.plan.tensor).cpu().numpy()
    position_loss, position_count = sums[0, :buckets], sums[1, :buckets]
    by_source = dict(zip(names, sums[:, buckets:].T.tolist(), strict=True))
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
        by_source={name: (total / n, int(n)) for name, (total, n) in by_source.items() if n},
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


def _share(work: list[tuple[int, list[Row]]], ranks: Ranks) -> list[tuple[int, list[Row]]]:
    """This rank's batches, as many as every other has."""
    mine = work[ranks.data_rank :: ranks.data_size]
    most = -(-len(work) // ranks.data_size)
    return mine + [(0, [])] * (most - len(mine))


def _losses(
    model: InternLM2,
    ids: np.ndarray,
    labels: np.ndarray,
    bounds: np.ndarray,
    ranks: Ranks | None,
) -> np.ndarray:
    """Loss of each position, of this rank's part of them."""
    device = model.device
    own_ids, own_labels = (torch.from_numpy(x)[None].to(device) for x in (ids, labels))
    cu_seqlens = torch.from_numpy(bounds).to(device)
    if ranks is None or ranks.world == 1:
        scores = -token_log_probs(model, own_ids, own_labels, cu_seqlens=cu_seqlens)[0]
    else:
        scores = token_losses(model, ranks, own_ids, own_labels, cu_seqlens)
    return scores.double().cpu().numpy()
