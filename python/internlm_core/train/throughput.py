"""How fast a run is: model FLOPs, what the device could do, tokens a second, time left, memory."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from internlm_core.model import ModelConfig

__all__ = ["Speed", "memory_in_use", "peak_flops", "step_flops"]

# Dense bf16 rate of one device, FLOP/s, from the vendors' data sheets; the longer name first.
_PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("H800", 989e12),
    ("GH200", 989e12),
    ("H20", 148e12),
    ("B200", 2250e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("L40S", 362e12),
    ("MI300X", 1307e12),
    ("MI250X", 383e12),
)


def step_flops(model: ModelConfig, lengths: Iterable[int]) -> float:
    """Floating-point operations of forward and backward over documents, without recomputation.

    Six for each matrix parameter and token (the embedding is a look-up), and causal attention, which
    costs 6·T²·H·W a layer for T tokens, H heads of width W: half of the full square, since the
    masked half needn't be computed (Chowdhery et al. 2022, appendix B, count all of it).
    """
    sizes = list(lengths)
    matrices = model.parameter_count - model.vocab_size * model.hidden_size
    heads = model.num_attention_heads * model.head_width
    attention = 6 * model.num_hidden_layers * heads * sum(n * n for n in sizes)
    return float(6 * matrices * sum(sizes) + attention)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s that the device can do in matrix products.

    From the data sheet for bf16 on a known accelerator; measured with a product of two 1024×1024
    matrices elsewhere.
    """
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for part, peak in _PEAKS:
            if part in name:
                return peak
    size = 1024
    # No draw: the run's random numbers must not depend on a measurement.
    a = torch.ones(size, size, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        torch.mm(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def memory_in_use(device: torch.device) -> int:
    """Bytes at the peak so far: of the allocator on CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


class Speed:
    """Tokens a second, MFU and time left, over the last steps.

    Args:
        peak: FLOP/s of all devices together.
        tokens: Of the whole run.
    """

    def __init__(self, peak: float, tokens: int) -> None:
        self._peak, self._tokens = peak, tokens
        self._recent: deque[tuple[float, int]] = deque(maxlen=20)

    def step(self, seconds: float, tokens: int, flops: float) -> dict[str, Any]:
        """What is known of one step."""
        self._recent.append((seconds, tokens))
        return {
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "mfu": flops / seconds / self._peak,
        }

    def seconds_left(self, done: int) -> float:
        """For the tokens that are left, at the speed of the last steps."""
        seconds = sum(s for s, _ in self._recent)
        tokens = sum(n for _, n in self._recent)
        return (self._tokens - done) * seconds / max(1, tokens)
