"""One operation a file, each Triton kernel beside its plain-torch reference.

`<op>.py` holds the public function and the reference, `<op>_triton.py` the Triton kernels.
CUDA tensors take Triton, CPU tensors torch; the environment variable `INTERNLM_KERNELS` set to
`reference` or `triton` forces one. Import an operation from its module:
`from internlm_core.kernels.rms_norm import rms_norm`.
"""

from __future__ import annotations

from internlm_core._lazy import attach

_OPERATIONS = (
    "attention",
    "decode_attention",
    "linear_cross_entropy",
    "rms_norm",
    "rope",
    "swiglu",
)

__all__ = [
    "attention",
    "decode_attention",
    "linear_cross_entropy",
    "rms_norm",
    "rope",
    "swiglu",
]

__getattr__, __dir__ = attach(__name__, dict.fromkeys(_OPERATIONS))
