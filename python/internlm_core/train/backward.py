"""Gradients of one step: the mean over all its labels, however it is cut up and shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from internlm_core.errors import TrainError
from internlm_core.train.batches import dealt, padded, source_of
from internlm_core.train.parallel import summed_loss
from internlm_core.train.stream import IGNORE

if TYPE_CHECKING:
    from internlm_core.model import InternLM2
    from internlm_core.train.optim import Optimizer
    from internlm_core.train.ranks import Ranks
    from internlm_core.train.stream import Mixer, Row

__all__ = ["Gradients", "backward"]


@dataclass(frozen=True)
class Gradients:
    """What is known of a step whose gradients are in place.

    Attributes:
        loss: Mean over its labels, in nats.
        labels: How many there were, on all ranks.
        sources: Source → (mean loss, labels).
        stopped: Whether any rank was asked to stop.
    """

    loss: float
    labels: int
    sources: dict[str, tuple[float, int]]
    stopped: bool


def backward(
    model: InternLM2,
    optimizer: Optimizer,
    ranks: Ranks,
    rows: list[Row],
    mixer: Mixer,
    *,
    capacity: int,
    stopped: bool = False,
) -> Gradients:
    """Put the gradients of a step in place.

    Args:
        model: Shared as `ranks` says.
        optimizer: Sums the gradients of the forward passes.
        ranks: All of them call this, with the same rows.
        rows: Of the whole step.
        mixer: Whose shards the rows name.
        capacity: Most tokens of one forward pass.
        stopped: Whether this rank was asked to stop.

    Raises:
        TrainError: A token id outside the model's vocabulary.
    """
    parts = dealt(rows, capacity, ranks)
    batches = [padded(part, mixer.shards, ranks.plan.sequence) for part in parts]
    device = model.device
    own = sum(int((labels != IGNORE).sum()) for _, labels, _ in batches)
    # Ranks that split rows or matrices have all counted the same labels.
    counted = ranks.sum(torch.tensor([own], dtype=torch.int64, device=device))
    labels = int(counted) // ranks.copies
    names = sorted({source_of(row) for row in rows})
    # Loss and labels of each source, and whether to stop: one sum over the ranks.
    sums = torch.zeros(2 * len(names) + 1, dtype=torch.float64, device=device)
    sums[-1] = float(stopped)
    for number, (part, (ids, wanted, bounds)) in enumerate(zip(parts, batches, strict=True)):
        _check_ids(ids, model.config.vocab_size)
        here = int((wanted != IGNORE).sum())
        if here == 0 and ranks.world == 1:
            continue
        if ranks.world > 1:
            # Copies of the parameters add up their gradients once, after the last pass.
            whole: Any = model
            whole.set_requires_all_reduce(number == len(batches) - 1)
        nll = summed_loss(
            model,
            ranks,
            torch.from_numpy(ids)[None].to(device),
            torch.from_numpy(wanted)[None].to(device),
            torch.from_numpy(bounds).to(device),
        )
        torch.autograd.backward(nll / max(1, labels))
        optimizer.gather()
        if part:
            place = names.index(source_of(part[0]))
            sums[2 * place] += nll.detach().double()
            # Each of the ranks that split the row has its part of the loss, but all of the count.
            sums[2 * place + 1] += here / ranks.plan.sequence
    ranks.sum(sums)
    *of_sources, stop = sums.tolist()
    losses = [value / ranks.plan.tensor for value in of_sources[::2]]
    counts = [round(value / ranks.plan.tensor) for value in of_sources[1::2]]
    return Gradients(
        loss=sum(losses) / max(1, labels),
        labels=labels,
        sources={
            name: (loss / count, count)
            for name, loss, count in zip(names, losses, counts, strict=True)
            if count
        },
        stopped=stop > 0,
    )


def _check_ids(ids: Any, vocabulary: int) -> None:
    largest = int(ids.max())
    if largest >= vocabulary:
        raise TrainError(
            f"the shards hold token id {largest}, the model has {vocabulary} vocabulary entries;"
            " pack the shards again with the model's tokenizer"
        )
