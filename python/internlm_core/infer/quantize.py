"""Weights in 8 or 4 bits, a scale for every 128 inputs of an output; AWQ's files read.

Embeddings and norms stay as they are; so does the output head, or it is rounded to 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from internlm_core._core import CpuMatrix
from internlm_core.errors import CheckpointError, InferError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

__all__ = ["GROUP", "WEIGHT_TYPES", "Quantized", "from_awq", "quantize"]

GROUP = 128
"""Inputs that share a scale (AWQ's and LMDeploy's usual size)."""

WEIGHT_TYPES = ("int8", "int4")


@dataclass(frozen=True)
class Quantized:
    """A matrix `[outputs, inputs]` in whole numbers.

    Attributes:
        values: int8 (w = values·scale), or uint8 0 to 15 (w = (values − zero)·scale).
        scales: fp32 `[outputs, ⌈inputs / 128⌉]`.
        zeros: As `scales`; None for 8 bits.
    """

    values: npt.NDArray[Any]
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.float32] | None = None

    def packed(self) -> CpuMatrix:
        """For the decoder."""
        if self.zeros is None:
            return CpuMatrix.int8(self.values, self.scales)
        return CpuMatrix.int4(self.values, self.scales, self.zeros)

    def dense(self) -> Tensor:
        """The fp32 matrix that it stands for."""
        inputs = self.values.shape[1]
        wide = [
            np.repeat(x, GROUP, 1)[:, :inputs] for x in (self.scales, self.zeros) if x is not None
        ]
        values = self.values.astype(np.float32)
        if self.zeros is not None:
            values -= wide[1]
        return torch.from_numpy(values * wide[0])

    @staticmethod
    def join(parts: Sequence[Quantized]) -> Quantized:
        """Outputs side by side."""
        zeros = [part.zeros for part in parts if part.zeros is not None]
        return Quantized(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.scales for part in parts]),
            np.concatenate(zeros) if zeros else None,
        )


def quantize(weight: Tensor, kind: str) -> Quantized:
    """Round a matrix to 8 bits (symmetric) or 4 (with a zero), each 128 inputs by themselves.

    Raises:
        InferError: `kind` is neither `int8` nor `int4`.
    """
    if kind not in WEIGHT_TYPES:
        raise InferError(f"weights {kind!r}: expected one of {', '.join(WEIGHT_TYPES)}")
    inputs = weight.shape[1]
    groups = -(-inputs // GROUP)
    x = functional.pad(weight.detach().float(), (0, groups * GROUP - inputs))
    x = x.view(-1, groups, GROUP)
    if kind == "int8":
        scale = (x.abs().amax(-1) / 127).clamp_min(1e-12)
        values = (x / scale[..., None]).round().flatten(1)[:, :inputs].to(torch.int8)
        return Quantized(values.contiguous().numpy(), scale.numpy())
    low, high = x.amin(-1).clamp_max(0), x.amax(-1).clamp_min(0)
    scale = ((high - low) / 15).clamp_min(1e-12)
    zero = (-low / scale).round()
    values = (x / scale[..., None] + zero[..., None]).round().clamp(0, 15)
    narrow = values.flatten(1)[:, :inputs].to(torch.uint8).contiguous()
    return Quantized(narrow.numpy(), scale.numpy(), zero.numpy())


# AutoAWQ's GEMM layout: eight numbers in an int32 in this order, from the lowest bits.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def from_awq(qweight: Tensor, qzeros: Tensor, scales: Tensor, *, name: str = "") -> Quantized:
    """One linear layer of an AWQ checkpoint (AutoAWQ's `gemm` layout, group 128).

    Args:
        qweight: int32 `[inputs, outputs / 8]`.
        qzeros: int32 `[inputs / 128, outputs / 8]`.
        scales: fp16 `[inputs / 128, outputs]`.
        name: For messages.

    Raises:
        CheckpointError: Shapes that are not those of group 128.
    """
    inputs, outputs = qweight.shape[0], qweight.shape[1] * 8
    groups = -(-inputs // GROUP)
    if scales.shape != (groups, outputs) or qzeros.shape != (groups, outputs // 8):
        raise CheckpointError(
            f"{name}: AWQ scales {tuple(scales.shape)}, expected {(groups, outputs)}: only 4 bits in"
            f" groups of {GROUP} are read"
        )

    def unpack(packed: Tensor) -> Tensor:
        shifts = torch.tensor([4 * _AWQ_ORDER.index(i) for i in range(8)], dtype=torch.int32)
        return ((packed[..., None] >> shifts) & 15).flatten(1)

    values = unpack(qweight).T.to(torch.uint8).contiguous()
    zeros = unpack(qzeros).T.float().contiguous()
    return Quantized(values.numpy(), scales.T.float().contiguous().numpy(), zeros.numpy())
