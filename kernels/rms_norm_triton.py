"""RMSNorm, forward and backward: one row at a time in fp32, weight gradient summed by program."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from internlm_core.kernels._triton import Settings, Variant, processors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["rms_norm_triton", "variants"]


@triton.jit
def _forward(X, W, Y, RSTD, row_stride, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)  # rows · width passes 2^31 in long batches
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(X + row * row_stride + columns, mask=inside, other=0.0).to(tl.float32)
    rstd = 1.0 / tl.sqrt(tl.sum(x * x, 0) / width + eps)
    tl.store(RSTD + row, rstd)
    w = tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)
    # Cast, then times the weight: the product of two narrow numbers, rounded once.
    normal = (x * rstd).to(Y.dtype.element_ty).to(tl.float32)
    tl.store(Y + row * width + columns, (normal * w).to(Y.dtype.element_ty), mask=inside)


@triton.jit
def _backward(X, W, RSTD, DY, DX, DW, row_stride, width, rows, BLOCK: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    w = tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)
    dw = tl.zeros([BLOCK], dtype=tl.float32)
    for step in range(program, rows, programs):
        row = tl.cast(step, tl.int64)
        x = tl.load(X + row * row_stride + columns, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(DY + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        rstd = tl.load(RSTD + row)
        normal = x * rstd
        dn = dy * w
        dx = rstd * (dn - normal * (tl.sum(dn * normal, 0) / width))
        tl.store(DX + row * width + columns, dx.to(DX.dtype.element_ty), mask=inside)
        # The weight met the normalised row after its cast.
        dw += dy * normal.to(DX.dtype.element_ty).to(tl.float32)
    tl.store(DW + tl.cast(program, tl.int64) * width + columns, dw, mask=inside)


def _settings(width: int) -> Settings:
    block = triton.next_power_of_2(width)
    return Settings({"BLOCK": block}, warps=min(max(block // 256, 1), 16), stages=2)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows, width = x.shape
        y = torch.empty((rows, width), dtype=x.dtype, device=x.device)
        rstd = torch.empty(rows, dtype=torch.float32, device=x.device)
        chosen = _settings(width)
        if rows:
            _forward[(rows,)](
                x, weight, y, rstd, x.stride(0), width, eps, **chosen.blocks, **chosen.options()
            )
        ctx.save_for_backward(x, weight, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rstd = ctx.saved_tensors
        rows, width = x.shape
        if not rows:
            return torch.zeros_like(x), torch.zeros_like(weight), None
        grad = grad.contiguous()
        programs = min(rows, 4 * processors(x.device))
        dx = torch.empty((rows, width), dtype=x.dtype, device=x.device)
        dw = torch.empty((programs, width), dtype=torch.float32, device=x.device)
        chosen = _settings(width)
        _backward[(programs,)](
            x,
            weight,
            rstd,
            grad,
            dx,
            dw,
            x.stride(0),
            width,
            rows,
            **chosen.blocks,
            **chosen.options(),
        )
        return dx, dw.sum(0).to(weight.dtype), None


def rms_norm_triton(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `rms_norm`, on a device that Triton compiles for."""
    flat = x.reshape(-1, x.shape[-1])
    if flat.stride(-1) != 1:
        flat = flat.contiguous()
    result: Tensor = _RMSNorm.apply(flat, weight.contiguous(), eps)
    return result.view(x.shape)


def variants(element: str = "bf16", width: int = 4096) -> list[Variant]:
    """The kernels as they are launched for rows of `width`."""
    chosen = _settings(width)
    pointer, constants = f"*{element}", {"BLOCK": chosen.blocks["BLOCK"]}
    forward = {"X": pointer, "W": pointer, "Y": pointer, "RSTD": "*fp32"}
    forward |= {"row_stride": "i32", "width": "i32", "eps": "fp32"}
    backward = {"X": pointer, "W": pointer, "RSTD": "*fp32", "DY": pointer, "DX": pointer}
    backward |= {"DW": "*fp32", "row_stride": "i32", "width": "i32", "rows": "i32"}
    aligned = ("row_stride", "width")
    return [
        Variant("rms_norm forward", _forward, forward, constants, chosen, False, aligned),
        Variant("rms_norm backward", _backward, backward, constants, chosen, False, aligned),
    ]
