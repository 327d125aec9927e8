"""RMSNorm, alone or behind a residual addition: one row at a time in fp32.

The weight's gradient is summed by each program over its rows, and then over the programs, so that
it is the same at every run.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from internlm_core.kernels._triton import Settings, Variant, processors, rows_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["add_rms_norm_triton", "rms_norm_triton", "variants"]


@triton.jit
def _forward(
    X, R, W, SUM, Y, RSTD,
    x_stride, r_stride, width, eps,
    RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # rows · width passes 2^31 in long batches
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    x = tl.load(X + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        x += tl.load(R + row * r_stride + columns, mask=inside, other=0.0).to(tl.float32)
        total = x.to(SUM.dtype.element_ty)
        tl.store(SUM + row * width + columns, total, mask=inside)
        x = total.to(tl.float32)  # what later layers see is what is normalised
    rstd = 1.0 / tl.sqrt(tl.sum(x * x, 0) / width + eps)
    tl.store(RSTD + row, rstd)
    w = tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)
    # Cast, then times the weight: the product of two narrow numbers, rounded once.
    normal = (x * rstd).to(Y.dtype.element_ty).to(tl.float32)
    tl.store(Y + row * width + columns, (normal * w).to(Y.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    X, W, RSTD, DY, DSUM, DX, DW,
    x_stride, width, rows,
    RESIDUAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    w = tl.load(W + columns, mask=inside, other=0.0).to(tl.float32)
    dw = tl.zeros([BLOCK], dtype=tl.float32)
    for step in range(program, rows, programs):
        row = tl.cast(step, tl.int64)
        x = tl.load(X + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(DY + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        rstd = tl.load(RSTD + row)
        normal = x * rstd
        dn = dy * w
        dx = rstd * (dn - normal * (tl.sum(dn * normal, 0) / width))
        if RESIDUAL:  # what reached the sum by its other way
            dx += tl.load(DSUM + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        tl.store(DX + row * width + columns, dx.to(DX.dtype.element_ty), mask=inside)
        # The weight met the normalised row after its cast.
        dw += dy * normal.to(DX.dtype.element_ty).to(tl.float32)
    tl.store(DW + tl.cast(program, tl.int64) * width + columns, dw, mask=inside)


def _settings(width: int) -> Settings:
    block = triton.next_power_of_2(width)
    return Settings({"BLOCK": block}, warps=min(max(block // 256, 1), 16), stages=2)


def _run_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised rows, what was normalised, and its inverse root mean squares."""
    rows, width = x.shape
    y = torch.empty((rows, width), dtype=x.dtype, device=x.device)
    total = x if residual is None else torch.empty_like(y)
    rstd = torch.empty(rows, dtype=torch.float32, device=x.device)
    chosen = _settings(width)
    if rows:
        _forward[(rows,)](
            x, residual, weight, None if residual is None else total, y, rstd,
            x.stride(0), 0 if residual is None else residual.stride(0), width, eps,
            RESIDUAL=residual is not None, **chosen.blocks, **chosen.options(),
        )  # fmt: skip
    return y, total, rstd


def _run_backward(
    x: Tensor, weight: Tensor, rstd: Tensor, grad: Tensor, grad_total: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradients of the rows and of the weight."""
    rows, width = x.shape
    if not rows:
        return torch.zeros_like(x), torch.zeros_like(weight)
    programs = min(rows, 4 * processors(x.device))
    dx = torch.empty((rows, width), dtype=x.dtype, device=x.device)
    dw = torch.empty((programs, width), dtype=torch.float32, device=x.device)
    chosen = _settings(width)
    _backward[(programs,)](
        x, weight, rstd, grad.contiguous(),
        None if grad_total is None else grad_total.contiguous(), dx, dw,
        x.stride(0), width, rows,
        RESIDUAL=grad_total is not None, **chosen.blocks, **chosen.options(),
    )  # fmt: skip
    return dx, dw.sum(0).to(weight.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y, _, rstd = _run_forward(x, None, weight, eps)
        ctx.save_for_backward(x, weight, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rstd = ctx.saved_tensors
        return *_run_backward(x, weight, rstd, grad, None), None


class _AddRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        y, total, rstd = _run_forward(x, residual, weight, eps)
        ctx.save_for_backward(total, weight, rstd)
        return y, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        total, weight, rstd = ctx.saved_tensors
        dx, dw = _run_backward(total, weight, rstd, grad, grad_total)
        return dx, dx, dw, None


def rms_norm_triton(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `rms_norm`, on a device that Triton compiles for."""
    result: Tensor = _RMSNorm.apply(rows_of(x), weight.contiguous(), eps)
    return result.view(x.shape)


def add_rms_norm_triton(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """As `add_rms_norm`, on a device that Triton compiles for."""
    y, total = _AddRMSNorm.apply(rows_of(x), rows_of(residual), weight.contiguous(), eps)
    return y.view(x.shape), total.view(x.shape)


def variants(element: str = "bf16", width: int = 4096) -> list[Variant]:
    """The kernels as they are launched for rows of `width`."""
    chosen, pointer = _settings(width), f"*{element}"
    forward = {"X": pointer, "W": pointer, "Y": pointer, "RSTD": "*fp32"}
    forward |= {"x_stride": "i32", "r_stride": "i32", "width": "i32", "eps": "fp32"}
    backward = {"X": pointer, "W": pointer, "RSTD": "*fp32", "DY": pointer, "DX": pointer}
    backward |= {"DW": "*fp32", "x_stride": "i32", "width": "i32", "rows": "i32"}
    found = []
    for residual in (False, True):
        name = "add_rms_norm" if residual else "rms_norm"
        constants: dict[str, Any] = {"RESIDUAL": residual, **chosen.blocks}
        more = {"R": pointer, "SUM": pointer}, {"DSUM": pointer}
        absent = {"R": None, "SUM": None}, {"DSUM": None}
        for part, function, signature, extra, none, aligned in (
            ("forward", _forward, forward, more[0], absent[0], ("x_stride", "r_stride", "width")),
            ("backward", _backward, backward, more[1], absent[1], ("x_stride", "width")),
        ):
            found.append(
                Variant(
                    f"{name} {part}",
                    function,
                    signature | (extra if residual else {}),
                    constants | ({} if residual else none),
                    chosen,
                    False,
                    aligned,
                )
            )
    return found
