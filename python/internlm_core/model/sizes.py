"""The published models' shapes, each a `ModelConfig`. Needs no torch."""

from __future__ import annotations

from internlm_core.errors import ModelError
from internlm_core.model.config import ModelConfig, RopeScaling

__all__ = ["PUBLISHED", "published"]


def _config(
    layers: int,
    hidden: int,
    heads: int,
    feed_forward: int,
    *,
    kv_heads: int = 8,
    vocabulary: int = 92_544,
    theta: float = 1e6,
    factor: float | None = None,
    max_positions: int = 32_768,
    norm_head: bool = False,
) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=feed_forward,
        head_dim=128,
        rope_theta=theta,
        rope_scaling=None if factor is None else RopeScaling(type="dynamic", factor=factor),
        max_position_embeddings=max_positions,
        norm_head=norm_head,
    )


# Layers, widths and heads: technical report Table 3 and, for the feed-forward, InternEvo's
# configurations; RoPE: the published config.json files.
PUBLISHED = {
    # Trained with a normalised head; published files have it baked in, then the flag is off.
    "internlm2-1.8b": _config(24, 2048, 16, 8192, norm_head=True),
    "internlm2-7b": _config(32, 4096, 32, 14_336, factor=2.0),
    "internlm2-20b": _config(48, 6144, 48, 16_384),
    "internlm2.5-7b": _config(32, 4096, 32, 14_336, factor=2.0),
    "internlm2.5-7b-1m": _config(
        32, 4096, 32, 14_336, theta=5e7, factor=2.5, max_positions=262_144
    ),
    # No biases in the published file; `bias` and `qkv_bias` can turn them on.
    "internlm3-8b": _config(
        48, 4096, 32, 10_240, kv_heads=2, vocabulary=128_512, theta=5e7, factor=6.0
    ),
}


def published(name: str) -> ModelConfig:
    """The configuration of a published model, such as "internlm2-7b".

    Raises:
        ModelError: No such model; the message lists those there are.
    """
    if name not in PUBLISHED:
        raise ModelError(f"no published model {name!r}; expected one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
