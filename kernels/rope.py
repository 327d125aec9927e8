"""Rotary position embedding in the half-rotation form (Su et al. 2021; pairs are (i, i + D/2))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["apply_rope"]


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the last axis of `x`, in fp32 where the tables are fp32, and return `x`'s dtype.

    Args:
        x: `[B, T, ..., D]`, any number of head axes.
        cos: Cosines of the angles, `[B or 1, T, D/2]`.
        sin: Sines of the angles, shaped as `cos`.
    """
    shape = cos.shape[:2] + (1,) * (x.dim() - 3) + cos.shape[-1:]
    cos, sin = cos.view(shape), sin.view(shape)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
