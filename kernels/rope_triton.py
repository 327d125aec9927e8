"""RoPE: one token's heads a program; the way back is the rotation by the opposite angle."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from internlm_core.kernels._triton import Settings, Variant

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["apply_rope_triton", "variants"]

_HEADS = 16  # a program's heads; with head width 128 four numbers a thread and half


@triton.jit
def _rotate(
    X, COS, SIN, Y,
    tokens, groups, members,
    x_batch, x_token, x_group, x_member, table_batch, half,
    HEADS: tl.constexpr, COLUMNS: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    batch, token = (row // tokens).to(tl.int64), (row % tokens).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    columns = tl.arange(0, COLUMNS)
    table = batch * table_batch + token * half + columns
    cos = tl.load(COS + table, mask=columns < half, other=0.0)[None, :]
    sin = tl.load(SIN + table, mask=columns < half, other=0.0)[None, :]
    if BACK:
        sin = -sin
    inside = (heads[:, None] < groups * members) & (columns[None, :] < half)
    from_ = X + batch * x_batch + token * x_token
    place = (heads // members).to(tl.int64) * x_group + (heads % members).to(tl.int64) * x_member
    place = place[:, None] + columns[None, :]
    first = tl.load(from_ + place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(from_ + place + half, mask=inside, other=0.0).to(tl.float32)
    to = Y + row.to(tl.int64) * groups * members * half * 2
    place = heads[:, None] * (half * 2) + columns[None, :]
    kind = Y.dtype.element_ty
    tl.store(to + place, (first * cos - second * sin).to(kind), mask=inside)
    tl.store(to + place + half, (second * cos + first * sin).to(kind), mask=inside)


def _settings(half: int) -> Settings:
    return Settings({"HEADS": _HEADS, "COLUMNS": triton.next_power_of_2(half)}, warps=4, stages=1)


def _run(x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    """Rotate `[B, T, K, G, D]`; the result is contiguous."""
    if x.stride(-1) != 1:
        x = x.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    batch, tokens, groups, members, width = x.shape
    chosen = _settings(width // 2)
    _rotate[(batch * tokens, triton.cdiv(groups * members, _HEADS))](
        x, cos, sin, y,
        tokens, groups, members,
        *x.stride()[:4], cos.stride(0) if cos.shape[0] > 1 else 0, width // 2,
        BACK=back, **chosen.blocks, **chosen.options(),
    )  # fmt: skip
    return y


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _run(x, cos, sin, False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _run(grad, cos, sin, True), None, None


def apply_rope_triton(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `apply_rope`, on a device that Triton compiles for."""
    shape = x.shape
    if x.dim() > 5:
        x = x.flatten(3, -2)
    while x.dim() < 5:
        x = x.unsqueeze(2)
    result: Tensor = _Rope.apply(x, cos.float().contiguous(), sin.float().contiguous())
    return result.view(shape)


def variants(element: str = "bf16", width: int = 128) -> list[Variant]:
    """The kernel as it is launched for heads of `width`."""
    chosen, pointer = _settings(width // 2), f"*{element}"
    steps = ("x_batch", "x_token", "x_group", "x_member", "table_batch", "half")
    signature = {"X": pointer, "COS": "*fp32", "SIN": "*fp32", "Y": pointer}
    signature |= dict.fromkeys(("tokens", "groups", "members", *steps), "i32")
    return [
        Variant(
            f"rope {name}",
            _rotate,
            signature,
            {"BACK": back, **chosen.blocks},
            chosen,
            False,
            steps,
        )
        for name, back in (("forward", False), ("backward", True))
    ]
