"""SwiGLU: silu(gate) ⊙ up (Shazeer 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["swiglu"]


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """The gated activation of two `[..., F]` projections."""
    return functional.silu(gate) * up
