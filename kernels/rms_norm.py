"""RMSNorm: y = w · cast(x / sqrt(mean(x²) + eps)), statistics in fp32 (Zhang & Sennrich 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from internlm_core.errors import KernelError
from internlm_core.kernels._dispatch import use_triton
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["add_rms_norm", "add_rms_norm_reference", "rms_norm", "rms_norm_reference"]


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The formula in plain torch; the weight multiplies *after* the cast, as LLaMA does."""
    wide = x if x.dtype == torch.float64 else x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def add_rms_norm_reference(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """The sum, rounded to its type, and its norm, in plain torch."""
    total = residual + x
    return rms_norm_reference(total, weight, eps), total


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis of `x`.

    Args:
        x: `[..., D]`, fp32, fp16 or bf16 (fp64 on CPU as well); any strides.
        weight: `[D]`.
        eps: Added to the mean square.

    Raises:
        KernelError: `weight` does not fit the last axis.
    """
    _check(x, weight)
    if use_triton(x):
        from internlm_core.kernels.rms_norm_triton import rms_norm_triton

        result: Tensor = rms_norm_triton(x, weight, eps)
        return result
    # One fused pass; equal to the reference up to the order of the sum of squares.
    return functional.rms_norm(x, weight.shape, None, eps) * weight


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Add what a block made to its residual stream, and normalise the sum, in one pass.

    Args:
        x: `[..., D]`, what the block made; any strides.
        residual: Shaped and typed as `x`.
        weight: `[D]`.
        eps: Added to the mean square.

    Returns:
        The normalised sum, and the sum itself (rounded to `x`'s type before it is normalised).

    Raises:
        KernelError: `weight` does not fit the last axis, or `residual` does not fit `x`.
    """
    _check(x, weight)
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise KernelError(
            f"residual {residual.dtype} {tuple(residual.shape)} must be as x, {x.dtype}"
            f" {tuple(x.shape)}"
        )
    if use_triton(x):
        from internlm_core.kernels.rms_norm_triton import add_rms_norm_triton

        pair: tuple[Tensor, Tensor] = add_rms_norm_triton(x, residual, weight, eps)
        return pair
    total = residual + x
    return functional.rms_norm(total, weight.shape, None, eps) * weight, total


def _check(x: Tensor, weight: Tensor) -> None:
    if weight.shape != x.shape[-1:]:
        raise KernelError(f"weight {tuple(weight.shape)} must be the last axis of {tuple(x.shape)}")
