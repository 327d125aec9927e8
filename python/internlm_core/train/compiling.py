"""Layers fused by torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from internlm_core.model import InternLM2

__all__ = ["compile_layers"]


def compile_layers(model: InternLM2) -> None:
    """Compile every layer in place but for its attention; all layers share one program.

    Attention reads the bounds of each row's documents, so it would be compiled anew for every row.
    """
    layers: Any = model.layers
    disable: Any = torch.compiler.disable
    for layer in layers:
        layer.attention.forward = disable(layer.attention.forward)
        layer.compile()
