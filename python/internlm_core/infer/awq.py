"""Checkpoints with AWQ's 4-bit weights (Lin et al. 2023), as AutoAWQ and LMDeploy write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import torch

from internlm_core._files import read_json
from internlm_core.errors import CheckpointError
from internlm_core.infer.quantize import GROUP, Quantized, from_awq
from internlm_core.model import ModelConfig
from internlm_core.model.checkpoint import read_state
from internlm_core.model.naming import from_llama, is_llama

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["is_awq", "read_awq"]


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found = read_json(folder / "config.json").get("quantization_config")
    except (OSError, orjson.JSONDecodeError, AttributeError):
        # Whoever reads the configuration in full says what is wrong with it.
        return {}
    return found if isinstance(found, dict) else {}


def is_awq(folder: Path) -> bool:
    """Whether the weights of a model folder are AWQ's."""
    return _settings(folder).get("quant_method") == "awq"


def read_awq(folder: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """The configuration, and the tensors under our names: matrices `Quantized`, the rest bf16.

    Raises:
        CheckpointError: Not 4 bits in groups of 128 in the `gemm` layout, or parts are missing.
    """
    settings = _settings(folder)
    wanted = {"bits": 4, "group_size": GROUP, "version": "gemm"}
    for key, value in wanted.items():
        given = settings.get(
            key, settings.get({"bits": "w_bit", "group_size": "q_group_size"}.get(key, key))
        )
        if (given.lower() if isinstance(given, str) else given) != value:
            raise CheckpointError(
                f"{folder}/config.json: quantization_config.{key} is {given!r}, only {value!r} is read"
            )
    config = ModelConfig.from_folder(folder)
    plain: dict[str, Tensor] = {}
    packed: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_state(folder).items():
        stem, _, part = name.rpartition(".")
        if part in ("qweight", "qzeros", "scales"):
            packed.setdefault(f"{stem}.weight", {})[part] = tensor
        else:
            plain[name] = tensor
    parts: dict[str, dict[str, Tensor]] = {"values": {}, "scales": {}, "zeros": {}}
    for name, found in packed.items():
        if missing := {"qweight", "qzeros", "scales"} - found.keys():
            raise CheckpointError(f"{folder}: {name}: {', '.join(sorted(missing))} missing")
        matrix = from_awq(found["qweight"], found["qzeros"], found["scales"], name=name)
        assert matrix.zeros is not None
        parts["values"][name] = torch.from_numpy(matrix.values)
        parts["scales"][name] = torch.from_numpy(matrix.scales)
        parts["zeros"][name] = torch.from_numpy(matrix.zeros)
    if is_llama({**plain, **parts["values"]}):
        # Rows move, whatever lies in them: the same for values, scales and zeros.
        parts = {key: from_llama(config, {**tensors}) for key, tensors in parts.items()}
        plain = from_llama(config, plain)
    rows = {key: _ours(tensors) for key, tensors in parts.items()}
    state: dict[str, Any] = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in _ours(plain).items()
    }
    for name, values in rows["values"].items():
        state[name] = Quantized(
            values.contiguous().numpy(),
            rows["scales"][name].contiguous().numpy(),
            rows["zeros"][name].contiguous().numpy(),
        )
    missing_names = [name for name in _names(config) if name not in state]
    if missing_names:
        raise CheckpointError(f"{folder}: tensor {missing_names[0]!r} is missing")
    return config, state


def _ours(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def _names(config: ModelConfig) -> list[str]:
    layer = (
        "attention.wqkv",
        "attention.wo",
        "feed_forward.w1",
        "feed_forward.w3",
        "feed_forward.w2",
        "attention_norm",
        "ffn_norm",
    )
    layers = [
        f"layers.{i}.{name}.weight" for i in range(config.num_hidden_layers) for name in layer
    ]
    return ["tok_embeddings.weight", *layers, "norm.weight", "output.weight"]
