"""Layers fused by torch.compile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from internlm_core.model import InternLM2

__all__ = ["compile_layers"]


def compile_layers(model: InternLM2) -> None:
    """Compile the feed-forward half of every layer in place; all layers share one program.

    Attention stays as it is: its shapes follow the documents of each row.
    """
    layers: Any = model.layers
    for layer in layers:
        layer.feed_forward.compile(dynamic=None)
