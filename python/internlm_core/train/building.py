"""A run's model: new, from a checkpoint, or from where the run stands, for one rank or many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from internlm_core.model import InternLM2, ModelConfig, load
from internlm_core.model.naming import is_llama
from internlm_core.model.runs import model_folder
from internlm_core.train import checkpoint
from internlm_core.train.lora import add_lora, initial_adapter
from internlm_core.train.parallel import fill, share_out
from internlm_core.train.setup import new_config, same_vocabulary
from internlm_core.train.tensor_files import TensorFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from internlm_core.tokenizer import Shard
    from internlm_core.train.config import TrainConfig
    from internlm_core.train.layout import Layout
    from internlm_core.train.ranks import Ranks

    Value = Callable[[str, tuple[slice, ...]], Tensor]

__all__ = ["build", "config_of", "dtype_of"]


def dtype_of(config: TrainConfig) -> torch.dtype:
    """Type of the forward and backward pass."""
    return torch.float32 if config.dtype == "fp32" else torch.bfloat16


def config_of(
    config: TrainConfig,
    sources: dict[str, list[Shard]],
    tokenizer: Path | None,
    found: Path | None,
) -> ModelConfig:
    """The architecture of a run's model.

    Args:
        config: The run.
        sources: Its shards.
        tokenizer: `tokenizer.json`, whose `<s>` and `</s>` become a new model's first and end ids.
        found: The checkpoint to go on from, if any.

    Raises:
        ConfigError: `model` is incomplete or contradictory.
        TrainError: It has fewer vocabulary entries than the shards' tokenizer, or another tokenizer.
    """
    if found is not None:
        return ModelConfig.from_folder(found)
    if config.init_from is None:
        return new_config(config, sources, tokenizer)
    base = model_folder(config.init_from)
    same_vocabulary(sources, base)
    return ModelConfig.from_folder(base)


def build(
    config: TrainConfig, ranks: Ranks, model_config: ModelConfig, found: Path | None
) -> tuple[InternLM2, Layout | None]:
    """The model as it is before the next step.

    Args:
        config: The run.
        ranks: Who shares it.
        model_config: As `config_of` gives it.
        found: The checkpoint to go on from, if any.

    Returns:
        The model, in training mode, and which part of it is here (None: all).

    Raises:
        CheckpointError: A checkpoint can't be read.
    """
    torch.manual_seed(config.seed)
    folder = found
    if found is None and config.init_from is not None:
        folder = model_folder(config.init_from)
    layout = None
    dtype = dtype_of(config)
    if ranks.world == 1:
        if folder is None:
            model = InternLM2(model_config, seed=config.seed)
            model.to(device=config.device, dtype=dtype)
        else:
            # A run's own checkpoint has been compared with its hashes.
            model = load(folder, dtype=dtype, device=config.device, verify=found is None)
    else:
        with torch.device("meta"):
            model = InternLM2(model_config, seed=None)
    if config.lora is not None:
        add_lora(model, config.lora)
    if ranks.world > 1:
        layout = share_out(model, ranks, dtype, keep_gathered=config.parallel.keep_gathered)
        assert layout is not None
        values = _drawn(model, config.seed) if folder is None else _stored(model, folder, found)
        fill(model, layout, ranks.device, _rounded(values, dtype, found is not None))
    elif found is not None and config.lora is not None:
        _restore_frozen(model, found)
    model.activation_checkpointing = config.activation_checkpointing
    model.train()
    return model, layout


def _rounded(values: Value, dtype: torch.dtype, as_they_are: bool) -> Value:
    """Masters start from the weights the model computes with, as with a single process."""
    return values if as_they_are else lambda name, bounds: values(name, bounds).to(dtype).float()


def _drawn(model: InternLM2, seed: int) -> Value:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    return lambda name, bounds: model.initial(name, shapes[name], generator)[bounds]


def _stored(model: InternLM2, folder: Path, found: Path | None) -> Value:
    """Values from a checkpoint: its masters where it is this run's own, else its weights."""
    state = None if found is None else checkpoint.tensors_of(found)
    files = TensorFiles(folder, sorted(folder.glob("model*.safetensors")))
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    whole: dict[str, Tensor] = {}
    if is_llama(files):
        whole = {n: p.detach() for n, p in load(folder, dtype=torch.float32).named_parameters()}

    def value(name: str, bounds: tuple[slice, ...]) -> Tensor:
        for kind in ("master", "frozen"):
            if state is not None and f"{kind}.{name}" in state:
                return state.read(f"{kind}.{name}", bounds)
        if name.endswith((".lora_a", ".lora_b")):
            return initial_adapter(name, shapes[name])[bounds]
        if whole:
            return whole[name][bounds]
        return files.read(name if name == "output.weight" else f"model.{name}", bounds)

    return value


@torch.no_grad()
def _restore_frozen(model: InternLM2, found: Path) -> None:
    """The weights under the adapters as they were; the checkpoint's own are merged."""
    state = checkpoint.tensors_of(found)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            parameter.copy_(state.read(f"frozen.{name}"))
