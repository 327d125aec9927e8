"""SwiGLU: silu(gate) ⊙ up (Shazeer 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core.errors import KernelError
from internlm_core.kernels._dispatch import use_triton
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["swiglu", "swiglu_reference"]


def swiglu_reference(gate: Tensor, up: Tensor) -> Tensor:
    """The formula in plain torch."""
    return gate * gate.sigmoid() * up


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """The gated activation of two `[..., F]` projections, of any strides.

    Raises:
        KernelError: Shapes or types that differ.
    """
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise KernelError(
            f"gate {gate.dtype} {tuple(gate.shape)} and up {up.dtype} {tuple(up.shape)} must be alike"
        )
    if use_triton(gate):
        from internlm_core.kernels.swiglu_triton import swiglu_triton

        result: Tensor = swiglu_triton(gate, up)
        return result
    return functional.silu(gate) * up
