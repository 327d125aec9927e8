"""Rotary position embedding in the half-rotation form (Su et al. 2021; pairs are (i, i + D/2))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from internlm_core.errors import KernelError
from internlm_core.kernels._dispatch import use_triton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["apply_rope", "apply_rope_reference"]


def apply_rope_reference(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The rotation in plain torch."""
    shape = cos.shape[:2] + (1,) * (x.dim() - 3) + cos.shape[-1:]
    cos, sin = cos.view(shape), sin.view(shape)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the last axis of `x`, in fp32 where the tables are fp32, and return `x`'s dtype.

    Args:
        x: `[B, T, ..., D]`, any number of head axes, any strides.
        cos: Cosines of the angles, `[B or 1, T, D/2]`; they take no gradient on CUDA.
        sin: Sines of the angles, shaped as `cos`.

    Raises:
        KernelError: Shapes that don't fit.
    """
    wanted = {(batch, x.shape[1], x.shape[-1] // 2) for batch in (1, x.shape[0])}
    if x.dim() < 3 or x.shape[-1] % 2 or cos.shape != sin.shape or tuple(cos.shape) not in wanted:
        raise KernelError(
            f"expected x [B, T, ..., D] with D even and cos, sin [B or 1, T, D/2]; got"
            f" {tuple(x.shape)}, {tuple(cos.shape)}, {tuple(sin.shape)}"
        )
    if use_triton(x):
        from internlm_core.kernels.rope_triton import apply_rope_triton

        result: Tensor = apply_rope_triton(x, cos, sin)
        return result
    return apply_rope_reference(x, cos, sin)
