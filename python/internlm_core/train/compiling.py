"""Layers fused by torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from internlm_core.model import InternLM2

__all__ = ["compile_layers"]


def compile_layers(model: InternLM2, *, alone: bool = True) -> None:
    """Compile every layer in place; all layers share one program.

    Args:
        model: On a CPU its attention is an operator of its own, whatever documents a row has, so a
            layer is one program. On a CUDA device, attention stays outside: it is a kernel that
            chooses its tiles as it is called.
        alone: False where ranks share the model; attention, which may exchange tokens with the
            others, stays outside then, too.
    """
    layers: Any = model.layers
    disable: Any = torch.compiler.disable
    for layer in layers:
        if not alone or model.device.type != "cpu":
            layer.attention.forward = disable(layer.attention.forward)
        layer.compile()
