"""Which of an operation's two implementations a call takes."""

from __future__ import annotations

import os

import torch
from internlm_core._optional import require
from internlm_core.errors import KernelError

__all__ = ["use_triton"]

VARIABLE = "INTERNLM_KERNELS"


def use_triton(tensor: torch.Tensor) -> bool:
    """Whether `tensor` goes to the Triton kernel (CUDA) or to torch (CPU), unless one is forced.

    fp64 always goes to torch.

    Raises:
        KernelError: `INTERNLM_KERNELS` holds an unknown word, or forces Triton on a CPU tensor
            outside Triton's interpreter.
        MissingExtraError: Triton is wanted and not installed.
    """
    forced = os.environ.get(VARIABLE, "")
    if forced not in ("", "reference", "triton"):
        raise KernelError(f"{VARIABLE}={forced!r}: expected 'reference', 'triton', or nothing")
    if forced == "reference" or (forced == "" and not tensor.is_cuda):
        return False
    if tensor.dtype == torch.float64:  # the kernels compute in fp32
        return False
    if not tensor.is_cuda and os.environ.get("TRITON_INTERPRET", "0") != "1":
        raise KernelError(
            f"{VARIABLE}=triton: the tensor is on {tensor.device}; move it to a CUDA device, or set"
            " TRITON_INTERPRET=1 to run the kernels slowly in Triton's interpreter"
        )
    require("triton", extra="train")
    return True
