"""Cross-entropy over a vocabulary that is split among ranks (Shoeybi et al. 2019, §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from internlm_core.kernels.linear_cross_entropy import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

__all__ = ["vocabulary_loss", "vocabulary_losses"]

# fp32 logits of one chunk, as in the loss of one rank.
_CHUNK_BYTES = 32 << 20


def vocabulary_loss(hidden: Tensor, weight: Tensor, labels: Tensor, group: ProcessGroup) -> Tensor:
    """Summed cross-entropy in nats, fp32; every rank gets it, and the whole gradient of `hidden`.

    Args:
        hidden: `[N, D]`, the same on all ranks of the group.
        weight: `[V/R, D]`, this rank's rows of the head.
        labels: `[N]` int64 into the whole vocabulary; -100 is left out.
        group: The R ranks, in the order of their rows.
    """
    total: Tensor = _Loss.apply(hidden, weight, labels, group)
    return total


@torch.no_grad()
def vocabulary_losses(
    hidden: Tensor, weight: Tensor, labels: Tensor, group: ProcessGroup
) -> Tensor:
    """The loss of each of `[N]` positions, 0 where it is left out; without gradients."""
    found = [losses for losses, _, _ in _chunks(hidden, weight, labels, group)]
    return torch.cat(found)


def _chunks(hidden: Tensor, weight: Tensor, labels: Tensor, group: ProcessGroup) -> Any:
    """Loss, gradient of the logits, and rows, a chunk at a time."""
    entries = weight.shape[0]
    first = dist.get_rank(group) * entries
    rows = max(64, _CHUNK_BYTES // (4 * entries))
    for start in range(0, hidden.shape[0], rows):
        part = slice(start, start + rows)
        label = labels[part] - first
        counted = (labels[part] != IGNORE_INDEX).float()
        here = ((label >= 0) & (label < entries)).float() * counted
        place = label.clamp(0, entries - 1)[:, None]
        logits = torch.mm(hidden[part], weight.T).float()
        peak = logits.amax(-1)
        dist.all_reduce(peak, dist.ReduceOp.MAX, group=group)
        sums_and_target = torch.stack(
            [logits.sub_(peak[:, None]).exp().sum(-1), logits.gather(1, place)[:, 0] * here]
        )
        dist.all_reduce(sums_and_target, group=group)
        sums, target = sums_and_target
        losses = (sums.log() - target) * counted
        gradient = logits.exp_().div_(sums[:, None])
        gradient.scatter_add_(1, place, -here[:, None])
        yield losses, gradient.mul_(counted[:, None]), part


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, group: ProcessGroup
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        for losses, gradient, part in _chunks(hidden, weight, labels, group):
            total += losses.sum()
            slim = gradient.to(hidden.dtype)
            grad_hidden[part] = torch.mm(slim, weight)
            grad_weight += torch.mm(slim.T, hidden[part])
        dist.all_reduce(grad_hidden, group=group)
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scaled = grad_hidden * grad.to(grad_hidden.dtype)
        return scaled, (grad_weight * grad).to(ctx.weight_dtype), None, None
