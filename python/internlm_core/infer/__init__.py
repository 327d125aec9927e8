"""Generation with a KV cache, sampling and scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internlm_core._lazy import attach

if TYPE_CHECKING:
    from internlm_core.infer.engine import Engine
    from internlm_core.infer.request import Chunk, Completion, Event, Handle, TokenLogProb
    from internlm_core.infer.sampling import SamplingParams

__all__ = [
    "Chunk",
    "Completion",
    "Engine",
    "Event",
    "Handle",
    "SamplingParams",
    "TokenLogProb",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Chunk": "request",
        "Completion": "request",
        "Engine": "engine",
        "Event": "request",
        "Handle": "request",
        "SamplingParams": "sampling",
        "TokenLogProb": "request",
    },
)
