"""Checkpoints of InternEvo, the framework that InternLM2 was trained with, as our models.

A folder holds `model_config.pt` and a file `model_tp{i}_pp{j}.pt` for each rank. They are pickles:
only tensors and plain values are read from them (`weights_only`), never code.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from internlm_core._config import load_config
from internlm_core.errors import CheckpointError, ConfigError, ModelError
from internlm_core.model.checkpoint import assemble
from internlm_core.model.config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from internlm_core.model.config import RopeScaling
    from internlm_core.model.modules import InternLM2

__all__ = ["load_internevo"]

SETTINGS = "model_config.pt"
_FILE = re.compile(r"model_tp(\d+)(?:_wp(\d+))?_pp(\d+)\.pt")
# Each decides what the numbers mean; InternEvo's defaults for them have changed over time.
_REQUIRED = (
    "num_layers",
    "hidden_size",
    "vocab_size",
    "num_attention_heads",
    "num_kv_attention_heads",
    "layer_norm_epsilon",
    "no_bias",
    "rope_base",
    "adapt_hf",
    "norm_head",
    "embed_split_hidden",
)
# Axis along which tensor parallelism cut each matrix; norms are whole on every rank.
_AXES = {
    "attention.wqkv.weight": 0,
    "attention.wo.weight": 1,
    "feed_forward.w1.weight": 0,
    "feed_forward.w3.weight": 0,
    "feed_forward.w2.weight": 1,
    "output.weight": 0,
}


def load_internevo(
    folder: str | Path,
    *,
    max_position_embeddings: int,
    rope_scaling: RopeScaling | None = None,
    settings: Mapping[str, Any] | None = None,
    keep_norm_head: bool = False,
    dtype: str | torch.dtype | None = None,
) -> InternLM2:
    """Join the ranks' files of an InternEvo checkpoint into a model.

    Rows of q and k that were trained with neighbouring numbers as RoPE's pairs (`adapt_hf=False`,
    as the 7B model) are brought into the order of half-rotation.

    Args:
        folder: Holds `model_tp0_pp0.pt` and so on.
        max_position_embeddings: Length the model was trained to; InternEvo does not store it.
        rope_scaling: As the model is to be used.
        settings: Keys that replace those of `model_config.pt`, or are missing there.
        keep_norm_head: Where the head was trained with normalised rows: True keeps the raw rows and
            normalises at each use, for further training; False bakes them in, as published.
        dtype: Type of the weights; as stored when None.

    Raises:
        CheckpointError: Files are missing, cut, hold more than tensors, or don't fit the settings.
        ModelError: Settings are missing or not supported; all are named.
    """
    folder = Path(folder)
    given = _settings(folder, dict(settings or {}))
    state = _join(folder, given)
    if given["norm_head"] and not keep_norm_head:
        state["output.weight"] = functional.normalize(state["output.weight"].float(), dim=1).to(
            state["output.weight"].dtype
        )
    stored = str(state["output.weight"].dtype).removeprefix("torch.")
    values = {
        "vocab_size": given["vocab_size"],
        "hidden_size": given["hidden_size"],
        "num_hidden_layers": given["num_layers"],
        "num_attention_heads": given["num_attention_heads"],
        "num_key_value_heads": given["num_kv_attention_heads"],
        "intermediate_size": state["layers.0.feed_forward.w1.weight"].shape[0],
        "max_position_embeddings": max_position_embeddings,
        "rope_theta": given["rope_base"],
        "rope_scaling": None if rope_scaling is None else rope_scaling.model_dump(),
        "rms_norm_eps": given["layer_norm_epsilon"],
        "norm_head": bool(given["norm_head"] and keep_norm_head),
        "dtype": stored if dtype is None else str(dtype).removeprefix("torch."),
    }
    try:
        config = load_config(ModelConfig, values)
    except ConfigError as error:
        raise ModelError(f"{folder}: {str(error).removeprefix('configuration: ')}") from None
    if not given["adapt_hf"]:
        _to_half_rotation(config, state)
    wanted: torch.dtype = getattr(torch, config.dtype)
    return assemble(folder, config, {name: x.to(wanted) for name, x in state.items()})


def _settings(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    path = folder / SETTINGS
    if path.is_file():
        stored = _unpickle(path)
        if not isinstance(stored, dict):
            raise CheckpointError(f"{path}: expected a mapping of settings")
        given = {**stored, **given}
    missing = [key for key in _REQUIRED if given.get(key) is None]
    if missing:
        raise ModelError(
            f"{path}: missing {', '.join(missing)}; pass settings={{…}} with the values the model was"
            " trained with (they are never guessed)"
        )
    if not given["no_bias"]:
        raise ModelError(f"{path}: no_bias=False is not supported")
    return given


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: holds more than tensors and plain values, so it is not read: a pickle can run"
            f" code ({reason})"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path}: cut or not a checkpoint: {error}") from None


def _ranks(folder: Path) -> tuple[int, int]:
    """Ranks of tensor and of pipeline parallelism."""
    found = {}
    for path in folder.glob("model_tp*.pt"):
        if match := _FILE.fullmatch(path.name):
            if match[2] is not None and int(match[2]) > 0:
                raise CheckpointError(
                    f"{path}: weight-parallel shards are not supported; save from InternEvo with a"
                    " weight-parallel size of 1"
                )
            found[int(match[1]), int(match[3])] = path
    if not found:
        raise CheckpointError(f"{folder}: no model_tp0_pp0.pt; is this an InternEvo checkpoint?")
    tensor, pipeline = (max(rank[axis] for rank in found) + 1 for axis in (0, 1))
    missing = [
        f"model_tp{i}_pp{j}.pt"
        for i in range(tensor)
        for j in range(pipeline)
        if (i, j) not in found
    ]
    if missing:
        raise CheckpointError(f"{folder}: missing {', '.join(missing)}")
    return tensor, pipeline


def _file(folder: Path, tensor: int, pipeline: int) -> Path:
    path = folder / f"model_tp{tensor}_pp{pipeline}.pt"
    return path if path.is_file() else folder / f"model_tp{tensor}_wp0_pp{pipeline}.pt"


def _join(folder: Path, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    tensor, pipeline = _ranks(folder)
    axes = _AXES | {"tok_embeddings.weight": 1 if settings["embed_split_hidden"] else 0}
    state: dict[str, Tensor] = {}
    layers = 0
    for stage in range(pipeline):
        ranks = [_renamed(_unpickle(_file(folder, rank, stage)), layers) for rank in range(tensor)]
        for name, first in ranks[0].items():
            axis = axes.get(re.sub(r"^layers\.\d+\.", "", name))
            if axis is None or tensor == 1:
                state[name] = first
                continue
            try:
                state[name] = torch.cat([rank[name] for rank in ranks], dim=axis)
            except (KeyError, RuntimeError):
                raise CheckpointError(
                    f"{folder}: the ranks of stage {stage} don't fit together at {name!r}"
                ) from None
        layers = 1 + max(
            (int(name.split(".")[1]) for name in state if name.startswith("layers.")), default=-1
        )
    for name in ("output.weight", "layers.0.feed_forward.w1.weight"):
        if name not in state:
            raise CheckpointError(f"{folder}: no tensor {name!r} in its files")
    return state


def _renamed(state: Any, layers: int) -> dict[str, Tensor]:
    """Our names; a later stage counts its layers from 0, `layers` of the model are before it."""
    if not isinstance(state, dict):
        raise CheckpointError("an InternEvo file holds no state dict")
    renamed = {}
    for name, value in state.items():
        if name.endswith(".inv_freq"):  # made anew from the base
            continue
        short = name.removeprefix("model.").replace("word_embeddings.", "")
        if match := re.match(r"layers\.(\d+)\.", short):
            short = f"layers.{int(match[1]) + layers}.{short[match.end() :]}"
        renamed[short] = value
    return renamed


def _to_half_rotation(config: ModelConfig, state: dict[str, Tensor]) -> None:
    """Rows of q and k from pairs (2i, 2i + 1) to pairs (i, i + W/2), within each head."""
    width, heads = config.head_width, config.group_size + 2
    order = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
    for layer in range(config.num_hidden_layers):
        name = f"layers.{layer}.attention.wqkv.weight"
        if name not in state:
            continue  # named by the comparison with the model
        rows = config.num_key_value_heads * heads * width
        if state[name].shape != (rows, config.hidden_size):
            continue
        grouped = state[name].view(config.num_key_value_heads, heads, width, -1).clone()
        grouped[:, :-1] = grouped[:, :-1, order]
        state[name] = grouped.view(rows, -1)
