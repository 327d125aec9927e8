"""What all Triton files share: the interpreter switch, matrix products, and descriptions to compile.

Only `<op>_triton.py` files import this module; it needs Triton.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["INTERPRETING", "Settings", "Variant", "dot", "processors", "rows_of", "shared_memory"]

INTERPRETING = os.environ.get("TRITON_INTERPRET", "0") == "1"
"""Triton's interpreter is on. It multiplies the bit patterns of bf16, hence `dot`'s UPCAST."""


@dataclass(frozen=True)
class Settings:
    """How one kernel is cut and scheduled."""

    blocks: Mapping[str, int]
    warps: int
    stages: int

    def options(self) -> dict[str, Any]:
        """Launch options; fused multiply-add is set because Triton's own default is changing."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


@dataclass(frozen=True)
class Variant:
    """One kernel with fixed types and sizes, as it can be compiled without a device."""

    name: str
    function: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    settings: Settings
    multiplies: bool
    """Holds matrix products, so tensor-core instructions must be found in its code."""
    aligned: tuple[str, ...] = field(default=())
    """Arguments that are multiples of 16, as the launcher finds at run time."""


def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that one block may have."""
    if device.type != "cuda":
        return 227 << 10  # the interpreter has no limit: take the settings of an H100
    if torch.version.hip is not None:
        return 64 << 10  # LDS of gfx9
    return int(torch.cuda.get_device_properties(device).shared_memory_per_block_optin)


def processors(device: torch.device) -> int:
    """Streaming multiprocessors, or a few for the interpreter."""
    if device.type != "cuda":
        return 3
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def rows_of(x: Tensor) -> Tensor:
    """`[..., D]` as `[rows, D]` with a contiguous last axis; a view where the strides allow it."""
    flat = x.reshape(-1, x.shape[-1])
    return flat if flat.stride(-1) == 1 else flat.contiguous()


@triton.jit
def dot(a, b, acc, UPCAST: tl.constexpr):  # noqa: N803
    """Acc + a·b in fp32; `a` takes b's type, but under the interpreter both are widened."""
    if UPCAST:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    # "ieee" keeps fp32 inputs fp32; it says nothing to fp16 and bf16.
    return tl.dot(a.to(b.dtype), b, acc, input_precision="ieee")
