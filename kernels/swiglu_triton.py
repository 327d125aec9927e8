"""SwiGLU, forward and backward, number by number in fp32; the sigmoid is made anew going back."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from internlm_core.kernels._triton import Settings, Variant, rows_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["swiglu_triton", "variants"]

_SETTINGS = Settings({"BLOCK": 1024}, warps=4, stages=2)


@triton.jit
def _forward(GATE, UP, Y, gate_stride, up_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    gate = tl.load(GATE + row * gate_stride + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(UP + row * up_stride + columns, mask=inside, other=0.0).to(tl.float32)
    y = gate * tl.sigmoid(gate) * up
    tl.store(Y + row * width + columns, y.to(Y.dtype.element_ty), mask=inside)


@triton.jit
def _backward(GATE, UP, DY, DGATE, DUP, gate_stride, up_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    gate = tl.load(GATE + row * gate_stride + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(UP + row * up_stride + columns, mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(DY + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    gated = tl.sigmoid(gate)
    dup = dy * gate * gated
    dgate = dy * up * gated * (1.0 + gate * (1.0 - gated))
    tl.store(DGATE + row * width + columns, dgate.to(DGATE.dtype.element_ty), mask=inside)
    tl.store(DUP + row * width + columns, dup.to(DUP.dtype.element_ty), mask=inside)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
        ctx.save_for_backward(gate, up)
        if y.numel():
            grid = (gate.shape[0], triton.cdiv(gate.shape[1], _SETTINGS.blocks["BLOCK"]))
            _forward[grid](
                gate, up, y, gate.stride(0), up.stride(0), gate.shape[1],
                **_SETTINGS.blocks, **_SETTINGS.options(),
            )  # fmt: skip
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        dgate, dup = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (gate, up))
        if dgate.numel():
            grid = (gate.shape[0], triton.cdiv(gate.shape[1], _SETTINGS.blocks["BLOCK"]))
            _backward[grid](
                gate, up, grad.contiguous(), dgate, dup,
                gate.stride(0), up.stride(0), gate.shape[1],
                **_SETTINGS.blocks, **_SETTINGS.options(),
            )  # fmt: skip
        return dgate, dup


def swiglu_triton(gate: Tensor, up: Tensor) -> Tensor:
    """As `swiglu`, on a device that Triton compiles for."""
    result: Tensor = _SwiGLU.apply(rows_of(gate), rows_of(up))
    return result.view(gate.shape)


def variants(element: str = "bf16") -> list[Variant]:
    """The kernels as they are launched for rows of a multiple of 16."""
    pointer, steps = f"*{element}", ("gate_stride", "up_stride", "width")
    found = []
    for name, function, tensors in (
        ("swiglu forward", _forward, "GATE UP Y"),
        ("swiglu backward", _backward, "GATE UP DY DGATE DUP"),
    ):
        signature = dict.fromkeys(tensors.split(), pointer) | dict.fromkeys(steps, "i32")
        found.append(
            Variant(name, function, signature, dict(_SETTINGS.blocks), _SETTINGS, False, steps)
        )
    return found
