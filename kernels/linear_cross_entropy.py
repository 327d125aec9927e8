"""The output head and its loss together, so that logits `[N, V]` are never held in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from internlm_core.errors import KernelError
from internlm_core.kernels._dispatch import use_triton
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "IGNORE_INDEX",
    "linear_cross_entropy",
    "linear_cross_entropy_reference",
    "scaled_gradients",
]

IGNORE_INDEX = -100
"""Label of a position that takes no part in the loss (torch's convention)."""

# fp32 logits of one chunk: small enough to stay near the last-level cache, large enough that the
# matrix products run at full speed.
_CHUNK_BYTES = 32 << 20


def linear_cross_entropy_reference(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Sum of -log softmax(hidden·weightᵀ)[label] with the logits held in full."""
    logits = functional.linear(hidden, weight)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return functional.cross_entropy(wide, labels, ignore_index=IGNORE_INDEX, reduction="sum")


def linear_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Summed cross-entropy of `hidden @ weight.T` against `labels`, in nats.

    The gradients are made in the forward pass, chunk by chunk: no logits are kept or recomputed.

    Args:
        hidden: `[N, D]`.
        weight: `[V, D]`.
        labels: `[N]` int64; positions labelled -100 are left out before any work is done.

    Returns:
        The sum as an fp32 scalar (fp64 for fp64 input), and the number of positions in it.

    Raises:
        KernelError: Shapes that don't fit, or a label outside the vocabulary. Later, where backward
            goes over the same loss twice.
    """
    if (
        hidden.dim() != 2
        or labels.shape != hidden.shape[:1]
        or weight.shape[1:] != hidden.shape[1:]
    ):
        raise KernelError(
            "expected hidden [N, D], weight [V, D], labels [N]; got"
            f" {tuple(hidden.shape)}, {tuple(weight.shape)}, {tuple(labels.shape)}"
        )
    keep = labels != IGNORE_INDEX
    count = int(keep.sum())
    if count < labels.numel():
        hidden, labels = hidden[keep], labels[keep]
    if count and not (int(labels.min()) >= 0 and int(labels.max()) < weight.shape[0]):
        raise KernelError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, the vocabulary has"
            f" {weight.shape[0]} entries; {IGNORE_INDEX} marks a position without loss"
        )
    if torch.is_autocast_enabled(hidden.device.type):
        half = torch.get_autocast_dtype(hidden.device.type)
        hidden = hidden.to(half)
    with_grad = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    if use_triton(hidden):
        from internlm_core.kernels.linear_cross_entropy_triton import FusedLoss

        total: Tensor = FusedLoss.apply(hidden, weight, labels, with_grad)
        return total, count
    total = _ChunkedLoss.apply(hidden, weight, labels, with_grad)
    return total, count


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, with_grad: bool
    ) -> Tensor:
        narrow = weight.to(hidden.dtype)
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if with_grad else None
        # Summed over chunks in fp32: bf16 would lose the small terms.
        grad_weight = (
            torch.zeros(weight.shape, dtype=wide, device=weight.device) if with_grad else None
        )
        rows = max(64, _CHUNK_BYTES // (4 * weight.shape[0]))
        for start in range(0, hidden.shape[0], rows):
            part, label = hidden[start : start + rows], labels[start : start + rows, None]
            logits = torch.mm(part, narrow.T).to(wide)
            target = logits.gather(1, label)
            peak = logits.amax(-1, keepdim=True)
            softmax = logits.sub_(peak).exp_()  # in place, and one exponential for both results
            sums = softmax.sum(-1, keepdim=True)
            total += (sums.log() + peak - target).sum()
            if grad_hidden is None or grad_weight is None:
                continue
            # d loss / d logits = softmax - one-hot
            grad_logits = softmax.div_(sums)
            grad_logits.scatter_add_(1, label, grad_logits.new_full(label.shape, -1.0))
            slim = grad_logits.to(hidden.dtype)
            torch.mm(slim, narrow, out=grad_hidden[start : start + rows])
            if slim.dtype == wide:
                grad_weight.addmm_(slim.T, part)
            else:
                grad_weight += torch.mm(slim.T, part)
            del logits, softmax, grad_logits, slim  # before the next chunk's are made
        if with_grad:
            ctx.save_for_backward(grad_hidden, grad_weight)
            ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *scaled_gradients(ctx, grad), None, None


def scaled_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients that forward saved, times that of the sum.

    They are scaled in place: a copy would be as large as the weight.

    Raises:
        KernelError: An earlier backward pass over the same loss has scaled them already.
    """
    try:
        grad_hidden, grad_weight = ctx.saved_tensors
    except RuntimeError:  # torch compares the versions of what was saved
        raise KernelError("this loss went through backward already; compute it again") from None
    grad_hidden.mul_(grad.to(grad_hidden.dtype))
    return grad_hidden, grad_weight.mul_(grad).to(ctx.weight_dtype)
