"""Head and loss in chunks of rows: one kernel turns a chunk's logits into losses and gradients.

The matrix products are the library's; the kernel reads each logit twice and leaves its gradient in
its place, so that no second chunk, no softmax and no one-hot rows are ever held.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from internlm_core.kernels._triton import INTERPRETING, Settings, Variant
from internlm_core.kernels.linear_cross_entropy import scaled_gradients

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FusedLoss", "chunk_rows", "variants"]

# Bytes of one chunk's logits: 2,900 rows of bf16 logits over 92,544 entries, which fill a GPU.
_CHUNK_BYTES = 512 << 20
_SETTINGS = Settings({"BLOCK": 256 if INTERPRETING else 4096}, warps=8, stages=2)


@triton.jit
def _loss(LOGITS, LABELS, LOSS, row_stride, vocabulary, GRAD: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)  # rows · vocabulary passes 2^31 at 23,000 rows
    base = LOGITS + row * row_stride
    label = tl.load(LABELS + row)
    columns = tl.arange(0, BLOCK)
    top = tl.full([], float("-inf"), tl.float32)
    total = tl.zeros([], tl.float32)
    for first in range(0, vocabulary, BLOCK):
        at = first + columns
        x = tl.load(base + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(top, tl.max(x, 0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(x - higher), 0)
        top = higher
    tl.store(LOSS + row, tl.log(total) + top - tl.load(base + label).to(tl.float32))
    if GRAD:
        for first in range(0, vocabulary, BLOCK):
            at = first + columns
            x = tl.load(base + at, mask=at < vocabulary, other=float("-inf")).to(tl.float32)
            # d loss / d logits = softmax - one-hot
            slope = tl.exp(x - top) / total - tl.where(at == label, 1.0, 0.0)
            tl.store(base + at, slope.to(LOGITS.dtype.element_ty), mask=at < vocabulary)


def chunk_rows(rows: int, vocabulary: int, element_bytes: int) -> int:
    """Rows of a chunk: what its bytes allow, and never more than an eighth of all (from 256 on)."""
    allowed = max(_CHUNK_BYTES // (vocabulary * element_bytes) // 128 * 128, 128)
    return min(allowed, max(-(-rows // 8), 256))


class FusedLoss(torch.autograd.Function):
    """Sum of losses; the gradients are made in the forward pass, as on the CPU."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, with_grad: bool
    ) -> Tensor:
        """Take `[N, D]`, `[V, D]` and `[N]` valid labels; give an fp32 scalar."""
        narrow = weight.to(hidden.dtype)
        vocabulary, count = weight.shape[0], hidden.shape[0]
        labels = labels.contiguous()
        losses = torch.empty(count, dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if with_grad else None
        # Summed over chunks in fp32: bf16 would lose the small terms.
        grad_weight = torch.zeros(weight.shape, device=weight.device) if with_grad else None
        step = chunk_rows(count, vocabulary, hidden.element_size())
        for start in range(0, count, step):
            part, label = hidden[start : start + step], labels[start : start + step]
            logits = torch.mm(part, narrow.T)
            _loss[(part.shape[0],)](
                logits, label, losses[start:], logits.stride(0), vocabulary,
                GRAD=with_grad, **_SETTINGS.blocks, **_SETTINGS.options(),
            )  # fmt: skip
            if grad_hidden is None or grad_weight is None:
                continue
            torch.mm(logits, narrow, out=grad_hidden[start : start + step])
            if logits.dtype == torch.float32:
                grad_weight.addmm_(logits.T, part)
            else:
                grad_weight += torch.mm(logits.T, part)
        if with_grad:
            ctx.save_for_backward(grad_hidden, grad_weight)
            ctx.weight_dtype = weight.dtype
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass made."""
        return *scaled_gradients(ctx, grad), None, None


def variants(element: str = "bf16") -> list[Variant]:
    """The kernel as it is launched, with gradients and without."""
    signature = {"LOGITS": f"*{element}", "LABELS": "*i64", "LOSS": "*fp32"}
    signature |= {"row_stride": "i32", "vocabulary": "i32"}
    steps = ("row_stride", "vocabulary")
    return [
        Variant(
            f"linear_cross_entropy{name}",
            _loss,
            signature,
            {"GRAD": grad, **_SETTINGS.blocks},
            _SETTINGS,
            False,
            steps,
        )
        for name, grad in (("", True), (" loss only", False))
    ]
