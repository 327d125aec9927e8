"""Parameter names: InternLM2's own, and LLaMA's with separate q, k and v."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from internlm_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from internlm_core.model.config import ModelConfig

__all__ = ["from_llama", "is_llama", "join_qkv", "split_qkv", "to_llama"]

# Ours → LLaMA's; wqkv apart. Both stand behind the prefix `model.` but for the output head.
_TOP = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP_BACK = {theirs: ours for ours, theirs in _TOP.items()}
_LAYER_BACK = {theirs: ours for ours, theirs in _LAYER.items()}


def split_qkv(config: ModelConfig, wqkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Interleaved rows `[K·(G + 2)·W, ...]` to the rows of q, k and v."""
    rest = wqkv.shape[1:]
    grouped = wqkv.view(config.num_key_value_heads, config.group_size + 2, config.head_width, *rest)
    q, k, v = grouped[:, :-2], grouped[:, -2], grouped[:, -1]
    return q.reshape(-1, *rest), k.reshape(-1, *rest), v.reshape(-1, *rest)


def join_qkv(config: ModelConfig, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The inverse of `split_qkv`."""
    rest, kv_heads, width = q.shape[1:], config.num_key_value_heads, config.head_width
    parts = (
        q.view(kv_heads, config.group_size, width, *rest),
        k.view(kv_heads, 1, width, *rest),
        v.view(kv_heads, 1, width, *rest),
    )
    return torch.cat(parts, dim=1).reshape(-1, *rest)


def is_llama(names: Iterable[str]) -> bool:
    """Whether a checkpoint's names are LLaMA's."""
    return "model.embed_tokens.weight" in names


def to_llama(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename our state dict (no `model.` prefix), wqkv split."""
    renamed = {}
    for name, tensor in state.items():
        if name in _TOP:
            renamed[_TOP[name]] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        module, kind = rest.rsplit(".", 1)
        prefix = f"model.layers.{layer}."
        if module == "attention.wqkv":
            for letter, part in zip("qkv", split_qkv(config, tensor), strict=True):
                renamed[f"{prefix}self_attn.{letter}_proj.{kind}"] = part
        else:
            renamed[f"{prefix}{_LAYER[module]}.{kind}"] = tensor
    return renamed


def from_llama(config: ModelConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename LLaMA's state dict to ours, q, k and v interleaved.

    Raises:
        CheckpointError: A name that the architecture doesn't have, or q, k and v incomplete.
    """
    renamed: dict[str, Tensor] = {}
    qkv: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name in _TOP_BACK:
            renamed[_TOP_BACK[name]] = tensor
            continue
        parts = name.removeprefix("model.layers.").split(".")
        module, kind = ".".join(parts[1:-1]), parts[-1]
        if module in _LAYER_BACK:
            renamed[f"layers.{parts[0]}.{_LAYER_BACK[module]}.{kind}"] = tensor
        elif module in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            qkv.setdefault((parts[0], kind), {})[module[10]] = tensor
        elif module != "self_attn.rotary_emb":  # old files store its frequencies
            raise CheckpointError(f"tensor {name!r} is not part of a LLaMA model")
    for (layer, kind), parts_of in qkv.items():
        rows = {letter: part.shape[0] for letter, part in parts_of.items()}
        kv_rows = config.num_key_value_heads * config.head_width
        if rows != {"q": kv_rows * config.group_size, "k": kv_rows, "v": kv_rows}:
            raise CheckpointError(
                f"layer {layer}: rows of the projections {rows} don't fit the configuration"
            )
        joined = join_qkv(config, parts_of["q"], parts_of["k"], parts_of["v"])
        renamed[f"layers.{layer}.attention.wqkv.{kind}"] = joined
    return renamed
